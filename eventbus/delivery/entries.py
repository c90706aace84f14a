"""What is queued: events, and the gaps where events were lost."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias, cast

from eventbus.events import Event, EventsLost

__all__ = ["Entry", "Envelope", "Gap", "event_of"]


class Envelope:
    """An event with its depth in a chain, and its keys.

    Attributes:
        event: The event.
        depth: How many handlers led to it, each handling the event that the one before published.
        keys: Its key for each subscription that coalesces.
    """

    __slots__ = ("depth", "event", "keys")

    def __init__(self, event: Event, depth: int, keys: dict[Any, Hashable]) -> None:
        self.event: Event = event
        self.depth: int = depth
        self.keys: dict[Any, Hashable] = keys


Entry: TypeAlias = Event | Envelope
"""What is queued: most events as they are, those that handlers published in an `Envelope`.

The event's number is not kept with it: a tuple for each event would cost as much as everything else.
"""


def event_of(entry: Entry) -> Event:
    """Return an entry's event."""
    return entry.event if type(entry) is Envelope else cast("Event", entry)


class Gap:
    """Lost events between two others: their count, and the bus's numbers of the first and last."""

    __slots__ = ("count", "first", "last")

    def __init__(self, first: int, last: int, count: int) -> None:
        self.count = count
        self.first = first
        self.last = last

    def joined(self, later: Gap) -> Gap:
        """Return this gap and the one that follows it as one."""
        return Gap(self.first, later.last, self.count + later.count)

    def as_event(self) -> EventsLost:
        """Return the event that reports it."""
        # The consumer's own session has nothing to do with it.
        return EventsLost(session_id=None, count=self.count, first_seq=self.first, last_seq=self.last)
