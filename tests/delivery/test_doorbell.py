"""Waking one task from any thread, under asyncio and under trio."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from contextvars import ContextVar
from functools import partial
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from eventbus import EventBus, Overflow
from eventbus.delivery.doorbell import LINGER_SECONDS, Doorbell, Waiter
from eventbus.delivery.running_loop import Sleeper, current_loop, is_cancellation, is_under_trio, new_sleeper
from tests.vocabulary import PATIENCE_SECONDS, Tick, publish, until


class Answers:
    """Counts the answers of a doorbell and records their threads."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def __call__(self, doorbell: Doorbell) -> bool:
        """Count one answer."""
        assert doorbell.is_here()
        self.threads.append(threading.get_ident())
        return False

    def __len__(self) -> int:
        return len(self.threads)


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_a_ring_is_answered_in_the_loop() -> None:
    """A ring is answered in the loop's own thread, not in the ringing thread."""
    answers = Answers()
    doorbell = Doorbell(answers)
    await anyio.to_thread.run_sync(doorbell.ring)
    await until(lambda: answers)
    doorbell.ring()
    assert len(answers) == 1
    await until(lambda: len(answers) == 2)
    assert set(answers.threads) == {threading.get_ident()}


@pytest.mark.anyio
async def test_many_rings_make_one_answer() -> None:
    """Any number of rings before the answer cause one answer; a ring after it causes another."""
    answers = Answers()
    doorbell = Doorbell(answers)
    for _ in range(2):
        for _ in range(100):
            doorbell.ring()
        await _turns()
    assert len(answers) == 2


@pytest.mark.anyio
async def test_a_ring_while_answering() -> None:
    """A ring during an answer causes one more answer: there may be new work."""
    answers: list[int] = []

    def answer(mine: Doorbell) -> bool:
        answers.append(len(answers))
        if len(answers) < 4:
            mine.ring()
        return False

    doorbell = Doorbell(answer)
    doorbell.ring()
    await _turns(20)
    assert answers == [0, 1, 2, 3]


@pytest.mark.anyio
async def test_staying_awake() -> None:
    """A doorbell whose answer returns True is answered again on the next turn."""
    answers: list[int] = []

    def answer(_: Doorbell) -> bool:
        answers.append(len(answers))
        return len(answers) == 1

    doorbell = Doorbell(answer)
    doorbell.ring()
    await _turns(20)
    assert answers == [0, 1]


def _ring_from_a_thread(doorbell: Doorbell) -> None:
    thread = threading.Thread(target=doorbell.ring)
    thread.start()
    thread.join()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_gathering() -> None:
    """A doorbell rung by another thread looks again a millisecond later without a ring, then stops."""
    answers: list[bool] = []

    def answer(mine: Doorbell) -> bool:
        answers.append(mine.linger(has_found=False))
        return False

    doorbell = Doorbell(answer)
    for _ in range(3):
        answers.clear()
        _ring_from_a_thread(doorbell)
        await until(lambda: len(answers) == 2)
        assert answers == [True, False]
    await anyio.sleep(5 * LINGER_SECONDS)  # nothing is awaited: a third answer would come by now
    assert answers == [True, False]


@pytest.mark.anyio
async def test_gathering_goes_on_while_there_is_something_to_do() -> None:
    """While each look finds work, the next follows a millisecond later without a ring; trio has no timers."""
    finds = [True, False, True, True, True, False]
    answers: list[bool] = []

    def answer(mine: Doorbell) -> bool:
        has_found = finds[len(answers)]
        answers.append(mine.linger(has_found=has_found))
        return has_found and not answers[-1]

    doorbell = Doorbell(answer)
    _ring_from_a_thread(doorbell)
    # What was found after the ring has the next look on the next turn, what was found later does not.
    expected = [False, False] if is_under_trio() else [False, True, True, True, True, False]
    await until(lambda: len(answers) == len(expected))
    await anyio.sleep(5 * LINGER_SECONDS)  # nothing is awaited: a further answer would come by now
    assert answers == expected


@pytest.mark.anyio
async def test_a_task_woken_while_gathering_brings_no_look_before_its_time() -> None:
    """A look that woke a task is followed by the one a millisecond later, not by one on the next turn."""
    answers: list[bool] = []
    sleeper = new_sleeper()

    def answer(mine: Doorbell) -> bool:
        mine.wake(sleeper)
        answers.append(mine.linger(has_found=len(answers) == 1))  # only after a linger is that a reason to
        return False

    doorbell = Doorbell(answer)
    _ring_from_a_thread(doorbell)
    await until(lambda: len(answers) >= 2)
    assert answers[:2] == [not is_under_trio()] * 2


