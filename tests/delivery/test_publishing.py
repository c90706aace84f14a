"""Publishing: from anywhere, any value, with any subscribers."""

from __future__ import annotations

import dis
import gc
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventbus
from eventbus import (
    Event,
    EventBus,
    EventStream,
    Overflow,
    Subscriber,
    SubscriberFailed,
    WouldDeadlockError,
    decode,
    encode,
)
from eventbus.delivery.wake_ups import MAX_PENDING
from tests.vocabulary import Hostile, Tick, Tock, ignore, number, numbers, opened, read


class _Anything(Event, frozen=True, kw_only=True):
    value: Any = None


# 1, 2. What publish returns.


def test_accepted_or_closed(bus: EventBus) -> None:
    """`publish` returns True if the bus accepts the event and False if the bus is closed."""
    stream = opened(bus, Tick)
    assert bus.publish(Tick(n=1)) is True
    bus.close()
    assert bus.publish(Tick(n=2)) is False
    assert bus.publish(Tock()) is False
    assert numbers(stream) == [1]
    statistics = bus.statistics()
    assert (statistics.accepted, statistics.rejected) == (1, 2)


class _Counting(EventBus):
    count = 0

    def publish(self, event: Event) -> bool:
        self.count += 1
        return super().publish(event)


def test_an_override(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass, or a patch of the class, may override `publish`: it sees every event."""
    bus, patched = _Counting(), EventBus()
    bus.subscribe(_fail, Tick)
    with bus:
        bus.publish(Tick(n=1))
    assert bus.count == 2  # with the bus's own SubscriberFailed
    monkeypatch.setattr(EventBus, "publish", _publish_nothing)
    assert patched.publish(Tick(n=1)) is False
    assert patched.statistics().accepted == 0


def _fail(event: Tick) -> None:
    raise ValueError


def _publish_nothing(bus: EventBus, event: Event) -> bool:
    return False


@pytest.mark.anyio
async def test_publish_wait_returns_the_same(bus: EventBus) -> None:
    """`publish_wait` returns the same as `publish`."""
    assert await bus.publish_wait(Tick()) is True
    with pytest.raises(TypeError):
        await bus.publish_wait("no event")  # type: ignore[arg-type]
    bus.close()
    assert await bus.publish_wait(Tick()) is False
    assert bus.statistics().rejected == 2


NO_EVENTS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "zero": lambda: 0,
    "text": lambda: "event",
    "a line": lambda: encode(Tick()),
    "a dict": lambda: {"event_type": "tick"},
    "a list": lambda: [Tick()],
    "a class": lambda: Tick,
    "an object": object,
    "a hostile object": Hostile,
    "a mock": Mock,
    "a mock of an event": lambda: Mock(spec=Tick),
}


@pytest.mark.parametrize("what", NO_EVENTS)
def test_values_that_are_not_events(bus: EventBus, what: str) -> None:
    """`publish` raises `TypeError` for a value that is not an event, and counts it as rejected; it raises
    nothing else.
    """
    value = NO_EVENTS[what]()
    stream = opened(bus, Event)
    with pytest.raises(TypeError, match="only events can be published"):
        bus.publish(value)
    assert bus.statistics().rejected == 1
    assert stream.statistics().accepted == 0


hostile = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(categories=None), max_size=20)
    | st.binary(max_size=20)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.builds(Hostile)
    | st.builds(lambda: Mock(spec=str))
    | st.builds(lambda: 2**20_000)
    | st.sampled_from([object(), float, iter(()), ValueError("x"), "\ud800", Tick()]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers() | st.binary(max_size=3) | st.none(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=15,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(value=hostile, metadata=st.dictionaries(st.text() | st.integers() | st.none(), hostile, max_size=4))
def test_hostile_payloads(value: Any, metadata: Any) -> None:
    """Publishing an event with any payload raises nothing, and the event can be encoded and decoded."""
    bus = EventBus()
    stream = opened(bus, Event)
    assert bus.publish(_Anything(value=value, metadata=metadata))
    event = stream.receive_nowait()
    assert isinstance(event, _Anything)
    assert isinstance(decode(encode(event)), _Anything)


@pytest.mark.parametrize("length", [1, 70_000])
def test_a_hostile_value(length: int) -> None:
    """A value that raises whatever is asked of it is left out of an encoded event, cut or not."""
    event = _Anything(value=Hostile(), metadata={"text": "x" * length, "value": Hostile()})
    assert isinstance(decode(encode(event)), _Anything)


def _deep(depth: int) -> list[Any]:
    nest: list[Any] = []
    for _ in range(depth):
        nest = [nest]
    return nest


def _cyclic() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["itself"] = [cycle, cycle, {"again": cycle}]
    return cycle


@pytest.mark.parametrize("value", [_deep(100_000), _cyclic(), {n: n for n in range(100_000)}, "x" * 10**7])
def test_vast_payloads(bus: EventBus, value: Any) -> None:
    """A payload of any depth or size, even a cyclic one, is copied within bounds."""
    stream = opened(bus, Event)
    assert bus.publish(_Anything(metadata={"vast": value}))
    assert len(encode(stream.receive_nowait())) <= 65_536


# 3. From anywhere.


def test_without_any_loop() -> None:
    """`publish` works without any loop, and from worker threads."""
    got: list[int] = []
    with EventBus() as bus:
        bus.subscribe(lambda event: got.append(event.n), Tick)
        bus.publish(Tick(n=1))
        worker = threading.Thread(target=bus.publish, args=(Tick(n=2),))
        worker.start()
        worker.join()
    assert got == [1, 2]


@pytest.mark.anyio
async def test_from_loops_and_threads() -> None:
    """`publish` works from the loop, from other loops, from worker threads, in a handler."""
    got: list[int] = []

    async def in_another_loop() -> None:
        await anyio.lowlevel.checkpoint()
        bus.publish(Tick(n=2))

    def handle(event: Tick) -> None:
        got.append(event.n)
        if event.n == 4:
            bus.publish(Tick(n=5))

    async with EventBus([handle]) as bus:
        bus.publish(Tick(n=1))
        await anyio.to_thread.run_sync(anyio.run, in_another_loop)
        await anyio.to_thread.run_sync(bus.publish, Tick(n=3))
        await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(bus.publish, Tick(n=4)))
        await bus.drain()
        await bus.drain()
    assert got == [1, 2, 3, 4, 5]


def test_after_the_loops_are_closed(bus: EventBus) -> None:
    """`publish` works after the loop that read a stream has closed and the stream is abandoned."""
    stream = opened(bus, Tick)

    async def read_one() -> int:
        with anyio.fail_after(5):
            bus.publish(Tick(n=1))
            first = await stream.receive()
            with anyio.move_on_after(0.001):
                await stream.receive()
        n: int = first.n
        return n

    assert anyio.run(read_one) == 1
    for n in range(2, 102):
        assert bus.publish(Tick(n=n))
    assert numbers(stream) == list(range(2, 102))


def test_in_a_finalizer() -> None:
    """`publish` works in a finalizer, even one that interrupts another `publish`."""
    bus = EventBus()
    stream = opened(bus, Tick, capacity=200_000)
    born = itertools.count()

    class Mortal:
        def __init__(self) -> None:
            self.n = next(born)
            self.cycle = self

        def __del__(self) -> None:
            assert bus.publish(Tick(n=self.n))

    threshold = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for _ in range(2_000):
            Mortal()
            bus.publish(Tock())
            bus.publish(Tick(n=-1))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    got = numbers(stream)
    assert got.count(-1) == 2_000
    assert sorted(n for n in got if n >= 0) == list(range(2_000))


@contextmanager
def _alarms(handler: Callable[[], object]) -> Generator[Callable[[], int]]:
    """Call a function in a signal handler as often as possible, never in itself; yield a counter of the
    calls.
    """
    hits, is_busy = 0, False

    def on_alarm(number: int, frame: object) -> None:
        nonlocal hits, is_busy
        if not is_busy:
            is_busy = True
            hits += 1
            handler()
            is_busy = False

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 5e-5, 5e-5)
    try:
        yield lambda: hits
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.parametrize("also", ["publish", "statistics", "unsubscribe"])
def test_in_a_signal_handler(also: str) -> None:
    """`publish` works in a signal handler 20,000 times during other publishing, with no loss or disorder."""
    bus = EventBus(history=0)
    stream = opened(bus, Tick | Tock, capacity=10_000_000)
    sent = itertools.count(1)

    def in_handler() -> None:
        spare = bus.subscribe(ignore, Tick) if also == "unsubscribe" else None
        assert bus.publish(Tick(n=next(sent)))
        if spare is not None:
            spare.unsubscribe()
        if also == "statistics":
            bus.statistics()

    published, target = 0, 20_000 if also == "publish" else 2_000
    got: list[Event] = []
    with _alarms(in_handler) as hits:
        while hits() < target:
            published += 1
            assert bus.publish(Tock(n=published))
            if published % 100 == 0:
                bus.statistics()
            if published % 1_000 == 0:
                got += read(stream)
    got += read(stream)
    ticks, tocks = ([e.n for e in got if isinstance(e, cls)] for cls in (Tick, Tock))
    assert ticks == list(range(1, next(sent)))
    assert tocks == list(range(1, published + 1))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_in_a_signal_handler_during_delivery() -> None:
    """`publish` works in a signal handler of the thread whose loop delivers; all events arrive, in order."""
    got: list[int] = []
    sent = itertools.count(1)

    async def main() -> None:
        async with EventBus() as bus:
            bus.subscribe(lambda event: got.append(event.n), Tick, capacity=1_000_000)
            with _alarms(lambda: bus.publish(Tick(n=next(sent)))) as hits:
                while hits() < 3_000:
                    bus.publish(Tock())
                    await bus.drain()
            await bus.drain()

    anyio.run(main)
    assert got == list(range(1, next(sent)))


SOURCES = str(Path(eventbus.__file__).parent)


class _Interrupter:
    """Calls a function at the k-th place at which a signal handler could run in eventbus's code.

    CPython runs those, and finalizers, after calls, at function entry and on backward jumps.
    """

    def __init__(self, k: int, interrupt: Callable[[], object]) -> None:
        self._left = k
        self._interrupt = interrupt
        self._last: dict[Any, str] = {}

    @property
    def has_interrupted(self) -> bool:
        return self._left < 0

    def __call__(self, frame: Any, what: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        frame.f_trace_opcodes = True
        if what == "opcode":
            before = self._last.get(frame, "RESUME")
            self._last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before.startswith(("CALL", "JUMP_BACKWARD", "RESUME")):
                self._left -= 1
                if self._left == -1:
                    self._interrupt()
        return self


OPERATIONS: dict[str, Callable[[EventBus, EventStream[Any]], object]] = {
    "publish": lambda bus, _: bus.publish(Tick(n=1)),
    "publish without a subscription": lambda bus, _: bus.publish(Event()),
    "publish the one too many": lambda bus, _: bus.publish(Tick(n=1)),
    "statistics": lambda bus, _: (bus.publish(Tick(n=1)), bus.statistics()),
    "take": lambda _, stream: stream.receive_nowait(),
    "subscribe": lambda bus, _: bus.subscribe(ignore, Event, replay=3).unsubscribe(),
    "tap": lambda bus, _: (bus.tap(Tick), bus.publish(Tick(n=1))),
    "close": lambda bus, _: bus.close(),
}


@pytest.mark.parametrize(
    "stride", [pytest.param(3, id="quick"), pytest.param(1, id="nightly", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.COALESCE])
@pytest.mark.parametrize("what", OPERATIONS)
def test_interrupted_at_every_step(what: str, overflow: Overflow, stride: int) -> None:
    """A `publish` may interrupt any operation of the bus at any step, as a signal handler does."""
    k, step = 0, 1
    if what == "publish the one too many":  # routing 64 keyed events takes 14,000 steps
        step = stride * (331 if overflow is Overflow.COALESCE else 29)
    for k in itertools.count(0, step):
        bus = EventBus()
        options: dict[str, Any] = {"key": number} if overflow is Overflow.COALESCE else {}
        small = opened(bus, Event, capacity=2, overflow=overflow, **options)
        large = opened(bus, Event, capacity=1_000)
        bus.publish(Tick(n=-1))
        bus.statistics()
        if what == "publish the one too many":
            for _ in range(MAX_PENDING):
                bus.publish(Tick(n=0))
        answers: list[bool] = []
        interrupter = _Interrupter(k, lambda: answers.append(bus.publish(Tick(n=1_000))))  # noqa: B023
        tracer = sys.gettrace()
        sys.settrace(interrupter)
        try:
            OPERATIONS[what](bus, small)
        finally:
            sys.settrace(tracer)
        if not interrupter.has_interrupted:
            break
        assert len(answers) == 1
        assert [number(event) for event in read(large)].count(1_000) == sum(answers)
        _check_counts(bus)
    assert k >= 4


def _check_counts(bus: EventBus) -> None:
    for snapshot in bus.statistics().subscriptions.values():
        assert snapshot.accepted == snapshot.delivered + snapshot.lost + snapshot.queued
        assert snapshot.accepted == bus.statistics().accepted


# 4, 5. Without waiting.


def test_publishing_to_a_handler_that_hangs() -> None:
    """`publish` never waits for a subscriber: its cost does not depend on what handlers do."""
    hanging, let_go = threading.Event(), threading.Event()

    def hang(event: Tick) -> None:
        hanging.set()
        let_go.wait(10)

    with EventBus() as bus:
        subscription = bus.subscribe(hang, capacity=10)
        bus.publish(Tick())
        assert hanging.wait(5)
        try:
            for n in range(20_000):
                assert bus.publish(Tick(n=n))
            snapshot = subscription.statistics()
            assert (snapshot.accepted, snapshot.delivered, snapshot.queued) == (20_001, 1, 10)
        finally:
            let_go.set()


@pytest.mark.anyio
async def test_before_the_bus_is_entered(bus: EventBus) -> None:
    """Events published before the bus is entered are queued for existing subscriptions and delivered on
    entry.
    """
    got: list[str] = []
    bus.publish(Tick(n=0))
    bus.subscribe(lambda event: got.append(f"tick {event.n}"), Tick)
    bus.subscribe(lambda event: got.append(f"tock {event.n}"), Tock)
    for n in range(1, 101):
        bus.publish(Tick(n=n))
    assert got == []
    async with bus:
        await bus.drain()
        assert got == [f"tick {n}" for n in range(1, 101)]


# 6 to 9. Waiting for room.


@pytest.mark.anyio
async def test_publish_wait(bus: EventBus) -> None:
    """`publish_wait` waits until every mailbox whose overflow is `WAIT` has room, then publishes to all
    subscriptions at once.
    """
    first, second = (opened(bus, Tick, overflow=Overflow.WAIT, capacity=1) for _ in range(2))
    other = opened(bus, Tick, overflow=Overflow.DROP_OLDEST, capacity=1)
    everything = opened(bus, Event)
    assert await bus.publish_wait(Tick(n=1))
    assert numbers(everything) == [1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bus.publish_wait, Tick(n=2))
        await anyio.wait_all_tasks_blocked()
        assert first.receive_nowait().n == 1
        await anyio.wait_all_tasks_blocked()
        assert numbers(everything) == []  # one has room, the other does not
        assert second.receive_nowait().n == 1
        await anyio.wait_all_tasks_blocked()
        assert numbers(everything) == [2]
    assert numbers(first) == numbers(second) == numbers(other) == [2]


@pytest.mark.anyio
async def test_publish_wait_ignores_other_mailboxes(bus: EventBus) -> None:
    """`publish_wait` waits only for mailboxes whose overflow is `WAIT` and that the event goes to."""
    full = opened(bus, Tock, overflow=Overflow.WAIT, capacity=1)
    dropping = opened(bus, Tick, capacity=1)
    bus.publish(Tock())
    with anyio.fail_after(5):
        for n in range(5):
            assert await bus.publish_wait(Tick(n=n))
    assert numbers(dropping) == [4]
    assert full.statistics().queued == 1


@pytest.mark.anyio
async def test_publish_wait_loses_nothing() -> None:
    """`publish_wait` from many tasks into a small mailbox loses nothing, and keeps each task's order."""
    got: list[int] = []

    async def handle(event: Tick) -> None:
        await anyio.lowlevel.checkpoint()
        got.append(event.n)

    async def produce(first: int) -> None:
        for n in range(first, first + 100):
            assert await bus.publish_wait(Tick(n=n))

    async with EventBus() as bus:
        bus.subscribe(handle, overflow=Overflow.WAIT, capacity=3)
        async with anyio.create_task_group() as tasks:
            for producer in range(5):
                tasks.start_soon(produce, producer * 1_000)
    assert len(got) == 500
    for producer in range(5):
        own = [n for n in got if n // 1_000 == producer]
        assert own == list(range(producer * 1_000, producer * 1_000 + 100))


@pytest.mark.anyio
async def test_publish_wait_cancelled(bus: EventBus) -> None:
    """A `publish_wait` that is cancelled while it waits publishes nothing, and blocks no other publisher."""
    stream = opened(bus, Tick, overflow=Overflow.WAIT, capacity=1)
    everything = opened(bus, Event)
    bus.publish(Tick(n=0))
    scope = anyio.CancelScope()

    async def give_up() -> None:
        with scope:
            await bus.publish_wait(Tick(n=1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(bus.publish_wait, Tick(n=2))
        await anyio.wait_all_tasks_blocked()
        assert stream.receive_nowait().n == 0  # the first in the queue is notified of the room
        scope.cancel()  # and is cancelled before it runs
        with anyio.fail_after(5):
            assert (await stream.receive()).n == 2
    assert numbers(everything) == [0, 2]
    assert bus.statistics().accepted == 2


@pytest.mark.anyio
async def test_publish_wait_at_the_close(bus: EventBus) -> None:
    """A `publish_wait` that is waiting when the bus closes returns False."""
    stream = opened(bus, Tick, overflow=Overflow.WAIT, capacity=1)
    answers: list[bool] = []
    bus.publish(Tick(n=0))

    async def publish() -> None:
        answers.append(await bus.publish_wait(Tick(n=1)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publish)
        tasks.start_soon(publish)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        bus.close()
    assert answers == [False, False]
    assert numbers(stream) == [0]
    assert bus.statistics().rejected == 2


@pytest.mark.anyio
async def test_publish_wait_when_the_full_one_leaves(bus: EventBus) -> None:
    """A `publish_wait` stops waiting for a subscription that has ended."""
    stream = opened(bus, Tick, overflow=Overflow.WAIT, capacity=1)
    bus.publish(Tick())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bus.publish_wait, Tick())
        await anyio.wait_all_tasks_blocked()
        stream.close()
    assert bus.statistics().accepted == 2


@pytest.mark.anyio
async def test_a_handler_waiting_for_itself() -> None:
    """A handler that would wait for room in its own mailbox gets a `WouldDeadlockError` at once."""
    failures: list[SubscriberFailed] = []

    class Echo(Subscriber[Tick]):
        events = Tick
        overflow = Overflow.WAIT
        capacity = 2

        async def handle(self, event: Tick) -> None:
            if event.n == 1:
                assert await bus.publish_wait(Tick(n=2))  # there is room
                assert await bus.publish_wait(Tick(n=3))
                with pytest.raises(WouldDeadlockError, match="'Echo'"):
                    await bus.publish_wait(Tick(n=4))

    async with EventBus([Echo()]) as bus:
        bus.subscribe(failures.append, SubscriberFailed)
        with anyio.fail_after(5):
            bus.publish(Tick(n=1))
            await bus.drain()
            await bus.drain()
        assert bus.statistics().subscriptions["Echo"].delivered == 3
    assert failures == []


@pytest.mark.anyio
async def test_a_handler_waiting_for_another() -> None:
    """A handler may wait for room in the mailbox of another subscription."""
    got: list[int] = []

    async def forward(event: Tock) -> None:
        for n in range(10):
            assert await bus.publish_wait(Tick(n=n))

    async def take(event: Tick) -> None:
        await anyio.lowlevel.checkpoint()
        got.append(event.n)

    async with EventBus([forward]) as bus:
        bus.subscribe(take, overflow=Overflow.WAIT, capacity=1)
        with anyio.fail_after(5):
            bus.publish(Tock())
            await bus.drain()
            await bus.drain()
    assert got == list(range(10))
