"""Order under load: with many threads and tasks publishing at once, nothing is out of place."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from eventbus import Event, EventBus, NodeProgress, Overflow, Subscriber

if TYPE_CHECKING:
    from tests.reliability.conftest import Check, Item, ItemsOf, Numbered

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("_threads_interleave")]

SIZES = [
    pytest.param((4, 2, 4_000), id="quick"),
    pytest.param((8, 4, 50_000), id="nightly", marks=pytest.mark.nightly),
]
PATIENCE_SECONDS = 300


class Batches(Subscriber[Event]):
    """Receives in batches."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.got: list[Event] = []

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Keep them."""
        self.got += events


class Publishers:
    """Threads and tasks that publish at once, and the results of their `publish` calls."""

    def __init__(self, bus: EventBus, numbered: Numbered, size: tuple[int, int, int]) -> None:
        self._bus = bus
        self._numbered = numbered
        self._threads, self._tasks, self._each = size
        self.attempted: list[Item] = []
        self.accepted: list[Item] = []
        self._start = threading.Barrier(self._threads)

    @property
    def total(self) -> int:
        """The number of events they publish together."""
        return (self._threads + self._tasks) * self._each

    async def run(self) -> None:
        """Publish everything, then return."""
        threads = [
            threading.Thread(target=self._publish_from_thread, args=(f"thread {n}",))
            for n in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        async with anyio.create_task_group() as tasks:
            for n in range(self._tasks):
                tasks.start_soon(self._publish_from_task, f"task {n}")
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join, PATIENCE_SECONDS)
            assert not thread.is_alive()

    def _publish(self, publisher: str, number: int) -> None:
        self.attempted.append((publisher, number))
        if self._bus.publish(self._numbered(publisher, number)):
            self.accepted.append((publisher, number))

    def _publish_from_thread(self, publisher: str) -> None:
        self._start.wait(PATIENCE_SECONDS)
        for number in range(self._each):
            self._publish(publisher, number)

    async def _publish_from_task(self, publisher: str) -> None:
        for number in range(self._each):
            self._publish(publisher, number)
            if not number % 10:
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("host", ["own thread", "caller's loop"])
async def test_order_with_many_publishers(
    host: str, size: tuple[int, int, int], check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """Each subscription gets its events once, in the order in which the bus accepted them."""
    bus = EventBus(history=0)
    publishers = Publishers(bus, numbered, size)
    singly: list[Event] = []
    streamed: list[Event] = []
    batches = Batches(publishers.total)
    bus.subscribe(singly.append, NodeProgress, capacity=publishers.total)
    bus.subscribe(batches)
    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(bus.stream(NodeProgress, capacity=publishers.total))
        await _enter(bus, host, stack)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read, stream, streamed, publishers.total)
            await publishers.run()
        report = await bus.aclose(PATIENCE_SECONDS)
    assert report.complete
    for got in (singly, batches.got, streamed):
        assert not any(check(publishers.attempted, publishers.accepted, items_of(got)).values())
    assert len(publishers.accepted) == publishers.total
    assert items_of(singly) == items_of(batches.got) == items_of(streamed)  # one order for all subscriptions


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST, Overflow.WAIT])
async def test_order_beyond_the_capacity(
    overflow: Overflow, size: tuple[int, int, int], check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """A mailbox that overflows loses as many events as it reports, and leaves the order of others intact."""
    got: list[Event] = []
    with EventBus(history=0) as bus:
        publishers = Publishers(bus, numbered, size)
        bus.subscribe(got.append, name="small", capacity=16, overflow=overflow)
        await publishers.run()
        report = await bus.aclose(PATIENCE_SECONDS)
    snapshot = report.subscriptions["small"]
    faults = check(publishers.attempted, publishers.accepted, items_of(got))
    assert not faults["duplicated"] + faults["reordered"] + faults["unexpected"]
    assert len(faults["lost"]) == snapshot.lost == publishers.total - snapshot.delivered
    assert snapshot.high_water <= 16


@pytest.mark.parametrize("size", SIZES)
async def test_order_when_publishers_wait(
    anyio_backend: str, size: tuple[int, int, int], check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """`publish_wait` loses no event when its callers wait in several loops for room in one mailbox."""
    loops, tasks_here, each = size
    here = [f"task {n}" for n in range(tasks_here)]
    elsewhere = [f"loop {n}" for n in range(loops)]
    attempted = [(publisher, number) for publisher in here + elsewhere for number in range(each // 20)]
    got: list[Event] = []

    async def publish_all(publisher: str) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            for number in range(each // 20):
                assert await bus.publish_wait(numbered(publisher, number))

    async def in_another_loop(publisher: str) -> None:
        await anyio.to_thread.run_sync(lambda: anyio.run(publish_all, publisher, backend=anyio_backend))

    with EventBus(history=0) as bus:
        bus.subscribe(got.append, NodeProgress, name="small", capacity=8, overflow=Overflow.WAIT)
        async with anyio.create_task_group() as tasks:
            for publisher in here:
                tasks.start_soon(publish_all, publisher)
            for publisher in elsewhere:
                tasks.start_soon(in_another_loop, publisher)
        report = await bus.aclose(PATIENCE_SECONDS)
    assert not any(check(attempted, attempted, items_of(got)).values())
    assert report.subscriptions["small"].high_water <= 8


async def _enter(bus: EventBus, host: str, stack: AsyncExitStack) -> None:
    if host == "own thread":
        stack.enter_context(bus)
    else:
        await stack.enter_async_context(bus)


async def _read(stream: AsyncIterable[Event], into: list[Event], count: int) -> None:
    async for event in stream:
        into.append(event)
        if len(into) == count:
            return
