"""Interpreter exit, and forks: each accepted event is delivered once, by the process that accepted it.

Each case is a real process that runs a small script. Its subscriber writes a line for each event, with the id
of its process.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

EVENTS = 1_000
PATIENCE_SECONDS = 60

PRELUDE = """
import os, random, signal, sys, threading, time
import anyio
from eventbus import EventBus, NodeProgress, NodeStarted, current_bus

LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def store(event: NodeProgress) -> None:
    await anyio.lowlevel.checkpoint()
    os.write(LOG, f"{os.getpid()} {event.node_id} {event.attempt}\\n".encode())

def publish_all(bus, count=1_000):
    for number in range(count):
        assert bus.publish(NodeProgress(workflow_id="exit", node_id="main", attempt=number))
"""

BUSES = {
    "never left": "bus = EventBus([store]).__enter__()\npublish_all(bus)\n{end}",
    "in a with block": "with EventBus([store]) as bus:\n    publish_all(bus)\n    {end}",
    "in a function's with block": """
        def main():
            with EventBus([store]) as bus:
                publish_all(bus)
                {end}
        main()
    """,
    "in asyncio": """
        async def main():
            async with EventBus([store]) as bus:
                publish_all(bus)
                {end}
        anyio.run(main, backend="asyncio")
    """,
    "in trio": """
        async def main():
            async with EventBus([store]) as bus:
                publish_all(bus)
                {end}
        anyio.run(main, backend="trio")
    """,
    "two": """
        first = EventBus([store]).__enter__()
        publish_all(first, 500)
        with EventBus([store]) as second:
            for number in range(500, 1_000):
                second.publish(NodeProgress(workflow_id="exit", node_id="main", attempt=number))
            {end}
    """,
    "none": "{end}",
}
ENDS = {
    "return": ("pass", 0),
    "exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('the end')", 1),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", -signal.SIGINT),
}


@dataclass(frozen=True)
class Ended:
    """The results of a process."""

    code: int
    errors: str
    seconds: float
    at: float
    lines: list[tuple[int, str, int]]


def run_script(tmp_path: Path, script: str) -> Ended:
    """Run a script to its end."""
    (tmp_path / "script.py").write_text(PRELUDE + textwrap.dedent(script))
    log = tmp_path / "log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:__main__"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, str(tmp_path / "script.py"), str(log)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    at = time.monotonic()
    words = [line.split() for line in log.read_text().splitlines()]
    lines = [(int(pid), who, int(number)) for pid, who, number in words]
    return Ended(code=done.returncode, errors=done.stderr, seconds=at - began, at=at, lines=lines)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("bus", [name for name in BUSES if name != "none"])
def test_exit(bus: str, end: str, tmp_path: Path) -> None:
    """An interpreter that exits without closing the bus drains it first; its exit code is unchanged."""
    ending, code = ENDS[end]
    if bus.startswith("in a"):
        ending = ending.replace(
            "time.sleep", "await anyio.sleep" if "async with" in BUSES[bus] else "time.sleep"
        )
    ended = run_script(tmp_path, textwrap.dedent(BUSES[bus]).format(end=ending))
    assert ended.code == code, ended.errors
    numbers = [number for _, _, number in ended.lines]
    assert (sorted(numbers) if bus == "two" else numbers) == list(range(EVENTS))
    assert bool(ended.errors) == (end in ("exception", "SIGINT"))


@pytest.mark.alone
@pytest.mark.nightly
@pytest.mark.parametrize("end", ENDS)
def test_exit_takes_no_longer(end: str, tmp_path: Path) -> None:
    """An exit takes at most 200 ms longer than without a bus, from the last statement on; best of three."""
    ending = 'os.write(LOG, f"0 ending {time.monotonic_ns()}\\n".encode()); ' + ENDS[end][0]
    took = {
        bus: min(_seconds_from_ending(run_script(tmp_path, BUSES[bus].format(end=ending))) for _ in range(3))
        for bus in ("none", "never left")
    }
    assert took["never left"] < took["none"] + 0.2


def _seconds_from_ending(ended: Ended) -> float:
    (began,) = (number for _, who, number in ended.lines if who == "ending")
    return ended.at - began / 1e9


def test_exit_while_a_thread_publishes(tmp_path: Path) -> None:
    """A daemon thread that publishes until the end neither crashes nor delays the exit.

    Every event that was accepted is delivered.
    """
    ended = run_script(
        tmp_path,
        """
        bus = EventBus([store]).__enter__()
        began = threading.Event()

        def publish_for_ever():
            number = 0
            while bus.publish(NodeProgress(workflow_id="exit", node_id="thread", attempt=number)):
                number += 1
                if number == 100:
                    began.set()
                if not number % 50:
                    time.sleep(0.001)

        threading.Thread(target=publish_for_ever, daemon=True).start()
        began.wait(10)
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    numbers = [number for _, _, number in ended.lines]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 100


