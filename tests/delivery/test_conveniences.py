"""Subscriptions in a `with` block, and waiting for one event."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from eventbus import Event, EventBus, EventsLost, EventStream, StreamStateError, Subscription

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 10


class Tick(Event):
    """Event number n."""

    n: int


def is_number(n: int) -> Callable[[Tick], bool]:
    return lambda tick: tick.n == n


def publish(bus: EventBus, *numbers: int) -> None:
    for n in numbers:
        bus.publish(Tick(n=n))


def read(stream: EventStream[Tick]) -> list[int]:
    numbers: list[int] = []
    try:
        while True:
            numbers.append(stream.receive_nowait().n)
    except (anyio.WouldBlock, anyio.EndOfStream):
        return numbers


# 61. Subscriptions.


def test_a_subscription_in_a_with_block() -> None:
    """A subscription is a context manager: leaving its `with` block unsubscribes."""
    got: list[Event] = []
    with EventBus() as bus:
        with bus.subscribe(got.append, Tick) as subscription:
            assert isinstance(subscription, Subscription)
            assert list(bus.statistics().subscriptions) == [subscription.name]
        assert bus.statistics().subscriptions == {}
        publish(bus, 1)
    assert got == []


def test_a_block_that_raises() -> None:
    """A `with` block of a subscription that is left by an exception unsubscribes, and passes it on."""
    bus = EventBus()
    with pytest.raises(ZeroDivisionError), bus.subscribe(print, Tick):
        raise ZeroDivisionError
    assert bus.statistics().subscriptions == {}


def test_a_block_around_a_subscription_that_has_ended() -> None:
    """A subscription may be ended inside its block, by hand or by closing the bus."""
    with EventBus() as bus:
        with bus.subscribe(print, Tick) as subscription:
            subscription.unsubscribe()
        late = bus.subscribe(print, Tick)
    with late:
        pass
    assert bus.statistics().subscriptions == {}


# 62. The next event for which a predicate is true.


async def test_waiting_for_an_event() -> None:
    """`wait_for` returns the next event of a stream with a true predicate, and consumes those before it."""
    async with EventBus() as bus, bus.stream(Tick) as ticks, anyio.create_task_group() as tasks:
        publish(bus, 1, 2, 3, 4)
        assert (await ticks.wait_for(is_number(3))).n == 3
        assert read(ticks) == [4]

        async def publish_later() -> None:
            await anyio.wait_all_tasks_blocked()
            publish(bus, 5, 6)
            await anyio.wait_all_tasks_blocked()
            publish(bus, 7, 8)

        tasks.start_soon(publish_later)
        assert (await ticks.wait_for(is_number(7), timeout=PATIENCE_SECONDS)).n == 7
        assert read(ticks) == [8]


async def test_the_first_of_several() -> None:
    """`wait_for` takes one event: the first that matches."""
    async with EventBus() as bus, bus.stream(Tick) as ticks:
        publish(bus, 1, 2)
        assert [(await ticks.wait_for(lambda tick: tick.n > 0)).n for _ in range(2)] == [1, 2]


async def test_waiting_for_a_loss() -> None:
    """A predicate is asked about losses, too, where the stream includes `EventsLost`."""
    async with EventBus() as bus, bus.stream((Tick, EventsLost), capacity=2) as events:
        publish(bus, 1, 2, 3)
        lost = await events.wait_for(lambda event: isinstance(event, EventsLost))
        assert isinstance(lost, EventsLost)
        assert lost.count == 1


# 63. Timeouts and closing.


async def test_an_event_that_does_not_come_in_time() -> None:
    """`wait_for` raises `TimeoutError` after its timeout, and names its predicate."""

    def is_late(tick: Tick) -> bool:
        return tick.n > 3

    async with EventBus() as bus, bus.stream(Tick) as ticks:
        publish(bus, 1, 2, 3)
        with pytest.raises(TimeoutError) as caught:
            await ticks.wait_for(is_late, timeout=0.01)
        publish(bus, 4)
        assert read(ticks) == [4]
    name = f"{test_an_event_that_does_not_come_in_time.__name__}.<locals>.is_late"
    assert str(caught.value) == (
        f"no event for which {name} is true came within 0.01 s; it was false for 3 others"
    )


async def test_a_timeout_of_zero() -> None:
    """With a timeout of 0, `wait_for` looks at the queued events and waits for none."""
    async with EventBus() as bus, bus.stream(Tick) as ticks:
        publish(bus, 1, 2)
        assert (await ticks.wait_for(is_number(2), timeout=0)).n == 2
        with pytest.raises(TimeoutError, match="within 0 s; it was false for 0 others"):
            await ticks.wait_for(is_number(2), timeout=0)


async def test_a_predicate_without_a_name() -> None:
    """A predicate without a name is shown as it is."""

    class IsLate:
        def __call__(self, tick: Tick) -> bool:
            return False

        def __repr__(self) -> str:
            return "IsLate()"

    async with EventBus() as bus, bus.stream(Tick) as ticks:
        with pytest.raises(TimeoutError, match=r"for which IsLate\(\) is true"):
            await ticks.wait_for(IsLate(), timeout=0)


async def test_a_bus_that_closes_first() -> None:
    """`wait_for` raises `anyio.EndOfStream` when the bus closes before such an event."""
    async with EventBus() as bus, bus.stream(Tick) as ticks, anyio.create_task_group() as tasks:

        async def close_later() -> None:
            await anyio.wait_all_tasks_blocked()
            publish(bus, 1)
            await bus.aclose()

        tasks.start_soon(close_later)
        with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(anyio.EndOfStream):
            await ticks.wait_for(is_number(2), timeout=2 * PATIENCE_SECONDS)


async def test_a_closed_bus() -> None:
    """`wait_for` finds what is queued in a stream of a closed bus, and then raises `anyio.EndOfStream`."""
    async with EventBus() as bus, bus.stream(Tick) as ticks:
        publish(bus, 1, 2)
        await bus.aclose()
        assert (await ticks.wait_for(is_number(2))).n == 2
        with pytest.raises(anyio.EndOfStream):
            await ticks.wait_for(is_number(2))


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
async def test_a_predicate_that_raises(error: type[Exception]) -> None:
    """What a predicate raises comes out of `wait_for`; its event is consumed."""

    def fail(tick: Tick) -> bool:
        raise error("by the predicate")

    async with EventBus() as bus, bus.stream(Tick) as ticks:
        publish(bus, 1, 2)
        with pytest.raises(error, match="by the predicate"):
            await ticks.wait_for(fail, timeout=PATIENCE_SECONDS)
        assert read(ticks) == [2]


async def test_a_stream_that_cannot_be_waited_on() -> None:
    """A stream that is not open, or has another reader, raises `StreamStateError`."""
    async with EventBus() as bus:
        with pytest.raises(StreamStateError, match="not open"):
            await bus.stream(Tick).wait_for(is_number(1), timeout=1)
        async with bus.stream(Tick) as ticks, anyio.create_task_group() as tasks:
            tasks.start_soon(ticks.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(StreamStateError, match="another task"):
                await ticks.wait_for(is_number(1), timeout=PATIENCE_SECONDS)
            tasks.cancel_scope.cancel()


# 64. Cancellation.


async def test_waiting_that_is_cancelled() -> None:
    """A `wait_for` that is cancelled has consumed only the events that its predicate rejected."""
    async with EventBus() as bus, bus.stream(Tick) as ticks, anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def wait() -> None:
            with scope:
                await ticks.wait_for(is_number(0))

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        publish(bus, 1, 2)
        await anyio.wait_all_tasks_blocked()
        publish(bus, 3, 4)  # they wake the task, which is cancelled before it runs
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert scope.cancelled_caught
        assert read(ticks) == [3, 4]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_waiting_that_asyncio_cancels() -> None:
    """asyncio's own `Task.cancel` loses no event of a `wait_for`, either."""
    import asyncio

    async with EventBus() as bus, bus.stream(Tick) as ticks:
        task = asyncio.ensure_future(ticks.wait_for(is_number(0), timeout=PATIENCE_SECONDS))
        await anyio.wait_all_tasks_blocked()
        publish(bus, 1, 2)
        await anyio.wait_all_tasks_blocked()
        publish(bus, 3, 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert read(ticks) == [3, 4]


async def test_a_deadline_that_passes_with_an_event() -> None:
    """An event that comes with the deadline is returned, or is still in the stream."""
    async with EventBus() as bus, bus.stream(Tick) as ticks:
        found: list[int] = []

        async def wait(n: int) -> None:
            with suppress(TimeoutError):
                found.append((await ticks.wait_for(is_number(n), timeout=0.000_1)).n)

        for n in range(200):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, n)
                await anyio.sleep(0.000_1)
                publish(bus, n)
            found += read(ticks)
        assert found == list(range(200))
