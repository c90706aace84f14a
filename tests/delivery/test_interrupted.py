"""Exceptions and signal handlers that strike a thread anywhere in the bus's code."""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import eventbus
from eventbus import Event, EventBus, EventsLost, EventStream, Overflow
from eventbus.delivery import doorbell, event_queue, switch_interval
from eventbus.delivery.wake_ups import MAX_PENDING
from tests.vocabulary import PATIENCE_SECONDS, Tick, Tock, Word, ignore, number, opened, read, words

SOURCES = str(Path(eventbus.__file__).parent)


class Struck(BaseException):
    """Strikes like a KeyboardInterrupt, or the exception of a soft time limit."""


class Strike:
    """Calls a function at the k-th line, call or return in eventbus's code, in this thread."""

    def __init__(self, k: int, function: Callable[[], object], sources: tuple[str, ...] = (SOURCES,)) -> None:
        self._left = k
        self._function = function
        self._sources = sources

    @property
    def has_struck(self) -> bool:
        """Whether the function has been called."""
        return self._left < 0

    def __call__(self, frame: Any, what: str, argument: object) -> Any:
        """Trace; see `sys.settrace`."""
        # What is raised while a generator is closed early comes out of it as a warning.
        if not frame.f_code.co_filename.startswith(self._sources) or frame.f_code.co_name == "<genexpr>":
            return None
        if what in ("call", "line", "return"):
            self._left -= 1
            if self._left == -1:
                self._function()
        return self

    def during(self, work: Callable[[], object]) -> None:
        """Call `work`, and strike in it."""
        tracer = sys.gettrace()
        sys.settrace(self)
        try:
            work()
        except Struck:
            pass
        finally:
            sys.settrace(tracer)


def strike() -> None:
    raise Struck


OPERATIONS: dict[str, Callable[[EventBus, EventStream[Any]], object]] = {
    "publish": lambda bus, _: bus.publish(Tick(n=500)),
    "publish without a subscription": lambda bus, _: bus.publish(Tock(n=500)),
    "publish the one too many": lambda bus, _: bus.publish(Tick(n=500)),
    "publish and wait": lambda bus, _: anyio.run(bus.publish_wait, Tick(n=500)),
    "statistics": lambda bus, _: bus.statistics(),
    "subscribe": lambda bus, _: bus.subscribe(ignore, Event, name="another", replay=3),
    "unsubscribe": lambda bus, stream: stream.close(),
    "tap": lambda bus, _: bus.tap(Tick),
    "close": lambda bus, _: bus.close(),
}


def _prepared(what: str, overflow: Overflow) -> tuple[EventBus, EventStream[Any], EventStream[Any]]:
    bus = EventBus()
    options: dict[str, Any] = {"key": number} if overflow is Overflow.COALESCE else {}
    small = opened(bus, (Tick, EventsLost), capacity=2, overflow=overflow, name="small", **options)
    large = opened(bus, Event, capacity=1_000, name="large")
    for n in range(1, MAX_PENDING + 1 if what == "publish the one too many" else 5):
        bus.publish(Tick(n=n))
    return bus, small, large


