"""The interpreter's switch interval, short while events wait for a loop of another thread."""

from __future__ import annotations

import _thread
import asyncio
import os
import sys
import threading
from collections.abc import Callable, Generator
from functools import partial
from operator import eq

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from eventbus import Event, EventBus
from eventbus.delivery import switch_interval
from eventbus.delivery.doorbell import Doorbell
from eventbus.delivery.running_loop import new_sleeper
from eventbus.delivery.switch_interval import SWITCH_INTERVAL_SECONDS, restore, shorten
from tests.vocabulary import PATIENCE_SECONDS, run_in_threads

NORMAL, SHORT, SHORTER, OTHER = 0.004, 0.000_1, 0.000_02, 0.002


class Ticked(Event):
    """A clock ticked."""


@pytest.fixture(autouse=True)
def normal() -> Generator[None]:
    """Each test begins with an interval of its own."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(NORMAL)
    yield
    sys.setswitchinterval(before)


def runs() -> bool:
    return True


def _interval() -> float:
    return round(sys.getswitchinterval(), 6)


def _wait_until_it_is(seconds: float) -> None:
    _wait_until(lambda: _interval() == seconds)


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = threading.Event()
    timer = threading.Timer(PATIENCE_SECONDS, deadline.set)
    timer.start()
    while not is_so() and not deadline.is_set():
        pass
    timer.cancel()
    timer.join()
    assert is_so()


def test_short_while_any_loop_waits() -> None:
    """The interval is short while any loop waits, and restored when none does."""
    first, second = object(), object()
    shorten(first, SHORT, runs)
    shorten(second, SHORT, runs)
    restore(first)
    assert _interval() == SHORT
    restore(second)
    assert _interval() == NORMAL


def test_the_shortest_wins() -> None:
    """Of two intervals the shorter applies, in either order; then the normal one is restored."""
    for first, second in ((SHORT, SHORTER), (SHORTER, SHORT)):
        shorten("first", first, runs)
        shorten("second", second, runs)
        assert _interval() == SHORTER
        restore("first")
        restore("second")
        assert _interval() == NORMAL


def test_for_one_twice() -> None:
    """Shortening twice for the same owner is undone once; undoing it again changes nothing."""
    shorten("one", SHORT, runs)
    shorten("one", SHORT, runs)
    restore("one")
    assert _interval() == NORMAL
    sys.setswitchinterval(OTHER)
    restore("one")
    assert _interval() == OTHER


def test_an_interval_set_by_the_program_is_kept() -> None:
    """An interval that the program sets in the meantime is kept."""
    shorten("one", SHORT, runs)
    sys.setswitchinterval(OTHER)
    restore("one")
    assert _interval() == OTHER


def test_an_interval_as_short_is_kept() -> None:
    """An interval that is as short, or shorter, is left alone."""
    for found in (SHORT, SHORTER):
        sys.setswitchinterval(found)
        shorten("one", SHORT, runs)
        assert _interval() == found
        restore("one")
        assert _interval() == found


def test_from_many_threads() -> None:
    """In any interleaving of shortening and restoring, the interval is restored at the end."""
    started = threading.Barrier(4)

    def work(who: int) -> None:
        started.wait()
        for _ in range(2_000):
            shorten(who, SHORT if who % 2 else SHORTER, runs)
            restore(who)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _interval() == NORMAL


def test_short_while_events_wait_for_another_thread() -> None:
    """While events wait for a loop of another thread the interval is 10 us; then it is restored."""
    handling, published = threading.Event(), threading.Event()
    seen: list[float] = []

    def note(_: Ticked) -> None:
        handling.set()
        published.wait(PATIENCE_SECONDS)
        seen.append(_interval())

    with EventBus([note]) as bus:
        _wait_until_it_is(NORMAL)
        bus.publish(Ticked())
        assert handling.wait(PATIENCE_SECONDS)
        for _ in range(600):  # more than a task handles in one turn of its loop
            bus.publish(Ticked())
        assert _interval() == SWITCH_INTERVAL_SECONDS
        published.set()
        _wait_until_it_is(NORMAL)
        assert seen == [SWITCH_INTERVAL_SECONDS] * 601


@pytest.mark.anyio
async def test_put_back_while_a_handler_waits() -> None:
    """While a handler waits for something else, the interval is unchanged, however many events are queued."""
    waiting = threading.Event()

    async def wait(_: Ticked) -> None:
        waiting.set()
        await anyio.sleep_forever()

    bus = EventBus([wait])
    with bus:
        for _ in range(600):
            bus.publish(Ticked())
        assert await anyio.to_thread.run_sync(waiting.wait, PATIENCE_SECONDS)
        await anyio.to_thread.run_sync(_wait_until_it_is, NORMAL)
        bus.close(timeout=0)


def test_turned_off() -> None:
    """`EventBus(switch_interval=None)` leaves the interval alone; a number replaces the 10 us."""
    for asked, expected in ((None, NORMAL), (SHORT, SHORT)):
        seen: list[float] = []

        def note(_: Ticked, seen: list[float] = seen) -> None:
            seen.append(_interval())

        with EventBus([note], switch_interval=asked) as bus:
            bus.publish(Ticked())
        assert seen == [expected]
        assert _interval() == NORMAL


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_an_interval_that_is_not_positive(seconds: float) -> None:
    """An interval that is not positive is refused, and the message names the remedy."""
    with pytest.raises(ValueError, match="Pass None to leave it alone"):
        EventBus(switch_interval=seconds)


@pytest.mark.anyio
async def test_left_alone_within_one_thread() -> None:
    """Events published in the thread of the loop that handles them do not change the interval."""
    seen: list[float] = []
    async with EventBus([lambda _: seen.append(_interval())]) as bus:
        bus.publish(Ticked())
        await bus.drain()
    assert seen == [NORMAL]


@pytest.mark.anyio
async def test_short_for_a_reader_in_another_loop() -> None:
    """The interval is short for a stream read in a loop of another thread, as for a handler."""
    seen: list[float] = []
    async with EventBus() as bus, bus.stream(Ticked) as stream:
        await anyio.to_thread.run_sync(bus.publish, Ticked())
        await stream.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, bus.publish, Ticked())
            await stream.receive()
            seen.append(_interval())
    assert seen == [SWITCH_INTERVAL_SECONDS]
    assert _interval() == NORMAL


@pytest.mark.anyio
async def test_short_until_a_woken_task_has_run() -> None:
    """The interval is short until a woken task has run, in any order in which the loop runs what is due."""
    sleeper, bell = new_sleeper(), Doorbell(lambda _: False, SHORT)
    seen: list[float] = []

    async def sleep() -> None:
        await sleeper.sleep()
        seen.append(_interval())

    for _ in range(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(bell.wake, sleeper)
    assert seen == [SHORT] * 30


@pytest.mark.anyio
async def test_a_retired_doorbell() -> None:
    """A retired doorbell restores the interval, and ringing it again does not shorten it."""
    bell = Doorbell(lambda _: False, SHORT)
    _ring_from_a_thread(bell)
    assert _interval() == SHORT
    bell.close()
    assert _interval() == NORMAL
    await anyio.lowlevel.checkpoint()
    _ring_from_a_thread(bell)
    assert _interval() == NORMAL


def _ring_from_a_thread(bell: Doorbell) -> None:
    thread = threading.Thread(target=bell.ring)
    thread.start()
    thread.join()  # the loop cannot answer yet


@pytest.mark.parametrize("how", ["stopped", "closed", "ended"])
def test_a_loop_that_stops_while_events_wait_for_it(how: str) -> None:
    """When a loop stops while events wait for it, the interval is restored soon after."""
    bus = EventBus()
    stream = bus.stream(Ticked)

    async def leave_with_an_event_waiting() -> None:
        stream.open()
        with anyio.move_on_after(0):
            await stream.receive()  # from here on it is woken in this loop
        run_in_threads(lambda: bus.publish(Ticked()))
        assert _interval() == SWITCH_INTERVAL_SECONDS

    loop = asyncio.new_event_loop()
    if how == "ended":
        anyio.run(leave_with_an_event_waiting, backend="trio")
    else:
        loop.run_until_complete(leave_with_an_event_waiting())
    if how == "closed":
        loop.close()
    _wait_until_it_is(NORMAL)
    run_in_threads(lambda: bus.publish(Ticked()))
    _wait_until_it_is(NORMAL)
    assert stream.statistics().queued == 2
    if how == "stopped":
        assert isinstance(loop.run_until_complete(stream.receive()), Ticked)
    loop.close()


def _starts_of_threads(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[str]:
    """Return a list of what the threads that look at the loops do, or raise instead of starting one."""
    done: list[str] = []

    def start(look: Callable[..., None], arguments: tuple[object, ...]) -> None:
        def look_and_note() -> None:
            look(*arguments)
            done.append("ended")

        done.append("begun")
        if error is not None:
            raise error
        _thread.start_new_thread(look_and_note, ())

    monkeypatch.setattr(switch_interval, "start_new_thread", start)
    monkeypatch.setattr(switch_interval, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(switch_interval, "_watch", type(switch_interval._watch)())
    return done


def test_what_looks_at_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread looks at all loops; it ends soon after the interval is restored, and another one begins."""
    done = _starts_of_threads(monkeypatch)
    for times in (1, 2):
        for key in ("one", "another"):
            shorten(key, SHORT, lambda: False)
        _wait_until(partial(eq, done, ["begun", "ended"] * times))
        assert _interval() == NORMAL


def test_too_many_threads_to_look_at_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers do not notice that no thread can be started."""
    done = _starts_of_threads(monkeypatch, RuntimeError("can't start new thread"))
    shorten("one", SHORT, runs)
    restore("one")
    assert (_interval(), done) == (NORMAL, ["begun"])


def test_looks_at_the_loops_of_a_forked_child() -> None:
    """A forked child has a thread of its own that looks."""
    shorten("parent", SHORT, runs)
    child = os.fork()
    if not child:
        shorten("child", SHORT, lambda: False)
        _wait_until_it_is(NORMAL)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    restore("parent")
