"""Whatever one subscriber does, the others get all their events, in order and in time."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from eventbus import (
    Event,
    EventBus,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    Overflow,
    Subscriber,
    SubscriberFailed,
    Subscription,
)
from tests.vocabulary import PATIENCE_SECONDS, HostileError, in_every_host, running, until

if TYPE_CHECKING:
    from tests.reliability.conftest import Check, ItemsOf, Numbered

pytestmark = pytest.mark.anyio

COUNT = 40


def _recurse(depth: int = 0) -> int:
    return _recurse(depth + 1) + 1


def _raise(error: BaseException) -> None:
    raise error


FAILURES: dict[str, Callable[[], object]] = {
    "Exception": lambda: _raise(ValueError("no")),
    "ExceptionGroup": lambda: _raise(ExceptionGroup("several", [ValueError("no"), KeyError("no")])),
    "StopIteration": lambda: _raise(StopIteration(3)),
    "StopAsyncIteration": lambda: _raise(StopAsyncIteration()),
    "RecursionError": _recurse,
    "MemoryError": lambda: _raise(MemoryError()),
    "TimeoutError": lambda: _raise(TimeoutError()),
    "hostile repr": lambda: _raise(HostileError()),
}
DRASTIC = (KeyboardInterrupt, BaseExceptionGroup)


class Failing(Subscriber[NodeProgress]):
    """Fails in one of its four calls."""

    events = NodeProgress
    name = "failing"

    def __init__(self, at: str, fail: Callable[[], object]) -> None:
        self._at = at
        self._fail = fail
        self.handled = 0

    async def start(self, bus: EventBus) -> None:
        """Fail, if this is the call."""
        if self._at == "start":
            self._fail()

    async def handle(self, event: NodeProgress) -> None:
        """Fail, if this is the call."""
        self.handled += 1
        if self._at == "handle":
            self._fail()
        await anyio.lowlevel.checkpoint()
        if self._at == "handle, later":
            self._fail()

    async def stop(self) -> None:
        """Fail, if this is the call."""
        if self._at == "stop":
            self._fail()


CALLS = ["start", "handle", "handle, later", "stop"]
at_every_call = pytest.mark.parametrize("at", CALLS)


class Neighbours:
    """Two healthy subscriptions, one made before the bad ones and one after them."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.first: list[Event] = []
        self.second: list[Event] = []

    def subscribe_around(self, *subscribers: Subscriber[NodeProgress]) -> list[Subscription]:
        """Subscribe one, the bad ones, and the other."""
        self.bus.subscribe(self.first.append, NodeProgress, name="first")
        bad = [self.bus.subscribe(each) for each in subscribers]
        self.bus.subscribe(self._handle, NodeProgress, name="second")
        return bad

    async def _handle(self, event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        self.second.append(event)


@in_every_host
@at_every_call
async def test_failing_subscribers(
    at: str, host: str, check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """A handler that raises affects nothing else: its subscription gets the next event, and other
    subscriptions get all of theirs.
    """
    bus = EventBus()
    neighbours = Neighbours(bus)
    subscribers = [Failing(at, fail) for fail in FAILURES.values()]
    everything = [("main", number) for number in range(COUNT)]
    async with running(bus, host):
        bad = neighbours.subscribe_around(*subscribers)
        for item in everything[:-1]:
            bus.publish(numbered(*item))
        with anyio.fail_after(PATIENCE_SECONDS):
            await bus.drain()
        for each in bad:
            each.unsubscribe()
        bus.publish(numbered(*everything[-1]))
    for got in (neighbours.first, neighbours.second):
        assert not any(check(everything, everything, items_of(got)).values())
    calls = {"start": 0, "handle": 10, "handle, later": 10, "stop": COUNT - 1}[at]
    assert [each.handled for each in subscribers] == [calls] * len(subscribers)
    failures = 10 if at.startswith("handle") else 1
    assert [each.statistics().failed for each in bad] == [failures] * len(bad)


@in_every_host
@pytest.mark.parametrize(
    ("drastic", "at"), [*((SystemExit, at) for at in CALLS), *((each, "handle") for each in DRASTIC)]
)
async def test_subscriber_that_raises_a_base_exception(
    drastic: type[BaseException], at: str, host: str, check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """A handler that raises `KeyboardInterrupt` or `SystemExit`, alone or in a group, ends its subscription;
    the bus raises the exception once, after the other subscriptions have drained.
    """
    expected = drastic("out") if drastic is not BaseExceptionGroup else KeyboardInterrupt("in a group")
    error = BaseExceptionGroup("both", [expected]) if drastic is BaseExceptionGroup else expected
    bus = EventBus()
    neighbours = Neighbours(bus)
    subscriber = Failing(at, lambda: _raise(error))
    everything = [("main", number) for number in range(COUNT)]

    async def publish_and_close() -> None:
        async with running(bus, host):
            neighbours.subscribe_around(subscriber)
            for item in everything:
                assert bus.publish(numbered(*item))
            with anyio.fail_after(PATIENCE_SECONDS):
                await bus.aclose()

    with pytest.raises(type(expected)) as caught:
        await publish_and_close()
    assert caught.value is expected
    for got in (neighbours.first, neighbours.second):
        assert not any(check(everything, everything, items_of(got)).values())
    assert subscriber.handled == {"start": 0, "stop": COUNT}.get(at, 1)
    assert bus.close() is bus.report  # once


@in_every_host
@at_every_call
async def test_subscriber_that_cancels_itself(
    at: str, host: str, check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """A handler that is cancelled from outside, or raises `CancelledError` itself, ends its own subscription
    and no other.
    """
    bus = EventBus()
    neighbours = Neighbours(bus)
    subscriber = Failing(at, lambda: _raise(asyncio.CancelledError()))
    everything = [("main", number) for number in range(2 * COUNT)]
    async with running(bus, host):
        (bad,) = neighbours.subscribe_around(subscriber)
        for items in (everything[:COUNT], everything[COUNT:]):
            for item in items:
                assert bus.publish(numbered(*item))
            with anyio.fail_after(PATIENCE_SECONDS):
                await bus.drain()
            bad.unsubscribe()
    for got in (neighbours.first, neighbours.second):
        assert not any(check(everything, everything, items_of(got)).values())
    assert subscriber.handled == {"start": 0, "stop": COUNT}.get(at, 1)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_subscription_whose_task_is_cancelled(numbered: Numbered) -> None:
    """A handler that is cancelled from outside ends its own subscription and no other."""
    tasks: list[asyncio.Task[object]] = []
    got: list[Event] = []

    async def hang(event: NodeProgress) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await anyio.sleep_forever()

    async with EventBus() as bus:
        bus.subscribe(hang, name="hang")
        bus.subscribe(got.append, NodeProgress)
        bus.publish(numbered("main", 0))
        await until(lambda: tasks)
        tasks[0].cancel()
        with anyio.fail_after(PATIENCE_SECONDS):
            await bus.drain()
        assert bus.statistics().subscriptions["hang"].state == "cancelled"
        assert bus.publish(numbered("main", 1))
    assert len(got) == 2


@in_every_host
async def test_failures_are_reported(host: str, numbered: Numbered) -> None:
    """A failure is counted, logged at most once per cause every 20 s, and published as `SubscriberFailed`."""
    failures: list[SubscriberFailed] = []
    bus = EventBus()
    async with running(bus, host):
        bus.subscribe(failures.append, SubscriberFailed)
        bad = bus.subscribe(Failing("handle", FAILURES["ExceptionGroup"]))
        for number in range(3):
            bus.publish(numbered("main", number))
        await bus.drain()
        await bus.drain()  # the events published for the failures
    assert [(each.subscriber, each.error_type) for each in failures] == [("failing", "ExceptionGroup")] * 3
    assert bad.statistics().failed == 3


@in_every_host
async def test_hung_subscriber(host: str, check: Check, numbered: Numbered, items_of: ItemsOf) -> None:
    """While one handler hangs, the others get everything; the losses of the hung one are reported exactly."""
    got_by_hung: list[Event] = []
    released = threading.Event()

    async def hang(event: Event) -> None:
        got_by_hung.append(event)
        await until(lambda: released.is_set())

    bus = EventBus()
    neighbours = Neighbours(bus)
    everything = [("main", number) for number in range(500)]
    async with running(bus, host):
        neighbours.bus.subscribe(hang, NodeProgress | EventsLost, name="hung", capacity=8)
        neighbours.subscribe_around(Failing("never", int))
        bus.publish(numbered(*everything[0]))
        await until(lambda: got_by_hung)
        for item in everything[1:]:
            bus.publish(numbered(*item))
        await until(lambda: len(neighbours.first) + len(neighbours.second) == 2 * len(everything))
        assert len(got_by_hung) == 1  # it still hangs
        snapshot = bus.statistics().subscriptions["hung"]
        assert (snapshot.accepted, snapshot.delivered, snapshot.lost, snapshot.queued) == (500, 1, 491, 8)
        released.set()
    for got in (neighbours.first, neighbours.second):
        assert not any(check(everything, everything, items_of(got)).values())
    gap = got_by_hung[1]
    assert isinstance(gap, EventsLost)
    assert (gap.count, gap.first_seq, gap.last_seq) == (491, 2, 492)
    assert items_of(got_by_hung[2:]) == everything[-8:]


@in_every_host
async def test_hung_subscriber_and_publish_wait(host: str, numbered: Numbered) -> None:
    """A hung subscriber does not block a `publish_wait` of events that it does not get."""
    gate = threading.Event()

    async def wait_for_the_gate(event: Event) -> None:
        await until(lambda: gate.is_set())

    async def hang(event: Event) -> None:
        await anyio.sleep_forever()

    async def publish(event: Event) -> None:
        await bus.publish_wait(event)

    for_both = NodeCompleted(workflow_id="reliability", node_id="both")
    bus = EventBus()
    async with running(bus, host):
        bus.subscribe(wait_for_the_gate, NodeProgress | NodeCompleted, capacity=1, overflow=Overflow.WAIT)
        bus.subscribe(hang, NodeCompleted, name="hung", capacity=1, overflow=Overflow.WAIT)
        await bus.publish_wait(for_both)
        await until(lambda: not any(each.queued for each in bus.statistics().subscriptions.values()))
        await bus.publish_wait(for_both)  # both mailboxes are full now
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish, for_both)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            gate.set()
            with anyio.fail_after(PATIENCE_SECONDS):
                await bus.publish_wait(numbered("main", 0))
            tasks.cancel_scope.cancel()
        await bus.aclose(0.01)


@in_every_host
async def test_slow_subscriber_and_a_stream(host: str, numbered: Numbered) -> None:
    """A handler that hangs does not delay the reader of a stream."""

    async def hang(event: Event) -> None:
        await anyio.sleep_forever()

    bus = EventBus()
    async with running(bus, host), bus.stream(NodeProgress) as stream:
        bus.subscribe(hang, NodeProgress)
        for number in range(COUNT):
            bus.publish(numbered("main", number))
            with anyio.fail_after(PATIENCE_SECONDS):
                assert (await stream.receive()).attempt == number
        await bus.aclose(0.01)


@pytest.mark.alone
@pytest.mark.nightly
async def test_latency_beside_a_failing_one(numbered: Numbered) -> None:
    """A hanging and a failing subscriber do not slow down the others, by their medians."""
    alone = await _median_latency(numbered, [])
    beside = await _median_latency(numbered, [Failing("handle", FAILURES["Exception"])])
    assert beside <= 1.5 * alone + 0.000_2


async def _median_latency(numbered: Numbered, others: list[Subscriber[NodeProgress]]) -> float:
    arrived = threading.Event()
    took: list[float] = []
    with EventBus(others) as bus:
        bus.subscribe(lambda _: arrived.set(), NodeProgress)
        for number in range(3_000):
            arrived.clear()
            began = time.perf_counter()
            bus.publish(numbered("main", number))
            assert arrived.wait(PATIENCE_SECONDS)
            took.append(time.perf_counter() - began)
    return statistics.median(took)
