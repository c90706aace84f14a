"""Which subscription gets which events, and in what order."""

from __future__ import annotations

import gc
import itertools
import logging
import random
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Union

import anyio
import pytest

from eventbus import (
    Event,
    EventBus,
    EventStream,
    NodeCompleted,
    NodeEvent,
    NodeStarted,
    Overflow,
    SkillStarted,
    SubscriberError,
    SubscriberFailed,
    WorkflowEvent,
)
from eventbus.delivery.doorbell import Doorbell
from tests.vocabulary import Tick, Tock, number, numbers, opened, read, run_in_threads


class LoudTick(Tick, frozen=True, kw_only=True):
    """A subclass of a tick."""


def node(cls: type[NodeEvent] = NodeCompleted) -> NodeEvent:
    return cls(workflow_id="ci", node_id="tests")


# 10. Order.


def test_in_the_order_of_acceptance(bus: EventBus) -> None:
    """Each subscription gets its events once, in the order in which the bus accepted them."""
    everything, ticks = opened(bus), opened(bus, Tick)
    events = [Tick(n=n) if n % 3 else Tock(n=n) for n in range(1_000)]
    for event in events:
        bus.publish(event)
    assert read(everything) == events
    assert read(ticks) == [event for event in events if isinstance(event, Tick)]