@pytest.mark.parametrize(
    "stride", [pytest.param(3, id="quick"), pytest.param(1, id="nightly", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST, Overflow.COALESCE])
@pytest.mark.parametrize("what", OPERATIONS)
def test_an_exception_at_any_moment(what: str, overflow: Overflow, stride: int) -> None:
    """An exception that strikes an operation of the bus anywhere loses no accepted event, doubles none, and
    leaves the bus working.
    """
    is_long = what == "publish the one too many" and overflow is Overflow.COALESCE
    k = 0
    for k in itertools.count(0, stride * (101 if is_long else 1)):
        bus, small, large = _prepared(what, overflow)
        it = Strike(k, strike)
        it.during(partial(OPERATIONS[what], bus, small))
        if not it.has_struck:
            break
        _check_after_strike(what, bus, small, large)
    assert k >= 4


def _check_after_strike(what: str, bus: EventBus, small: EventStream[Any], large: EventStream[Any]) -> None:
    if what == "unsubscribe":
        small.close()
        assert "small" not in bus.statistics().subscriptions
    is_open = bus.publish(Tick(n=999))
    got = [number(event) for event in read(large)]
    before = list(range(1, MAX_PENDING + 1 if what == "publish the one too many" else 5))
    after = [999] if is_open else []
    assert got in ([*before, *after], [*before, 500, *after])
    statistics = bus.statistics()
    assert statistics.accepted == len(got)
    for snapshot in statistics.subscriptions.values():
        assert snapshot.accepted == snapshot.delivered + snapshot.lost + snapshot.queued
    if what != "unsubscribe":
        ticks = [n for n in got if n != 500 or what != "publish without a subscription"]
        _check_losses(words(read(small)), ticks, statistics.subscriptions["small"].lost)
    if what != "close":
        assert [number(event) for event in read(opened(bus, Event, replay=1_000))] == got
    if what == "subscribe" and "another" in statistics.subscriptions:
        assert statistics.subscriptions["another"].queued == min(4, 3 + len(after))
    if what == "close":
        assert bus.close().complete
        assert not bus.publish(Tick())


def _check_losses(read_words: list[Word], got: list[int], lost: int) -> None:
    """Check that each event that was accepted has been read, or is in one of the reported gaps."""
    kept = [word for word in read_words if isinstance(word, int)]
    gaps = [word for word in read_words if isinstance(word, tuple)]
    assert kept == [n for n in got if n in set(kept)]
    assert sum(count for count, _, _ in gaps) == len(got) - len(kept)
    assert lost == len(got) - len(kept)


HOSTED: dict[str, Callable[[EventBus], object]] = {
    "publish": lambda bus: bus.publish(Tick(n=500)),
    "publish many": lambda bus: [bus.publish(Tick(n=500)) for _ in range(2)],
    "statistics": lambda bus: bus.statistics(),
    "subscribe": lambda bus: bus.subscribe(ignore, Event, replay=3),
}


@pytest.mark.parametrize(
    "stride", [pytest.param(5, id="quick"), pytest.param(1, id="nightly", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("what", HOSTED)
def test_an_exception_does_not_silence_the_bus(what: str, stride: int) -> None:
    """After an exception has struck a publisher anywhere, the next event is handled without further calls."""
    for k in itertools.count(0, stride):
        got: list[int] = []
        last = threading.Event()

        def handle(event: Tick, got: list[int] = got, last: threading.Event = last) -> None:
            got.append(event.n)
            if event.n == 999:
                last.set()

        with EventBus() as bus:
            bus.subscribe(handle, Tick)
            assert bus.publish(Tick(n=1))
            it = Strike(k, strike)
            it.during(partial(HOSTED[what], bus))
            assert bus.publish(Tick(n=999))
            assert last.wait(PATIENCE_SECONDS)
        assert [n for n in got if n != 500] == [1, 999]
        if not it.has_struck:
            break


CLOSED_DURING: dict[str, Callable[[EventBus], object]] = {
    **HOSTED,
    "unsubscribe": lambda bus: bus.subscribe(ignore, Tick).unsubscribe(),
    "close": lambda bus: bus.close(),
}


@pytest.mark.parametrize(
    "stride", [pytest.param(5, id="quick"), pytest.param(1, id="nightly", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("timeout", [5, None])
@pytest.mark.parametrize("what", CLOSED_DURING)
def test_closed_in_a_signal_handler(what: str, timeout: float | None, stride: int) -> None:
    """A close in a signal handler delivers all that was accepted and ends at once, whatever call of the same
    thread it interrupts.
    """
    for k in itertools.count(0, stride):
        got: list[int] = []
        with EventBus() as bus:

            def handle(event: Tick, got: list[int] = got) -> None:
                got.append(event.n)

            bus.subscribe(handle, Tick)
            for n in range(5):
                assert bus.publish(Tick(n=n))
            took: list[float] = []

            def close(bus: EventBus = bus, took: list[float] = took) -> None:
                began = time.monotonic()
                report = bus.close(timeout)
                took.append(time.monotonic() - began)
                assert report.complete
                assert not report.undelivered

            it = Strike(k, close)
            it.during(partial(_ignoring_closed, CLOSED_DURING[what], bus))
        assert [n for n in got if n != 500] == list(range(5))
        assert all(seconds < 2 for seconds in took)
        if not it.has_struck:
            break


def test_closed_in_a_signal_handler_at_every_step_of_a_ring() -> None:
    """The same, at every line of a ring for the loop of another thread, which the close has to ring, too."""
    k = 0
    for k in itertools.count():
        with EventBus([ignore]) as bus:
            it = Strike(k, partial(_close_on_time, bus), (doorbell.__file__, switch_interval.__file__))
            it.during(partial(bus.publish, Tick()))
        if not it.has_struck:
            break
    assert k >= 10


def test_closed_in_a_signal_handler_at_every_step_of_a_distribution() -> None:
    """The same, at every line of a distribution, which the loop of the subscribers then finishes."""
    k = 0
    for k in itertools.count():
        got: list[int] = []
        with EventBus() as bus:
            go_on = _handle_slowly(bus, got)
            it = Strike(k, partial(_close_on_time, bus, go_on), (event_queue.__file__,))
            it.during(bus.statistics)
            go_on.set()
        assert got == list(range(6))
        if not it.has_struck:
            break
    assert k >= 10


def _handle_slowly(bus: EventBus, got: list[int]) -> threading.Event:
    """Have events handled once the returned event is set; five are pending, and one is being handled."""
    is_handling, go_on = threading.Event(), threading.Event()

    def handle(event: Tick) -> None:
        is_handling.set()
        go_on.wait(PATIENCE_SECONDS)
        got.append(event.n)

    bus.subscribe(handle, Tick)
    bus.publish(Tick(n=0))
    assert is_handling.wait(PATIENCE_SECONDS)
    for n in range(1, 6):
        bus.publish(Tick(n=n))
    return go_on


def _close_on_time(bus: EventBus, go_on: threading.Event | None = None) -> None:
    if go_on is not None:
        go_on.set()
    began = time.monotonic()
    assert bus.close(1).complete
    assert time.monotonic() - began < 0.9


def _ignoring_closed(operation: Callable[[EventBus], object], bus: EventBus) -> None:
    try:
        operation(bus)
    except eventbus.BusStateError:
        assert not bus.publish(Tick())  # it was closed meanwhile


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Struck))


@pytest.mark.parametrize(
    "strikes", [pytest.param(200, id="quick"), pytest.param(10_000, id="nightly", marks=pytest.mark.nightly)]
)
def test_exceptions_at_random_moments(strikes: int) -> None:
    """Exceptions that another thread raises in a busy publisher lose no event for which it got True, and
    double none.
    """
    got: list[int] = []
    accepted: list[int] = []
    publisher, struck = threading.get_ident(), 0
    go_on = threading.Semaphore(0)

    def raise_now_and_then() -> None:
        for _ in range(strikes):
            go_on.acquire()
            _raise_in(publisher)

    thread = threading.Thread(target=raise_now_and_then)
    with EventBus(history=10) as bus:
        bus.subscribe(lambda event: got.append(event.n), Tick, capacity=1_000_000)
        numbers = itertools.count()
        thread.start()
        while struck < strikes:
            try:
                go_on.release()
                while True:
                    n = next(numbers)
                    if bus.publish(Tick(n=n)):
                        accepted.append(n)
            except Struck:
                struck += 1
        thread.join()
        assert bus.publish(Tick(n=next(numbers)))
        assert bus.close().complete
    assert got == sorted(set(got))
    assert set(accepted) <= set(got)
