"""Subscribers without a defect, of many kinds, about which the conformance suite has to say nothing."""

# ruff: noqa: D102, ASYNC

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO
from operator import attrgetter
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from eventbus_subscribers import ConsoleProgress, EventLogger, JsonPersister, LiveCorrelator

from eventbus import (
    Event,
    EventBus,
    EventsLost,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    Overflow,
    OwnThread,
    PatternDetected,
    Subscriber,
)


class Counts(Subscriber[Event]):
    """Counts in memory."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    async def handle(self, event: Event) -> None:
        self.counts[type(event).__name__] += 1


class CountsBatches(Subscriber[NodeEvent | EventsLost]):
    """Gets batches, and awaits a little."""

    max_batch = 4

    async def handle_batch(self, events: Sequence[NodeEvent | EventsLost]) -> None:
        await anyio.lowlevel.checkpoint()


class IsPlain(Subscriber[NodeCompleted]):
    """Has no async method at all."""

    def handle(self, event: NodeCompleted) -> None:  # type: ignore[override]
        self.last = event


class ShowsProgress(Subscriber[NodeProgress]):
    """Coalesces."""

    overflow = Overflow.COALESCE

    def __init__(self) -> None:
        self.key = attrgetter("node_id")

    async def handle(self, event: NodeProgress) -> None: ...


class Reports(Subscriber[NodeCompleted]):
    """Publishes what it finds, once, from the events alone."""

    async def start(self, bus: EventBus) -> None:
        self.bus = bus
        self.failed: Counter[str | None] = Counter()

    async def handle(self, event: NodeCompleted) -> None:
        self.failed[event.session_id] += not event.success
        if self.failed[event.session_id] == 2:
            await anyio.lowlevel.checkpoint()
            self.bus.publish(
                PatternDetected(session_id=event.session_id, pattern="flaky", message=event.node_id)
            )


class HasAThread(Subscriber[NodeEvent]):
    """Hands blocking work to a thread of its own."""

    def __init__(self) -> None:
        self._thread = OwnThread("good-thread")

    async def handle(self, event: NodeEvent) -> None:
        await self._thread.run(threading.get_ident)

    async def stop(self) -> None:
        self._thread.end()


class UsesThePool(Subscriber[NodeEvent]):
    """Hands blocking work to anyio's threads."""

    async def handle(self, event: NodeEvent) -> None:
        await anyio.to_thread.run_sync(threading.get_ident, abandon_on_cancel=True)


class CleansUp(Subscriber[NodeEvent]):
    """Cleans up when it is cancelled, and raises the cancellation again."""

    async def handle(self, event: NodeEvent) -> None:
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()


class HasADeadline(Subscriber[NodeEvent]):
    """Cancels work of its own."""

    async def handle(self, event: NodeEvent) -> None:
        with anyio.move_on_after(0.001):
            await anyio.sleep(60)


class StartsTasks(Subscriber[NodeEvent]):
    """Starts tasks, and waits for them."""

    async def handle(self, event: NodeEvent) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)


class SubscribesMore(Subscriber[NodeEvent]):
    """Subscribes a handler, and ends that subscription."""

    async def start(self, bus: EventBus) -> None:
        self.inner = bus.subscribe(self.count, NodeEvent)

    async def count(self, event: NodeEvent) -> None: ...

    async def handle(self, event: NodeEvent) -> None: ...

    async def stop(self) -> None:
        self.inner.unsubscribe()


def console(directory: Any) -> ConsoleProgress:
    """Show progress to nobody."""
    return ConsoleProgress(StringIO(), mode="plain", directory=directory)


def good(directory: Any) -> dict[str, Callable[[], Subscriber[Any]]]:
    """Return the good subscribers by name; those that write do so in a directory."""
    kinds = (
        Counts, CountsBatches, IsPlain, ShowsProgress, Reports, HasAThread, UsesThePool, CleansUp,
        HasADeadline, StartsTasks, SubscribesMore, LiveCorrelator, EventLogger,
    )  # fmt: skip
    return {
        **{kind.__name__: kind for kind in kinds},
        "JsonPersister": partial(JsonPersister, directory),
        "ConsoleProgress": partial(console, directory),
    }