@pytest.mark.anyio
async def test_nothing_to_gather_within_one_thread() -> None:
    """A doorbell rung in its own loop does not wait for more: a ring is cheap there."""
    answers: list[bool] = []

    def answer(mine: Doorbell) -> bool:
        answers.append(mine.linger(has_found=False))
        return False

    doorbell = Doorbell(answer)
    doorbell.ring()
    await until(lambda: answers)
    assert answers == [False]


@pytest.mark.anyio
async def test_where_it_is() -> None:
    """A doorbell is here in the thread of its loop only."""
    doorbell = Doorbell(Answers())
    assert doorbell.is_here()
    assert not await anyio.to_thread.run_sync(doorbell.is_here)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_ring_after_the_loop_has_ended(backend: str) -> None:
    """A ring for a loop that has ended is not answered, and raises nothing."""
    answers = Answers()

    async def make() -> tuple[Doorbell, Sleeper]:
        return Doorbell(answers), new_sleeper()

    doorbell, sleeper = anyio.run(make, backend=backend)
    doorbell.ring()
    doorbell.wake(sleeper)
    assert not answers


@pytest.mark.anyio
async def test_rings_from_many_threads() -> None:
    """The last of any number of rings from several threads is followed by an answer."""
    said: list[int] = []
    heard = 0

    def answer(_: Doorbell) -> bool:
        nonlocal heard
        heard = len(said)
        return False

    def ring() -> None:
        for number in range(2_000):
            said.append(number)
            doorbell.ring()

    doorbell = Doorbell(answer)
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(anyio.to_thread.run_sync, ring)
    await until(lambda: heard == 8_000)


@pytest.mark.anyio
async def test_a_sleeper_is_woken() -> None:
    """A sleeper is woken by a ring for it, from its own thread or from another."""
    sleeper = new_sleeper()
    doorbell = Doorbell(Answers())
    woken: list[int] = []

    async def sleep() -> None:
        for number in range(2):
            await sleeper.sleep()
            woken.append(number)

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep)
            await anyio.wait_all_tasks_blocked()
            assert woken == []
            doorbell.wake(sleeper)
            await anyio.wait_all_tasks_blocked()
            assert woken == [0]
            await anyio.to_thread.run_sync(doorbell.wake, sleeper)
    assert woken == [0, 1]


@pytest.mark.anyio
async def test_a_wake_up_without_a_sleeper() -> None:
    """A wake-up without a sleeping task is forgotten: the next sleep waits for the next wake-up."""
    sleeper = new_sleeper()
    sleeper.wake()
    with anyio.move_on_after(0.01) as scope:
        await sleeper.sleep()
    assert scope.cancelled_caught
    sleeper.wake()  # the sleep was cancelled
    sleeper.wake()


@pytest.mark.anyio
async def test_woken_and_cancelled_in_one_turn() -> None:
    """A sleeper that is woken and cancelled in the same turn ends in either order, and may sleep again."""
    for first_woken in (True, False):
        sleeper = new_sleeper()
        scope = anyio.CancelScope()

        async def sleep(sleeper: Sleeper = sleeper, scope: anyio.CancelScope = scope) -> None:
            with scope:
                await sleeper.sleep()

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sleep)
                await anyio.wait_all_tasks_blocked()
                for step in (sleeper.wake, scope.cancel) if first_woken else (scope.cancel, sleeper.wake):
                    step()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(sleep, scope=anyio.CancelScope()))
                await anyio.wait_all_tasks_blocked()
                sleeper.wake()


@pytest.mark.anyio
async def test_a_waiter_is_notified_once_and_for_all() -> None:
    """A waiter waits until it is notified, from any thread; after that it never waits."""
    waiter = Waiter()
    done: list[bool] = []

    async def wait() -> None:
        await waiter.wait()
        done.append(True)

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not done
            await anyio.to_thread.run_sync(waiter.notify)
        await waiter.wait()
        waiter.notify()
        await waiter.wait()


@pytest.mark.anyio
async def test_notified_before_it_waits() -> None:
    """A waiter that is notified before it waits does not wait."""
    waiter = Waiter()
    waiter.notify()
    with anyio.fail_after(PATIENCE_SECONDS):
        await waiter.wait()


@pytest.mark.anyio
async def test_answers_run_in_an_empty_context(anyio_backend: str) -> None:
    """A woken task does not run in the context of the ringing thread."""
    variable: ContextVar[str] = ContextVar("variable", default="the default")
    seen: list[str] = []
    doorbell = Doorbell(lambda _: bool(seen.append(variable.get())))  # type: ignore[func-returns-value]
    variable.set("the publisher's")
    doorbell.ring()
    await until(lambda: seen)
    assert seen == ["the default"]


