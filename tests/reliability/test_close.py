"""Closing at any moment, from anywhere: every event is delivered or counted.

A schedule is drawn from a seed: the host, the subscribers, the publishers, the closers, the number of events
and the timeout. In each schedule the counts must balance, the handlers must have seen the events that the
report counts, and the close must be on time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from eventbus import DrainReport, Event, EventBus, NodeProgress, Overflow, Subscriber

if TYPE_CHECKING:
    from tests.reliability.conftest import Check, Item, ItemsOf, Numbered

SIZES = [pytest.param(100, id="quick"), pytest.param(1_000, id="nightly", marks=pytest.mark.nightly)]
GRACE_SECONDS = 0.1
NOISE_SECONDS = 0.4
"""What other programs on the machine may add: the schedules share two cores with everything else."""
PATIENCE_SECONDS = 30

CLOSERS = (
    "main",
    "main task",
    "other thread",
    "other loop",
    "handler",
    "handler task",
    "cancelled task",
    "two",
)
KINDS = ("plain", "async", "sleepy", "hung", "deaf", "raising", "batch", "slow start", "slow stop")


@dataclass
class Reader(Subscriber[NodeProgress]):
    """A subscriber of one kind, and the events it got."""

    kind: str
    capacity: int
    overflow: Overflow
    close: Callable[[], Awaitable[None] | None] | None = None
    close_at: int = 0
    got: list[Event] = field(default_factory=list)

    events = NodeProgress

    def __post_init__(self) -> None:
        self.name = self.kind

    async def start(self, bus: EventBus) -> None:
        """Start, slowly if it is of that kind."""
        if self.kind == "slow start":
            await anyio.sleep(0.01)

    async def handle(self, event: NodeProgress) -> None:
        """Keep the event, close the bus if this is the moment, and behave like its kind."""
        self.got.append(event)
        if self.close is not None and len(self.got) == self.close_at:
            closing = self.close()
            if closing is not None:
                await closing
        await self._behave()

    async def stop(self) -> None:
        """Stop, slowly if it is of that kind."""
        if self.kind == "slow stop":
            await anyio.sleep(0.01)

    async def _behave(self) -> None:
        if self.kind == "async":
            await anyio.lowlevel.checkpoint()
        elif self.kind == "sleepy":
            await anyio.sleep(0.001)
        elif self.kind == "hung" and len(self.got) >= 3:
            await anyio.sleep_forever()
        elif self.kind == "deaf" and len(self.got) >= 3:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
        elif self.kind == "raising" and not len(self.got) % 3:
            raise ValueError(self.kind)


class BatchReader(Reader):
    """A subscriber that gets batches."""

    async def handle_batch(self, events: Sequence[NodeProgress]) -> None:
        """Handle them one by one."""
        for event in events:
            await self.handle(event)


@dataclass
class Schedule:
    """One run, drawn from a seed."""

    seed: int
    rng: random.Random
    numbered: Numbered
    attempted: list[Item] = field(default_factory=list)
    accepted: list[Item] = field(default_factory=list)
    reports: list[DrainReport] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    moment: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        rng = self.rng
        self.backend = rng.choice(("asyncio", "trio"))
        self.host = rng.choice(("own thread", "caller's loop", "never entered"))
        self.closer = rng.choice(CLOSERS)
        self.timeout = rng.choice((0.0, 0.01, 0.03))
        self.events = rng.choice((0, 1, 10, 100, 400))
        self.close_after = rng.randint(0, self.events)
        self.threads = rng.randint(0, 2)
        self.bus = EventBus(history=rng.choice((0, 1_024)))
        self.readers = [self._draw_reader() for _ in range(rng.randint(1, 4))]
        for reader in self.readers:
            self.bus.subscribe(reader)
        if self.closer.startswith("handler"):
            self.readers[0].close = self.close_in_task if self.closer == "handler task" else self.close
            self.readers[0].close_at = rng.randint(1, 20)

    def __str__(self) -> str:
        kinds = [(reader.kind, reader.capacity, reader.overflow.name) for reader in self.readers]
        return (
            f"schedule {self.seed}: {self.host}, {self.backend}, closed by {self.closer} after "
            f"{self.close_after} of {self.events} in {self.timeout} s, {self.threads} threads, {kinds}"
        )

    def _draw_reader(self) -> Reader:
        kind = self.rng.choice(KINDS)
        make = BatchReader if kind == "batch" else Reader
        overflow = self.rng.choice((Overflow.DROP_OLDEST, Overflow.DROP_NEWEST, Overflow.WAIT))
        return make(kind, self.rng.choice((1, 8, 2_048)), overflow)

    # Publishing.

    def publish(self, publisher: str, number: int) -> None:
        """Publish one event; set the moment when it has come."""
        self.attempted.append((publisher, number))
        if self.bus.publish(self.numbered(publisher, number)):
            self.accepted.append((publisher, number))
        if len(self.attempted) >= self.close_after:
            self.moment.set()

    def publish_from_thread(self, publisher: str) -> None:
        """Publish the thread's share."""
        for number in range(self.events):
            self.publish(publisher, number)

    # Closing.

    def close(self) -> None:
        """Close from a thread, or from sync code."""
        began = time.monotonic()
        self._note(self.bus.close(self.timeout), began)

    async def close_in_task(self) -> None:
        """Close from a task."""
        began = time.monotonic()
        self._note(await self.bus.aclose(self.timeout), began)

    def _note(self, report: DrainReport, began: float) -> None:
        self.took.append(time.monotonic() - began)
        if self.bus.report is not None:
            self.reports.append(report)

    # Running.

    def run(self) -> None:
        """Run the schedule, and leave the bus closed."""
        if self.host == "own thread":
            with self.bus:
                anyio.run(self._run_in_loop, backend=self.backend)
        elif self.host == "never entered":
            anyio.run(self._run_in_loop, backend=self.backend)
        else:
            anyio.run(self._run_entered, backend=self.backend)
        self.close()

    async def _run_entered(self) -> None:
        async with self.bus:
            await self._run_in_loop()

    async def _run_in_loop(self) -> None:
        threads = [
            threading.Thread(target=self.publish_from_thread, args=(f"thread {n}",))
            for n in range(self.threads)
        ]
        for thread in threads:
            thread.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._publish_and_close)
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join, PATIENCE_SECONDS)
            assert not thread.is_alive()
        if not self.closer.startswith("main"):
            await self.close_in_task()

    async def _publish_and_close(self) -> None:
        closing = self._close_from(self.closer)
        async with anyio.create_task_group() as tasks:
            if closing is not None and not self.closer.startswith("main"):
                tasks.start_soon(self._close_at_the_moment, closing)
            for number in range(self.events):
                self.publish("task", number)
                if not self.rng.randrange(8):
                    await anyio.lowlevel.checkpoint()
                if closing is not None and self.closer.startswith("main") and number == self.close_after:
                    await closing()
            self.moment.set()
        if closing is not None and self.closer.startswith("main"):
            await closing()

    async def _close_at_the_moment(self, closing: Callable[[], Awaitable[None]]) -> None:
        while not self.moment.is_set():
            await anyio.lowlevel.checkpoint()
        await closing()

    def _close_from(self, closer: str) -> Callable[[], Awaitable[None]] | None:
        in_other_loop = partial(anyio.run, self.close_in_task, backend=self.backend)
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "main": self._close_here,
            "main task": self.close_in_task,
            "other thread": partial(anyio.to_thread.run_sync, self.close),
            "other loop": partial(anyio.to_thread.run_sync, in_other_loop),
            "cancelled task": self._close_cancelled,
            "two": self._close_twice_at_once,
        }
        return ways.get(closer)

    async def _close_here(self) -> None:
        self.close()

    async def _close_cancelled(self) -> None:
        with anyio.CancelScope() as scope:
            if self.rng.randrange(2):
                scope.cancel()
            else:
                scope.deadline = anyio.current_time() + self.timeout / 2
            await self.close_in_task()

    async def _close_twice_at_once(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.close_in_task)
            tasks.start_soon(anyio.to_thread.run_sync, self.close)


