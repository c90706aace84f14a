"""Memory, threads and descriptors: bounded while subscribers stall, and released afterwards."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from eventbus import DEFAULT_CAPACITY, Event, EventBus, NodeCompleted, NodeProgress, Overflow
from eventbus.bus import SubscriptionOptions
from tests.vocabulary import until

if TYPE_CHECKING:
    from tests.reliability.conftest import Numbered

EVENTS = [pytest.param(200_000, id="quick"), pytest.param(1_000_000, id="nightly", marks=pytest.mark.nightly)]
CYCLES = [pytest.param(5_000, id="quick"), pytest.param(100_000, id="nightly", marks=pytest.mark.nightly)]
HISTORY = 1_024
NOISE_BLOCKS = 2_000
"""Memory blocks that come and go in an idle interpreter."""


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def _big_event(number: int) -> NodeProgress:
    return NodeProgress(
        workflow_id="reliability", node_id="big", attempt=number, message="x" * 1_000 + str(number)
    )


async def _hang(event: Event) -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("count", EVENTS)
def test_stalled_subscriber(count: int, numbered: Numbered) -> None:
    """A mailbox never holds more events than its capacity, so a stalled subscriber costs no more than
    that.
    """
    with EventBus() as bus:
        bus.subscribe(_hang, NodeProgress, name="stalled")
        for number in range(10_000):
            bus.publish(numbered("main", number))
        before = _blocks()
        for number in range(count):
            bus.publish(numbered("main", number))
        snapshot = bus.statistics().subscriptions["stalled"]
        assert _blocks() - before < NOISE_BLOCKS
        assert (snapshot.queued, snapshot.high_water) == (DEFAULT_CAPACITY, DEFAULT_CAPACITY)
        assert (
            snapshot.lost
            == snapshot.accepted - snapshot.delivered - snapshot.queued
            > count - DEFAULT_CAPACITY
        )
        bus.close(0)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("reader", ["handler", "stream", "not entered", "no reader"])
def test_stalled_in_every_way(reader: str, overflow: Overflow) -> None:
    """With any subscriber stalled and any overflow, memory stays within the capacity and the history."""
    options: SubscriptionOptions = {"overflow": overflow}
    if overflow is Overflow.COALESCE:
        options["key"] = _number_modulo_3000
    bus = EventBus(history=HISTORY)
    if reader == "stream":
        bus.stream(NodeProgress, **options).open()
    elif reader != "no reader":
        bus.subscribe(_hang, NodeProgress, **options)
    if reader == "handler":
        bus.__enter__()
    tracemalloc.start()
    try:
        for number in range(10_000):
            bus.publish(_big_event(number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        bus.close(0)
    mailboxes = 0 if reader == "no reader" else DEFAULT_CAPACITY
    assert held < (mailboxes + HISTORY + 200) * 2_500


def _number_modulo_3000(event: NodeProgress) -> int:
    return event.attempt % 3_000


@pytest.mark.parametrize("count", CYCLES)
def test_subscribing_before_the_bus_is_entered(count: int) -> None:
    """100,000 cycles of subscribing and unsubscribing leak nothing."""
    bus = EventBus()
    _subscribe_and_unsubscribe(bus, 1_000)
    before = _blocks()
    _subscribe_and_unsubscribe(bus, count)
    assert _blocks() - before < NOISE_BLOCKS
    assert bus.statistics().subscriptions == {}
    bus.close()


@pytest.mark.parametrize("count", CYCLES)
def test_subscribing_to_a_running_bus(count: int, numbered: Numbered) -> None:
    """100,000 cycles of subscribing and unsubscribing leak nothing, and no tasks either."""
    with EventBus() as bus:
        for each in (1_000, count):
            before, threads, descriptors = _blocks(), threading.active_count(), _descriptors()
            for number in range(each):
                subscription = bus.subscribe(lambda _: None, NodeProgress)
                bus.publish(numbered("main", number))
                subscription.unsubscribe()
            _settle(bus)
        assert _blocks() - before < NOISE_BLOCKS
        assert threading.active_count() <= threads  # idle threads of other tests may have ended
        assert _descriptors() <= descriptors
        assert bus.statistics().subscriptions == {}


@pytest.mark.parametrize("count", CYCLES)
def test_streams(count: int, numbered: Numbered) -> None:
    """Streams that are opened, read and closed leak nothing, in any loop."""

    async def read(each: int) -> None:
        for number in range(each):
            async with bus.stream(NodeProgress) as stream:
                bus.publish(numbered("main", number))
                assert (await stream.receive()).attempt == number

    with EventBus(history=0) as bus:
        for backend in ("asyncio", "trio"):
            anyio.run(read, 100, backend=backend)
        before, descriptors = _blocks(), _descriptors()
        for backend in ("asyncio", "trio"):
            anyio.run(read, count // 4, backend=backend)
        _settle(bus)
        assert _blocks() - before < NOISE_BLOCKS
        assert _descriptors() <= descriptors


def test_stream_that_is_read_in_one_loop_after_another(numbered: Numbered) -> None:
    """A stream that is read in many loops, one after another, keeps no loop that has ended."""

    async def read(number: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish_when_waited_for, number)
            assert (await stream.receive()).attempt == number

    async def publish_when_waited_for(number: int) -> None:
        await anyio.wait_all_tasks_blocked()
        bus.publish(numbered("main", number))

    with EventBus(history=0) as bus:
        stream = bus.stream(NodeProgress)
        stream.open()
        for number in range(20):
            anyio.run(read, number)
        before = _blocks()
        for number in range(150):
            anyio.run(read, number)
        assert _blocks() - before < NOISE_BLOCKS
        stream.close()


def test_polled_drains() -> None:
    """Drains that end at their deadline, or are cancelled, leak nothing."""

    async def poll(each: int) -> None:
        for number in range(each):
            with anyio.CancelScope() as scope:
                if number % 2:
                    scope.cancel()
                assert not await bus.drain(timeout=0)

    with EventBus() as bus:
        bus.subscribe(_hang, NodeProgress)
        bus.publish(_big_event(0))
        anyio.run(poll, 100)
        before = _blocks()
        anyio.run(poll, 10_000)
        assert _blocks() - before < NOISE_BLOCKS
        bus.close(0)


def test_cancelled_publish_waits(numbered: Numbered) -> None:
    """Waits for room that are cancelled leak nothing."""

    async def wait_in_vain(each: int) -> None:
        for number in range(each):
            with anyio.move_on_after(0):
                assert not await bus.publish_wait(numbered("main", number))

    bus = EventBus()
    bus.subscribe(_hang, NodeProgress, capacity=1, overflow=Overflow.WAIT)
    bus.publish(numbered("main", 0))
    anyio.run(wait_in_vain, 100)
    before = _blocks()
    anyio.run(wait_in_vain, 5_000)
    assert _blocks() - before < NOISE_BLOCKS
    assert bus.statistics().accepted == 1
    bus.close()


@pytest.mark.parametrize("host", ["own thread", "caller's loop"])
def test_buses(host: str, numbered: Numbered) -> None:
    """A closed bus leaks no object, thread or descriptor."""
    gone: list[weakref.ref[EventBus]] = []

    async def enter(bus: EventBus) -> None:
        async with bus:
            bus.publish(numbered("main", 0))

    def use() -> None:
        bus = EventBus([lambda _: None])
        gone.append(weakref.ref(bus))
        if host == "own thread":
            with bus:
                bus.publish(numbered("main", 0))
        else:
            anyio.run(enter, bus)

    use()
    before, descriptors = _blocks(), _descriptors()
    for _ in range(100):
        use()
    for thread in [each for each in threading.enumerate() if each.name.endswith("-host")]:
        thread.join(10)
    assert _blocks() - before < NOISE_BLOCKS
    assert _descriptors() <= descriptors
    # The thread that would have ended the close at its deadline ends a moment after the host.
    anyio.run(until, lambda: gc.collect() >= 0 and not any(ref() for ref in gone))


@pytest.mark.parametrize("left", ["a subscription", "a stream", "a tap"])
def test_buses_that_were_never_entered(left: str, numbered: Numbered) -> None:
    """A bus that is made, used and forgotten without being entered or closed leaks nothing."""

    def use() -> None:
        bus = EventBus()
        if left == "a subscription":
            bus.subscribe(lambda _: None, NodeProgress)
        elif left == "a stream":
            bus.stream(NodeProgress).open()
        else:
            bus.tap(NodeCompleted).connect(_ignore)
        bus.publish(numbered("main", 0))

    for _ in range(20):
        use()
    before = _blocks()
    for _ in range(300):
        use()
    assert _blocks() - before < NOISE_BLOCKS


def _ignore(event: object) -> None:
    """Receive, and ignore."""


def _subscribe_and_unsubscribe(bus: EventBus, count: int) -> None:
    for _ in range(count):
        bus.subscribe(lambda _: None, NodeProgress).unsubscribe()


def _settle(bus: EventBus) -> None:
    """Let the bus's thread end the tasks of subscriptions that have ended."""
    last = bus.subscribe(lambda _: None, NodeCompleted)
    bus.publish(NodeCompleted(workflow_id="reliability", node_id="last"))
    for _ in range(3):
        anyio.run(bus.drain)
    last.unsubscribe()
    anyio.run(bus.drain)


def _descriptors() -> int:
    listed = Path("/dev/fd")
    if not listed.exists():  # pragma: no cover - not on this system
        return 0
    return sum(1 for _ in listed.iterdir())