@pytest.mark.anyio
async def test_which_loop() -> None:
    """Two calls in one loop return the same loop; a call in another loop returns another."""
    here = current_loop()
    assert current_loop() is here

    async def elsewhere() -> object:
        return current_loop()

    for backend in ("asyncio", "trio"):
        run = partial(anyio.run, elsewhere, backend=backend)
        assert await anyio.to_thread.run_sync(run) is not here


def test_no_loop() -> None:
    """Outside a loop there is no current loop."""
    with pytest.raises(RuntimeError):
        current_loop()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
@pytest.mark.anyio
async def test_rung_in_a_signal_handler_while_the_loop_sleeps() -> None:
    """A ring in a signal handler wakes a sleeping loop that has nothing else to wake it."""
    answers = Answers()
    waiter = Waiter()

    def answer(mine: Doorbell) -> bool:
        answers(mine)
        waiter.notify()
        return False

    doorbell = Doorbell(answer)

    def ring(number: int, frame: object) -> None:
        doorbell.ring()

    before = signal.signal(signal.SIGUSR1, ring)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            await waiter.wait()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(answers) == 1


def test_is_cancellation() -> None:
    """The cancellations of both loops are recognised, whichever runs, and no other exception is."""
    assert is_cancellation(asyncio.CancelledError())
    for error in (
        ValueError(),
        KeyboardInterrupt(),
        GeneratorExit(),
        BaseExceptionGroup("x", [ValueError()]),
    ):
        assert not is_cancellation(error)


def test_cancellation_of_trio() -> None:
    """Trio's own cancellation is recognised."""
    known: list[bool] = []

    async def be_cancelled() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except BaseException as error:
                known.append(is_cancellation(error))
                raise

    trio.run(be_cancelled)
    assert known == [True]


def test_trio_is_not_imported() -> None:
    """A program that uses asyncio never imports trio."""
    script = (
        "import anyio, sys\n"
        "from eventbus import EventBus, Event\n"
        "async def main():\n"
        "    async with EventBus([lambda event: None]) as bus:\n"
        "        bus.publish(Event())\n"
        "        await bus.drain()\n"
        "anyio.run(main)\n"
        "assert 'trio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# Other people's modules.


def _older(lowlevel: ModuleType) -> SimpleNamespace:
    """Return a module as an older version of it is: without `in_trio_task`."""
    return SimpleNamespace(
        **{name: value for name, value in vars(lowlevel).items() if name != "in_trio_task"}
    )


_older_trio = _older(trio.lowlevel)
_half_imported = ModuleType("trio")


@pytest.mark.parametrize(
    ("module", "lowlevel"),
    [
        (None, None),
        (_half_imported, None),
        (_half_imported, ModuleType("trio.lowlevel")),
        (MagicMock(), None),
        (SimpleNamespace(lowlevel=_older_trio), _older_trio),
    ],
    ids=["barred", "just begun", "half imported", "a mock", "older"],
)
def test_whatever_trio_is_imported(module: object, lowlevel: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """`publish` accepts, and subscribers get the event, with any trio imported, half of one, or none."""
    monkeypatch.setitem(sys.modules, "trio", module)
    monkeypatch.setitem(sys.modules, "trio.lowlevel", lowlevel)
    got: list[int] = []
    with EventBus() as bus:
        bus.subscribe(lambda event: got.append(event.n), Tick, overflow=Overflow.WAIT, capacity=1)
        publish(bus, 1)
        for n in range(2, 50):  # some of them wait for room
            assert anyio.run(bus.publish_wait, Tick(n=n))
    assert got == list(range(1, 50))


@pytest.mark.anyio
async def test_an_older_trio_runs_subscribers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trio that has no `in_trio_task` runs a bus and reads its streams."""
    monkeypatch.setattr(trio, "lowlevel", _older_trio)
    monkeypatch.setitem(sys.modules, "trio.lowlevel", _older_trio)
    got: list[object] = []
    async with EventBus([got.append]) as bus, bus.stream(Tick) as ticks:
        publish(bus, 1)
        assert (await ticks.receive()).n == 1
    assert len(got) == 1


@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize("module", [None, ModuleType("half imported"), MagicMock()])
def test_a_cancellation_of_a_module_that_is_not_there(
    name: str, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception is no cancellation of a module that is half imported, or only looks like it."""
    monkeypatch.setitem(sys.modules, name, module)
    assert not is_cancellation(ValueError())