@pytest.mark.usefixtures("_threads_interleave")
@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("count", SIZES)
def test_random_schedules(
    count: int, part: int, seed: int, check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """Every event accepted before a close is delivered, reported as undelivered, or counted as lost.

    A close returns at most 100 ms after its timeout, whatever handlers do; the remaining events are reported
    as undelivered. Closing twice, from anywhere, gives the same report.
    """
    for number in range(count):
        own_seed = seed + number
        schedule = Schedule(own_seed, random.Random(own_seed), numbered)
        try:
            schedule.run()
            _check_counts(schedule, check, items_of)
            _check_closes(schedule)
        except BaseException as error:
            error.add_note(str(schedule))
            raise


def _check_counts(schedule: Schedule, check: Check, items_of: ItemsOf) -> None:
    report = schedule.bus.report
    assert report is not None
    delivered = undelivered = lost = 0
    for reader, snapshot in zip(schedule.readers, report.subscriptions.values(), strict=True):
        faults = check(schedule.attempted, schedule.accepted, items_of(reader.got))
        assert not faults["duplicated"] + faults["reordered"] + faults["unexpected"]
        assert snapshot.delivered >= len(reader.got)  # a batch counts when it is passed to the handler
        if reader.kind != "batch":
            assert snapshot.delivered == len(reader.got)
        assert len(faults["lost"]) == snapshot.accepted - len(reader.got)
        assert (
            snapshot.accepted
            == len(schedule.accepted)
            == snapshot.delivered + snapshot.lost + snapshot.queued
        )
        delivered, undelivered, lost = (
            delivered + snapshot.delivered,
            undelivered + snapshot.queued,
            lost + snapshot.lost,
        )
    assert (report.delivered, report.undelivered, report.lost) == (delivered, undelivered, lost)
    assert not schedule.bus.publish(schedule.numbered("late", 0))


def _check_closes(schedule: Schedule) -> None:
    assert schedule.took
    assert max(schedule.took) <= schedule.timeout + GRACE_SECONDS + NOISE_SECONDS
    assert all(report == schedule.bus.report for report in schedule.reports)
    for report in schedule.reports:
        assert report.duration_seconds <= schedule.timeout + GRACE_SECONDS + NOISE_SECONDS
