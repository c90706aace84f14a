"""How long a task that takes events keeps the loop to itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from eventbus import EventBus, EventStream, Subscriber
from eventbus.delivery import turn
from eventbus.delivery.turn import EVENTS_PER_LOOK, TURN_SECONDS
from tests.vocabulary import Tick, ignore, until

BURST = 1_000
BURSTS = 12


class Batches(Subscriber[Tick]):
    """Ignores batches."""

    async def handle_batch(self, events: Sequence[Tick]) -> None:
        """Ignore a batch."""


class Clock:
    """A clock that only the test moves, so that a busy machine changes nothing."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        """Return the time."""
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turn, "elapsed_seconds", clock)
    return clock


async def _publish_bursts(bus: EventBus, burst: int) -> None:
    await anyio.lowlevel.checkpoint()
    for _ in range(BURSTS):
        for n in range(burst):
            bus.publish(Tick(n=n))
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["async", "batch", "stream"])
@pytest.mark.usefixtures("clock")
async def test_bursts(kind: str, anyio_backend_name: str) -> None:
    """A publisher that yields to its loop once after each burst loses nothing, if a burst is at most half a
    mailbox's capacity (under trio a quarter) and each subscriber handles it within a millisecond.
    """
    capacity = BURST * (4 if anyio_backend_name == "trio" else 2)
    async with EventBus() as bus, bus.stream(Tick, capacity=capacity) as stream:
        for _ in range(3):
            bus.subscribe(ignore if kind == "async" else Batches(), Tick, capacity=capacity)
        async with anyio.create_task_group() as tasks:
            if kind == "stream":
                tasks.start_soon(_read, stream)
            await _publish_bursts(bus, BURST)
            report = await bus.drain()
            losses = {each.name: each.lost for each in report.subscriptions.values()}
            if kind != "stream":
                del losses["stream"]  # nobody reads it
            assert not any(losses.values()), losses
            tasks.cancel_scope.cancel()


async def _read(stream: EventStream[Tick]) -> None:
    async for _ in stream:
        pass


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["async", "batch", "stream"])
async def test_the_others_get_their_turn(clock: Clock, kind: str, anyio_backend_name: str) -> None:
    """A task that takes events yields to the other tasks of its loop when a millisecond has passed, even if
    it never waits; it looks at the clock after each 256 events or each batch.
    """
    clock.step = TURN_SECONDS
    at_turns: list[int] = []
    done = 0

    async def handle(_: Tick) -> None:
        nonlocal done
        done += 1

    class Counting(Subscriber[Tick]):
        max_batch = EVENTS_PER_LOOK

        async def handle_batch(self, events: Sequence[Tick]) -> None:
            nonlocal done
            done += len(events)

    async def count_turns() -> None:
        while True:
            at_turns.append(done)
            await anyio.lowlevel.checkpoint()

    async with EventBus() as bus, bus.stream(Tick) as stream, anyio.create_task_group() as tasks:
        if kind != "stream":
            bus.subscribe(handle if kind == "async" else Counting(), Tick)
        for n in range(1_024):
            bus.publish(Tick(n=n))
        tasks.start_soon(count_turns)
        if kind == "stream":
            async for event in stream:
                await handle(event)
                if event.n == 1_023:
                    break
        await until(lambda: done == 1_024)
        tasks.cancel_scope.cancel()
    # trio runs the tasks of one round in random order: one may come before and after another.
    rounds = 2 if anyio_backend_name == "trio" else 1
    assert max(after - before for before, after in pairwise([*at_turns, done])) <= rounds * EVENTS_PER_LOOK