def test_all_agree_on_the_order(bus: EventBus) -> None:
    """All subscriptions see one order of eight threads' events, and each thread's own order within it."""
    streams = [opened(bus, events, capacity=50_000) for events in (Event, Tick, Tick | Tock)]
    start = threading.Barrier(8)

    def publish(source: int) -> None:
        start.wait()
        for n in range(2_000):
            bus.publish(Tick(n=n, source=source))

    run_in_threads(*(partial(publish, source) for source in range(8)))
    first, *others = (read(stream) for stream in streams)
    assert all(other == first for other in others)
    assert len(first) == 16_000
    for source in range(8):
        assert [event.n for event in first if event.source == source] == list(range(2_000))


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["task", "thread"])
async def test_handlers_get_them_in_order_too(host: str) -> None:
    """Handlers of either host get their events once, in the order in which the bus accepted them."""
    got: list[int] = []
    bus = EventBus()
    bus.subscribe(lambda event: got.append(event.n), Tick, capacity=10_000)
    if host == "task":
        async with bus:
            _publish_from_threads(bus)
    else:
        with bus:
            _publish_from_threads(bus)
    assert sorted(got) == list(range(4_000))
    for quarter in range(4):
        own = [n for n in got if n // 1_000 == quarter]
        assert own == sorted(own)


def _publish_from_threads(bus: EventBus) -> None:
    def publish(quarter: int) -> None:
        for n in range(1_000):
            bus.publish(Tick(n=quarter * 1_000 + n))

    run_in_threads(*(partial(publish, quarter) for quarter in range(4)))


# 11, 12. Types.


@pytest.mark.parametrize(
    ("wanted", "gets"),
    [
        (Event, {"Event", "Tick", "LoudTick", "NodeStarted", "NodeCompleted", "SkillStarted"}),
        (Tick, {"Tick", "LoudTick"}),
        (LoudTick, {"LoudTick"}),
        (WorkflowEvent, {"NodeStarted", "NodeCompleted"}),
        (NodeEvent, {"NodeStarted", "NodeCompleted"}),
        (NodeCompleted, {"NodeCompleted"}),
        (Tick | NodeStarted, {"Tick", "LoudTick", "NodeStarted"}),
        (Union[LoudTick, SkillStarted], {"LoudTick", "SkillStarted"}),  # noqa: UP007 - people write it
        ((NodeStarted, SkillStarted | LoudTick), {"NodeStarted", "SkillStarted", "LoudTick"}),
    ],
)
def test_by_class(bus: EventBus, wanted: Any, gets: set[str]) -> None:
    """A subscription to a class gets events of that class and of its subclasses, and no others."""
    stream = opened(bus, wanted)
    for event in (Event(), Tick(), LoudTick(), node(NodeStarted), node(), SkillStarted(skill_name="run")):
        bus.publish(event)
    got = [type(event).__name__ for event in read(stream)]
    assert sorted(got) == sorted(gets)
    assert stream.statistics().accepted == len(gets)


@pytest.mark.parametrize("union", [Tick | LoudTick, (Event, Tick, LoudTick), Event | LoudTick])
def test_an_event_that_matches_twice(bus: EventBus, union: Any) -> None:
    """A subscription to a union gets events of each member, and gets an event that matches two members
    once.
    """
    stream = opened(bus, union, overflow=Overflow.COALESCE, key=number)
    plain = opened(bus, union)
    event = LoudTick(n=1)
    bus.publish(event)
    assert read(stream) == read(plain) == [event]
    assert plain.statistics().accepted == 1


@pytest.mark.parametrize(
    "wanted", [int, "Event", None, Tick | int, Tick | None, (), (Tick, 1), Tick(), [Tick]]
)
def test_only_event_classes(bus: EventBus, wanted: Any) -> None:
    """Only an event class, or a union of event classes, can be subscribed to."""
    with pytest.raises(SubscriberError, match="cannot subscribe"):
        opened(bus, wanted)
    assert bus.statistics().subscriptions == {}


# 13, 32. Coming and going.


def test_between_two_events_of_a_class(bus: EventBus) -> None:
    """Routing stays right when subscriptions come and go between two events of one class."""
    choice = random.Random(13)
    open_streams: list[tuple[EventStream[Any], type[Event], list[Event]]] = []
    for n in range(2_000):
        what = choice.random()
        if what < 0.1:
            wanted = choice.choice([Event, Tick, LoudTick, Tock])
            open_streams.append((opened(bus, wanted), wanted, []))
        elif what < 0.2 and open_streams:
            stream, _, expected = open_streams.pop(choice.randrange(len(open_streams)))
            assert read(stream) == expected
            stream.close()
        event = choice.choice([Tick, LoudTick, Tock])(n=n)
        bus.publish(event)
        for _, wanted, expected in open_streams:
            if isinstance(event, wanted):
                expected.append(event)
    for stream, _, expected in open_streams:
        assert read(stream) == expected


def test_from_the_next_event_on(bus: EventBus) -> None:
    """A subscription gets every matching event accepted after `subscribe` returned, and none before."""
    for n in range(5):
        bus.publish(Tick(n=n))
    stream = opened(bus, Tick)
    bus.publish(Tick(n=5))
    assert numbers(stream) == [5]


def test_subscribing_while_others_publish() -> None:
    """A subscription gets every matching event accepted after `subscribe` returned, without a hole."""
    bus = EventBus()
    streams: list[tuple[int, EventStream[Any], int]] = []
    published = -1
    start = threading.Barrier(2)

    def publish() -> None:
        nonlocal published
        start.wait()
        for n in range(20_000):
            bus.publish(Tick(n=n))
            published = n

    def subscribe() -> None:
        start.wait()
        for _ in range(50):
            before = published
            streams.append((before, opened(bus, Tick, capacity=30_000), published))

    run_in_threads(publish, subscribe)
    for before, stream, after in streams:
        got = numbers(stream)
        first = 20_000 - len(got)
        assert got == list(range(first, 20_000))
        assert before < first <= after + 2  # the event after `after` may have been in progress


def test_nothing_after_the_end(bus: EventBus) -> None:
    """A subscription that has ended gets nothing and is removed."""
    stream, other = opened(bus, Tick), opened(bus, Tick)
    bus.publish(Tick(n=1))
    stream.close()
    bus.publish(Tick(n=2))
    with pytest.raises(anyio.EndOfStream):
        stream.receive_nowait()
    assert numbers(other) == [1, 2]
    assert list(bus.statistics().subscriptions) == ["stream-2"]


# 14, 15. Publishing in handlers.


@pytest.mark.anyio
async def test_publishing_in_a_handler_only_queues() -> None:
    """An event published in a handler is delivered after all events accepted before it: publishing in a
    handler only queues.
    """
    trace: list[str] = []

    def handle(event: Tick) -> None:
        trace.append(f"begin {event.n}")
        if event.n < 10:
            bus.publish(Tick(n=event.n * 10))
        trace.append(f"end {event.n}")

    bus = EventBus([handle])
    for n in (1, 2, 3):
        bus.publish(Tick(n=n))
    async with bus:
        await bus.drain()
        await bus.drain()
    expected = [f"{what} {n}" for n in (1, 2, 3, 10, 20, 30) for what in ("begin", "end")]
    assert trace == expected


@pytest.mark.anyio
async def test_a_chain_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """A chain of events, each published while the previous one is handled, is cut after 64: the next
    `publish` returns False, is counted as rejected and is logged.
    """
    answers: list[bool] = []
    others: list[int] = []

    def echo(event: Tick) -> None:
        answers.append(bus.publish(Tick(n=event.n + 1)))

    async with EventBus([echo]) as bus:
        bus.subscribe(lambda event: others.append(event.n), Tick)
        for nth in range(3):  # the end of a chain does not affect later chains
            bus.publish(Tick(n=0))
            while answers.count(False) <= nth:
                await bus.drain()
            await bus.drain()  # the other subscription may have got its last event in the meantime
        assert answers == [*[True] * 64, False] * 3
        assert others == list(range(65)) * 3
        assert bus.statistics().rejected == 3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "a chain of 64 events" in warnings[0].getMessage()
    assert "'echo' published a Tick" in warnings[0].getMessage()


@pytest.mark.anyio
async def test_a_chain_through_batches_tasks_and_threads_is_cut() -> None:
    """A chain is followed through threads and tasks started by handlers, and through several handlers."""
    answers: list[bool] = []

    async def through_a_task(event: Tick) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish_later, Tock(n=event.n + 1))

    async def through_a_thread(event: Tock) -> None:
        answers.append(await anyio.to_thread.run_sync(bus.publish, Tick(n=event.n + 1)))

    async def publish_later(event: Event) -> None:
        answers.append(bus.publish(event))

    async with EventBus([through_a_task, through_a_thread]) as bus:
        bus.publish(Tick(n=0))
        while False not in answers:
            await bus.drain()
    # The thread may append its result after the next handler does; by now both have.
    assert sorted(answers) == [False, *[True] * 64]


