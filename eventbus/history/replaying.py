"""Publish stored events onto a bus again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio.lowlevel

from eventbus.delivery.own_thread import OwnThread
from eventbus.events import Event
from eventbus.events.provenance import mark_read_from

if TYPE_CHECKING:
    from eventbus.bus import EventBus

__all__ = ["publish_all"]

_EVENTS_PER_TURN = 64


async def publish_all(batches: Iterator[list[Event]], bus: EventBus, origin: str) -> int:
    """Publish events read from a log; return how many the bus accepted before it was closed."""
    accepted = 0
    thread = OwnThread("eventbus-log-replay")
    try:
        while batch := await thread.run(next, batches, None):
            for event in batch:
                if not await bus.publish_wait(mark_read_from(event, origin)):
                    return accepted
                accepted += 1
                if not accepted % _EVENTS_PER_TURN:  # subscribers may run in this event loop
                    await anyio.lowlevel.checkpoint()
    finally:
        thread.end()
    return accepted
