"""`OwnThread`: runs a subscriber's blocking calls without blocking the loop."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import anyio
import pytest

from eventbus import EventBus
from eventbus.delivery.doorbell import Waiter
from eventbus.delivery.own_thread import OwnThread
from eventbus.delivery.running_loop import current_loop

pytestmark = pytest.mark.anyio


@pytest.fixture
def thread() -> Iterator[OwnThread]:
    own = OwnThread("own")
    yield own
    own.end()


async def test_calls_are_made_in_one_daemon_thread_of_that_name(thread: OwnThread) -> None:
    """Every call runs in the same daemon thread with the given name, and its result is returned."""
    first = await thread.run(threading.current_thread)
    assert (first.name, first.daemon) == ("own", True)
    assert await thread.run(threading.current_thread) is first is not threading.current_thread()
    assert await thread.run(divmod, 7, 2) == (3, 1)


async def test_an_exception_reaches_the_caller(thread: OwnThread) -> None:
    """An exception is raised in the caller, and the thread continues."""
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 1, 0)
    with pytest.raises(SystemExit):
        await thread.run(sys.exit)
    assert await thread.run(abs, -1) == 1


async def test_cancelling_leaves_a_hung_call_alone(thread: OwnThread) -> None:
    """A caller that is cancelled stops waiting at once; later calls run after the hung one."""
    hangs, made = threading.Event(), list[int]()

    async def append() -> None:
        await thread.run(made.append, 1)

    with anyio.move_on_after(0.02) as scope:
        await thread.run(hangs.wait)
    assert scope.cancelled_caught
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        await anyio.wait_all_tasks_blocked()
        assert made == []
        hangs.set()
    assert made == [1]


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> list[Waiter]:
    """The waiters that are made during the test."""
    made: list[Waiter] = []

    def make() -> Waiter:
        made.append(Waiter())
        return made[-1]

    monkeypatch.setattr("eventbus.delivery.own_thread.Waiter", make)
    return made


async def test_calls_share_a_waiter(thread: OwnThread, waiters: list[Waiter]) -> None:
    """Calls made one after another wait on the same waiter, also if they raise."""
    for number in range(200):
        assert await thread.run(abs, -number) == number
        with pytest.raises(ZeroDivisionError):
            await thread.run(divmod, number, 0)
    assert len(waiters) == 1


async def test_a_cancelled_call_keeps_its_waiter(thread: OwnThread, waiters: list[Waiter]) -> None:
    """The end of a cancelled call does not end the wait for the next one."""
    hangs, goes_on = threading.Event(), threading.Event()
    await thread.run(abs, 1)
    with anyio.move_on_after(0.01):
        await thread.run(hangs.wait)
    threading.Timer(0.02, hangs.set).start()
    threading.Timer(0.04, goes_on.set).start()
    assert await thread.run(goes_on.wait)
    assert goes_on.is_set()
    assert await thread.run(abs, -1) == 1
    assert len(waiters) == 2


async def test_two_tasks_at_the_same_time(thread: OwnThread) -> None:
    """Two tasks that use one thread at the same time both get their results."""
    results: list[int] = []

    async def call(number: int) -> None:
        for _ in range(50):
            results.append(await thread.run(abs, number))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in (1, 2, 3):
                tasks.start_soon(call, number)
    assert sorted(results) == [1] * 50 + [2] * 50 + [3] * 50


def test_one_loop_after_another(waiters: list[Waiter]) -> None:
    """A thread may be used in one loop after another; it keeps none of them after `end`."""
    thread = OwnThread("own")

    async def call() -> weakref.ref[object]:
        assert await thread.run(abs, -1) == await thread.run(abs, 1) == 1
        return weakref.ref(current_loop())

    for backend in ("asyncio", "trio", "asyncio"):
        loop = anyio.run(call, backend=backend)
    assert len(waiters) == 3
    serving = thread._thread
    thread.end()
    assert serving is not None
    serving.join(10)  # it may not have let go of the last call yet
    waiters.clear()
    gc.collect()
    assert loop() is None


async def test_it_ends_after_its_calls_and_starts_again_on_the_next(thread: OwnThread) -> None:
    """`end` ends the thread; the next call starts a new one."""
    first = await thread.run(threading.current_thread)
    thread.end()
    first.join(5)
    assert not first.is_alive()
    assert await thread.run(threading.current_thread) is not first


async def test_without_a_thread_the_call_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the interpreter refuses to start a thread, the call runs in the caller's thread."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await OwnThread("own").run(threading.current_thread) is threading.current_thread()


async def test_idle_is_called_after_calls_and_when_it_asked_to_be() -> None:
    """The idle function runs in the thread, again after the pause it returned, then no more."""
    pauses: list[float | None] = [0.001, 0.001, None]
    done = threading.Event()

    def idle() -> float | None:
        pause = pauses.pop(0)
        if not pauses:
            done.set()
        return pause

    thread = OwnThread("own", idle=idle)
    await thread.run(abs, 1)
    assert done.wait(5)
    thread.end()


async def test_an_idle_function_that_raises_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A failing idle function is logged, and calls still run."""
    looked = threading.Event()

    def look() -> float | None:
        looked.set()
        raise ZeroDivisionError

    thread = OwnThread("own", idle=look)
    assert await thread.run(abs, -1) == 1
    assert await anyio.to_thread.run_sync(looked.wait, 5)
    assert await thread.run(abs, -1) == 1  # in the same thread, so after the line was logged
    thread.end()
    assert "ZeroDivisionError" in caplog.text


async def test_a_call_is_still_part_of_its_handler() -> None:
    """Code that a handler runs in the thread belongs to its chain of events; a close there cannot
    deadlock.
    """
    from eventbus.delivery.causality import call_here, depth_here, handling

    thread = OwnThread("own")
    bus = EventBus()
    subscription = bus.subscribe(lambda _: None)
    subscription.call = (subscription, 5)
    token = call_here.set(subscription.call)
    try:
        assert await thread.run(handling) is subscription
        assert await thread.run(depth_here) == 5
    finally:
        call_here.reset(token)
    assert await thread.run(handling) is None
    thread.end()
    bus.close()


@pytest.mark.parametrize("ends", ["hung", "idle"])
def test_it_never_keeps_the_program_from_ending(ends: str) -> None:
    """A program ends at once even if a call hangs, or the thread is idle on a loop that still runs."""
    program = f"""
import threading, anyio
from eventbus.delivery.own_thread import OwnThread
async def main():
    own = OwnThread("own")
    with anyio.move_on_after(0.05):
        await own.run(threading.Event().wait if {ends!r} == "hung" else abs, 1e6)
    if {ends!r} == "idle":
        print("ready", flush=True)
        await anyio.sleep_forever()
threading.Thread(target=anyio.run, args=(main,), daemon=True).start()
import time; time.sleep(0.3)
"""
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    assert (
        subprocess.run([sys.executable, "-c", program], timeout=10, env=environ, check=False).returncode == 0
    )