@pytest.mark.anyio
async def test_events_side_by_side_are_not_a_chain() -> None:
    """All events that one handler publishes side by side are one step deep, however many they are."""
    got: list[int] = []
    answers: list[bool] = []

    def fan_out(event: Tock) -> None:
        answers.extend(bus.publish(Tick(n=n)) for n in range(200))

    async with EventBus([fan_out]) as bus:
        bus.subscribe(lambda event: got.append(event.n), Tick)
        bus.publish(Tock())
        await bus.drain()
        await bus.drain()
    assert all(answers)
    assert got == list(range(200))


# 34, 35. History.


def test_replay(bus: EventBus) -> None:
    """With `replay=n` a subscription begins with the last n matching events of the history, and new events
    follow without a gap or a duplicate.
    """
    for n in range(10):
        bus.publish(Tick(n=n))
        bus.publish(Tock(n=n))
    stream = opened(bus, Tick, replay=3)
    bus.publish(Tick(n=10))
    assert numbers(stream) == [7, 8, 9, 10]
    assert numbers(opened(bus, Tock, replay=100)) == list(range(10))
    assert numbers(opened(bus, Tick, replay=0)) == []
    assert numbers(opened(bus, LoudTick, replay=5)) == []


def test_replay_while_others_publish() -> None:
    """With `replay=n` there is no gap, duplicate or disorder while other threads publish."""
    bus = EventBus()
    start = threading.Barrier(2)
    streams: list[EventStream[Any]] = []

    def publish() -> None:
        start.wait()
        for n in range(20_000):
            bus.publish(Tick(n=n))

    def subscribe() -> None:
        start.wait()
        streams.extend(opened(bus, Tick, capacity=30_000, replay=100) for _ in range(50))

    run_in_threads(publish, subscribe)
    for stream in streams:
        got = numbers(stream)
        assert got == list(range(20_000 - len(got), 20_000))
        assert len(got) >= 100 or got[0] == 0