def test_exit_with_handlers_that_use_threads(tmp_path: Path) -> None:
    """A handler may still run work in a thread while the interpreter exits."""
    ended = run_script(
        tmp_path,
        """
        from anyio import to_thread

        async def store_in_thread(event: NodeProgress) -> None:
            await to_thread.run_sync(os.write, LOG, f"{os.getpid()} thread {event.attempt}\\n".encode())

        bus = EventBus([store_in_thread]).__enter__()
        publish_all(bus, 20)
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    assert [number for _, _, number in ended.lines] == list(range(20))


@pytest.mark.parametrize("to_thread", ["asyncio.to_thread", "anyio.to_thread.run_sync"])
def test_exit_with_subscribers_that_use_a_loops_threads(to_thread: str, tmp_path: Path) -> None:
    """At the exit `handle` can use the threads of its loop, and `stop` those that have been used before."""
    ended = run_script(
        tmp_path,
        f"""
        import asyncio
        from eventbus import Subscriber

        def note(who, number):
            os.write(LOG, f"{{os.getpid()}} {{who}} {{number}}\\n".encode())

        class Threaded(Subscriber[NodeProgress]):
            async def handle(self, event): await {to_thread}(note, "main", event.attempt)
            async def stop(self): await {to_thread}(note, "stop", 0)

        first, second = EventBus([Threaded()]).__enter__(), EventBus([Threaded()]).__enter__()
        publish_all(first, 20)
        time.sleep(0.05)  # its threads are idle now
        publish_all(second, 20)
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    assert sorted(number for _, who, number in ended.lines if who == "main") == sorted([*range(20)] * 2)
    assert [who for _, who, _ in ended.lines].count("stop") == 2


def test_exit_while_an_ordinary_thread_publishes(tmp_path: Path) -> None:
    """What a thread that is no daemon publishes after the main thread's end is delivered, too."""
    ended = run_script(
        tmp_path,
        """
        bus = EventBus([store]).__enter__()

        def publish_later():
            threading.main_thread().join()
            publish_all(bus, 100)

        threading.Thread(target=publish_later).start()
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    assert [number for _, _, number in ended.lines] == list(range(100))


def test_exit_with_an_abandoned_skill_and_used_threads(tmp_path: Path) -> None:
    """Skills are abandoned before the close, also if that comes early because threads have been used."""
    ended = run_script(
        tmp_path,
        """
        import asyncio
        from eventbus import SkillCompleted, track_skill

        async def store_in_thread(event: NodeProgress | SkillCompleted) -> None:
            line = f"{os.getpid()} {type(event).__name__} 0\\n"
            await asyncio.to_thread(os.write, LOG, line.encode())

        bus = EventBus([store_in_thread]).__enter__()
        complete = track_skill("abandoned")
        publish_all(bus, 1)
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    assert [kind for _, kind, _ in ended.lines] == ["NodeProgress", "SkillCompleted"]


def test_publishing_in_a_function_of_atexit(tmp_path: Path) -> None:
    """Functions that the program has registered with `atexit` can publish."""
    ended = run_script(
        tmp_path,
        """
        import atexit
        bus = EventBus([store]).__enter__()
        atexit.register(publish_all, bus, 3)
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    assert [number for _, _, number in ended.lines] == [0, 1, 2]


EXITS_WITHOUT_THE_HOOK = {
    "another Python": """
        import concurrent.futures.thread
        del threading._register_atexit
        bus = EventBus([store]).__enter__()
        publish_all(bus, 3)
    """,
    "entered too late for it": """
        import atexit
        atexit.register(lambda: publish_all(EventBus([store]).__enter__(), 3))
    """,
}


@pytest.mark.parametrize("how", EXITS_WITHOUT_THE_HOOK)
def test_exit_without_the_hook_of_threading(how: str, tmp_path: Path) -> None:
    """Where the hook that comes before the end of the executors is missing, `atexit` drains the bus."""
    ended = run_script(tmp_path, EXITS_WITHOUT_THE_HOOK[how])
    assert (ended.code, ended.errors) == (0, "")
    assert [number for _, _, number in ended.lines] == [0, 1, 2]


def test_exit_with_several_hung_buses(tmp_path: Path) -> None:
    """Buses that hang at the exit take one timeout together."""
    ended = run_script(
        tmp_path,
        """
        from eventbus.delivery import interpreter_exit, lifecycle
        interpreter_exit.CLOSE_TIMEOUT_SECONDS = 0.3
        begin = lifecycle.Lifecycle.begin_close_at_exit

        def begin_at_once(self, timeout):  # the drain has taken the timeout
            assert timeout < 0.1, timeout
            begin(self, timeout)

        lifecycle.Lifecycle.begin_close_at_exit = begin_at_once

        async def hang(event: NodeProgress): await anyio.sleep_forever()

        buses = [EventBus([hang, store]).__enter__() for _ in range(5)]
        for bus in buses:
            publish_all(bus, 2)
        os.write(LOG, f"0 ending {time.monotonic_ns()}\\n".encode())
        """,
    )
    assert ended.code == 0
    assert ended.errors.count("undelivered") == 5
    assert 0.3 < ended.at - next(number for _, who, number in ended.lines if who == "ending") / 1e9 < 1.2


def test_exit_with_a_failing_handler(tmp_path: Path) -> None:
    """An exception of a handler during the exit does not change the exit, not even SystemExit."""
    ended = run_script(
        tmp_path,
        """
        def leave(event: NodeProgress) -> None:
            raise SystemExit(7)

        bus = EventBus([leave, store]).__enter__()
        publish_all(bus)
        sys.exit(3)
        """,
    )
    assert ended.code == 3
    assert [number for _, _, number in ended.lines] == list(range(EVENTS))


@pytest.mark.nightly
def test_exit_with_a_hung_handler(tmp_path: Path) -> None:
    """A handler that hangs delays the exit by at most the timeout of a close: 5 seconds."""
    ended = run_script(
        tmp_path,
        """
        async def hang(event: NodeProgress) -> None:
            await anyio.sleep_forever()

        bus = EventBus([hang, store]).__enter__()
        publish_all(bus)
        """,
    )
    assert ended.code == 0
    assert 5 < ended.seconds < 10
    assert [number for _, _, number in ended.lines] == list(range(EVENTS))
    assert "undelivered" in ended.errors


FORKS = """
    seed, forks = int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    failed = 0
    done = threading.Event()
    published = 0

    def publish_all_the_time():
        global published
        while not done.is_set():
            for _ in range(20):
                bus.publish(NodeProgress(workflow_id="fork", node_id="parent", attempt=published))
                published += 1
            time.sleep(0.000_5)

    def be_a_child():
        signal.alarm(20)
        snapshot = bus.statistics()
        assert snapshot.accepted == 0, snapshot
        assert [(each.name, each.state, each.queued) for each in snapshot.subscriptions.values()] == [
            ("store", "waiting", 0)
        ], snapshot
        assert current_bus() is None
        how = rng.randrange(4)
        number = os.getpid()
        if how == 0:
            with bus:
                assert current_bus() is bus
                bus.publish(NodeProgress(workflow_id="fork", node_id="child", attempt=number))
        elif how == 1:
            async def main():
                async with bus:
                    bus.publish(NodeProgress(workflow_id="fork", node_id="child", attempt=number))
            anyio.run(main)
        elif how == 2:
            bus.publish(NodeProgress(workflow_id="fork", node_id="queued", attempt=number))
            assert bus.close().undelivered == 1
        else:
            assert bus.close().complete

    bus = EventBus(history=100)
    bus.subscribe(store, capacity=1_000_000)  # on a busy machine the default is not enough for a fork
    with bus:
        thread = threading.Thread(target=publish_all_the_time)
        thread.start()
        for _ in range(forks):
            time.sleep(rng.random() * 0.005)
            pid = os.fork()
            if not pid:
                try:
                    be_a_child()
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            failed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
        done.set()
        thread.join()
        assert bus.statistics().accepted == published
    assert bus.report.complete
    os.write(LOG, f"{os.getpid()} total {published}\\n".encode())
    sys.exit(min(failed, 100))
"""


@pytest.mark.parametrize("forks", [40, pytest.param(500, id="nightly", marks=pytest.mark.nightly)])
def test_fork(forks: int, seed: int, tmp_path: Path) -> None:
    """A forked child has the subscriptions, but no host and no queued events; only the parent delivers the
    parent's events. The child may enter the bus again.
    """
    script = FORKS.replace("int(sys.argv[2]), int(sys.argv[3])", f"{seed}, {forks}")
    ended = run_script(tmp_path, script)
    assert ended.code == 0, ended.errors
    parent, what, total = ended.lines[-1]
    assert what == "total"
    by_parent = [number for pid, who, number in ended.lines[:-1] if who == "parent" and pid == parent]
    assert by_parent == list(range(total))
    others = [(pid, who, number) for pid, who, number in ended.lines[:-1] if who != "parent" or pid != parent]
    assert all(who == "child" and pid == number for pid, who, number in others)
    assert max(Counter(others).values()) == 1
    assert len(others) > forks / 8


FORK_AND_USE = """
    parent = os.getpid()

    def fork():
        if os.getpid() != parent:  # a handler that forks is the child's, too
            return
        pid = os.fork()
        if pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            return
        signal.alarm(20)
        try:
            bus.subscribe(store, name="child only")
            assert bus.statistics().accepted == 0
            thread = threading.Thread(target=use_in_child)
            thread.start()
            thread.join()
            assert bus.report.complete and bus.report.delivered >= 2, bus.report
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def publish(number):
        bus.publish(NodeProgress(workflow_id="fork", node_id="parent", attempt=number))

    def use_in_child():
        with bus:
            publish(1)
"""

FORKING_PLACES = {
    "a handler": """
        forked = threading.Event()

        def fork_in_handler(event: NodeProgress) -> None:
            fork()
            forked.set()

        bus = EventBus([fork_in_handler, store])
        with bus:
            publish(0)
            forked.wait(20)
    """,
    "a thread": """
        bus = EventBus([store])
        with bus:
            publish(0)
            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()
    """,
    "inside async with": """
        bus = EventBus([store])
        async def main():
            async with bus:
                publish(0)
                fork()
        anyio.run(main)
    """,
}


@pytest.mark.parametrize("where", FORKING_PLACES)
def test_fork_elsewhere(where: str, tmp_path: Path) -> None:
    """A child forked in a handler, in a thread or in a task may enter and use the bus."""
    ended = run_script(tmp_path, textwrap.dedent(FORK_AND_USE) + textwrap.dedent(FORKING_PLACES[where]))
    assert (ended.code, ended.errors) == (0, "")
    numbers = Counter(number for _, _, number in ended.lines)
    assert numbers == {0: 1, 1: 2}
    parents = {pid for pid, _, number in ended.lines if number == 0}
    children = {pid for pid, _, number in ended.lines if number == 1}
    assert not parents & children


LEAVE_IN_CHILD = """
    from eventbus import Subscriber

    class Stored(Subscriber[NodeProgress]):
        async def handle(self, event): await store(event)
        async def stop(self): os.write(LOG, f"{os.getpid()} stop 0\\n".encode())

    async def main():
        bus, child = EventBus([Stored()]), 0
        try:
            async with bus:
                if %r:
                    await bus.drain()  # the subscribers run
                publish_all(bus, 3)
                bus.statistics()  # distributes them
                child = os.fork()
                if child:
                    threading.Thread(target=publish_all, args=(bus, 5)).start()
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
                    await anyio.sleep(0.01)  # without ringing: the thread has
                    while bus.statistics().subscriptions["Stored"].delivered < 8:
                        await anyio.sleep(0.001)
                else:
                    signal.alarm(20)
                    %s
        except ValueError:
            pass
        assert bus.report.complete and bus.report.delivered == (8 if child else 0), bus.report
        if not child:
            os._exit(3)

    anyio.run(main, backend=%r)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("how", "is_running"),
    [
        ("pass", True),
        ("pass", False),
        ("raise ValueError", True),
        ("bus.close()", True),
    ],
)
def test_leaving_an_async_block_in_a_forked_child(
    how: str, is_running: bool, backend: str, tmp_path: Path
) -> None:
    """A forked child may leave the `async with` block of its parent: nothing of the parent's is handled or
    stopped there, and the parent's bus goes on.
    """
    ended = run_script(tmp_path, LEAVE_IN_CHILD % (is_running, how, backend))
    assert (ended.code, ended.errors) == (0, "")
    parent = ended.lines[-1][0]
    assert [number for pid, _, number in ended.lines if pid == parent] == [*range(3), *range(5), 0]
    assert {pid for pid, _, _ in ended.lines} == {parent}


PRELOADED = """
import os
from eventbus import EventBus, NodeProgress

def store(event: NodeProgress) -> None:
    os.write(LOG, f"{os.getpid()} {event.node_id} {event.attempt}\\n".encode())

LOG = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND)
bus = EventBus([store])
bus.__enter__()
bus.publish(NodeProgress(workflow_id="fork", node_id="preloaded", attempt=os.getpid()))

def work():
    bus.__enter__()
    bus.publish(NodeProgress(workflow_id="fork", node_id="child", attempt=os.getpid()))
"""


def test_a_bus_of_a_module_that_a_fork_server_preloads(tmp_path: Path) -> None:
    """Children of a fork server that has a running bus can enter it, and drain it before they end."""
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    ended = run_script(
        tmp_path,
        """
        if __name__ == "__main__":
            import multiprocessing
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["preloaded"])
            os.environ.update(LOG=sys.argv[1], PYTHONPATH=os.path.dirname(__file__))
            import preloaded
            for _ in range(2):
                process = context.Process(target=preloaded.work)
                process.start()
                process.join()
                assert process.exitcode == 0
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    by_kind = Counter(who for _, who, _ in ended.lines)
    assert by_kind == {"preloaded": 2, "child": 2}  # one by the main process, one by the server
    assert all(pid == number for pid, _, number in ended.lines)


def test_fork_while_draining(tmp_path: Path) -> None:
    """A child forked while the parent's bus drains has nothing to drain, and closes at once."""
    ended = run_script(
        tmp_path,
        """
        handling, go_on = threading.Event(), threading.Event()

        def wait(event: NodeProgress) -> None:
            handling.set()
            go_on.wait(20)

        bus = EventBus([wait, store]).__enter__()
        publish_all(bus, 3)
        handling.wait(20)
        closing = threading.Thread(target=bus.close)
        closing.start()
        while bus.publish(NodeStarted(workflow_id="fork", node_id="more")):
            pass  # of a class that nobody takes: on a busy machine there are enough to overflow a mailbox
        pid = os.fork()
        if not pid:
            assert bus.close().undelivered == 0
            sys.exit(3)  # by way of atexit
        began = time.monotonic()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 3, code
        assert time.monotonic() - began < 2
        go_on.set()
        closing.join()
        """,
    )
    assert (ended.code, ended.errors) == (0, "")
    assert [number for _, who, number in ended.lines if who == "main"] == [0, 1, 2]