def test_replay_beyond_the_capacity(bus: EventBus) -> None:
    """A replay that exceeds the capacity overflows like any other events, and the counts balance."""
    for n in range(10):
        bus.publish(Tick(n=n))
    stream = opened(bus, Tick, replay=10, capacity=4)
    snapshot = stream.statistics()
    assert (snapshot.accepted, snapshot.lost, snapshot.queued) == (10, 6, 4)
    assert numbers(stream) == [6, 7, 8, 9]


def test_a_negative_replay(bus: EventBus) -> None:
    """A negative replay is refused and leaves no subscription behind."""
    with pytest.raises(SubscriberError, match="replay"):
        opened(bus, replay=-1)
    assert bus.statistics().subscriptions == {}


@pytest.mark.parametrize(("history", "kept"), [(None, 1_024), (5, 5), (0, 0)])
def test_history(history: int | None, kept: int) -> None:
    """The history holds the last `history` accepted events: 1,024 by default, none with 0."""
    bus = EventBus() if history is None else EventBus(history=history)
    for n in range(1_500):
        bus.publish(Tick(n=n))
    assert numbers(opened(bus, replay=10_000)) == list(range(1_500 - kept, 1_500))


def test_history_holds_events_without_a_subscription(bus: EventBus) -> None:
    """The history holds accepted events, even without a subscription to them, and no rejected ones."""
    bus.publish(Tick(n=1))
    with pytest.raises(TypeError):
        bus.publish("no event")  # type: ignore[arg-type]
    assert numbers(opened(bus, replay=10)) == [1]


def test_a_negative_history() -> None:
    """A negative history is refused."""
    with pytest.raises(ValueError, match="history=-1"):
        EventBus(history=-1)


# 39. Taps.


def test_a_tap_runs_before_publish_returns(bus: EventBus) -> None:
    """The receivers of a tap run in the publisher's thread, before `publish` returns."""
    seen: list[tuple[Event, int]] = []

    def see(event: Event) -> None:
        seen.append((event, threading.get_ident()))

    bus.tap(NodeEvent).connect(see, weak=False)
    event = node()
    publisher = threading.Thread(target=bus.publish, args=(event,))
    publisher.start()
    publisher.join()
    assert seen == [(event, publisher.ident)]
    bus.publish(Tick())
    assert len(seen) == 1


def test_taps_on_bases(bus: EventBus) -> None:
    """Taps of a class and of each of its bases are called, each once; other taps are not."""
    seen: list[str] = []

    def see(name: str, event: Event) -> None:
        seen.append(name)

    for cls in (Event, Tick, LoudTick, Tock):
        bus.tap(cls).connect(partial(see, cls.__name__), weak=False)
    bus.publish(Tick())
    assert sorted(seen) == ["Event", "Tick"]
    assert bus.tap(Tick) is bus.tap(Tick)


def test_a_tap_that_raises(bus: EventBus, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a tap's receiver is logged and stops neither the other receivers nor the publisher."""
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("a broken tap")

    signal = bus.tap(Tick)
    for receiver in (broken, seen.append, partial(broken), partial(seen.append)):
        signal.connect(receiver, weak=False)
    stream = opened(bus, Tick)
    assert bus.publish(Tick(n=1))
    assert len(seen) == 2
    assert numbers(stream) == [1]
    assert ["a tap failed" in record.getMessage() for record in caplog.records] == [True]


def test_a_tap_gets_no_rejected_event(bus: EventBus) -> None:
    """A tap's receivers get accepted events only."""
    seen: list[Event] = []
    bus.tap(Event).connect(seen.append, weak=False)
    bus.close()
    assert not bus.publish(Tick())
    assert seen == []


def test_a_tap_gets_no_event_that_came_too_late(bus: EventBus) -> None:
    """A tap's receivers do not get an event that is rejected because the bus closes during its publishing."""
    seen: list[Event] = []
    bus.tap(Tick).connect(seen.append, weak=False)

    def close(event: Tick) -> int:
        bus.close()
        return event.n

    stream = opened(bus, Tick, overflow=Overflow.COALESCE, key=close)
    assert not bus.publish(Tick())
    assert (seen, read(stream)) == ([], [])
    statistics = bus.statistics()
    assert (statistics.accepted, statistics.rejected) == (0, 1)


@pytest.mark.anyio
async def test_a_tap_gets_events_of_publish_wait(bus: EventBus) -> None:
    """A tap's receivers get an event of `publish_wait` once."""
    seen: list[Event] = []
    bus.tap(Tick).connect(seen.append, weak=False)
    await bus.publish_wait(Tick(n=1))
    assert [event.n for event in seen if isinstance(event, Tick)] == [1]


def test_a_receiver_that_is_gone(bus: EventBus) -> None:
    """A receiver that was disconnected, or was garbage-collected, is not called again."""
    seen: list[Event] = []

    class Receiver:
        def see(self, event: Event) -> None:
            seen.append(event)

    mortal, append = Receiver(), seen.append
    bus.tap(Tick).connect(mortal.see)
    bus.tap(Tick).connect(append, weak=False)
    bus.publish(Tick())
    assert len(seen) == 2
    bus.tap(Tick).disconnect(append)
    del mortal
    gc.collect()
    bus.publish(Tick())
    assert len(seen) == 2


@pytest.mark.parametrize("what", [int, Tick | Tock, "tick"])
def test_a_tap_needs_one_class(bus: EventBus, what: Any) -> None:
    """A tap takes exactly one event class."""
    with pytest.raises(SubscriberError):
        bus.tap(what)


# 50, 51. Cost.


@pytest.mark.anyio
async def test_an_event_without_a_subscription_wakes_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing an event that has no subscription wakes no loop."""
    rings = _count_rings(monkeypatch)
    async with EventBus([_ignore_tock]) as bus, bus.stream(Tock):
        await bus.drain()
        before = rings[0]
        for _ in range(1_000):
            bus.publish(Tick())
        assert rings[0] == before
        assert bus.statistics().accepted == 1_000
        bus.publish(Tock())
        assert rings[0] > before  # an event with a subscription does


def _ignore_tock(event: Tock) -> None:
    """Ignore it."""


def _count_rings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    rings = [0]
    ring = Doorbell.ring

    def counting(self: Doorbell) -> None:
        rings[0] += 1
        ring(self)

    monkeypatch.setattr(Doorbell, "ring", counting)
    return rings


def test_subscriptions_to_other_types_cost_nothing() -> None:
    """Subscriptions to other types cost a publisher nothing."""

    def steps(others: int) -> int:
        bus = EventBus()
        opened(bus, Tick, capacity=10_000)
        for _ in range(others):
            opened(bus, Tock)
        bus.publish(Tick())  # computes the route of a tick, once
        bus.statistics()
        return _calls_in(lambda: [bus.publish(Tick(n=n)) for n in range(1_000)])

    assert steps(others=0) == steps(others=500)


def test_handlers_that_hang_cost_nothing() -> None:
    """`publish` never waits for a subscriber: its cost does not depend on what handlers do."""

    def steps(queued: int) -> int:
        bus = EventBus()
        opened(bus, Tick, capacity=100_000)
        for n in range(queued):
            bus.publish(Tick(n=n))
        bus.publish(Tick())
        bus.statistics()
        return _calls_in(lambda: [bus.publish(Tick(n=n)) for n in range(1_000)])

    assert steps(queued=0) == steps(queued=50_000)


def _calls_in(work: Callable[[], object]) -> int:
    """Count the calls that some work makes, of Python and of C functions."""
    calls = itertools.count()

    def count(frame: object, what: str, argument: object) -> None:
        if "call" in what:
            next(calls)

    gc.disable()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return next(calls)


def test_publishing_makes_no_events_of_its_own(bus: EventBus) -> None:
    """Publishing makes no event of its own: only the published event is accepted."""
    stream = opened(bus, Event | SubscriberFailed)
    bus.publish(Tick(n=1))
    assert numbers(stream) == [1]
    assert bus.statistics().accepted == 1


@pytest.mark.parametrize("pause", [0.0, 0.000_3, 0.001, 0.002])
def test_events_from_a_thread_at_any_pace(pause: float) -> None:
    """Wake-ups caused by events from another thread are coalesced within 1 to 2 ms, at any pace."""
    handled = threading.Semaphore(0)
    with EventBus([lambda _: handled.release()]) as bus:
        for _ in range(100):
            bus.publish(Tick(n=1))
            assert handled.acquire(timeout=10)
            time.sleep(pause)
