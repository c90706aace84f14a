"""Mark events as read from a log, so that a persister does not write them to that log again.

A program that tails a log and publishes its events onto a bus whose persister writes to the same log
would write each event again; two such programs would pass one event back and forth for ever. So
tailing and replaying mark their events, and a persister excludes the events of its own log.

The mark is the type of the event's metadata. It costs nothing, changes no comparison and no
encoding, and is lost when a new event is made from the old one. Rejected: a key in the metadata,
which every consumer would see, and a registry of events, which grows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec.structs import force_setattr

from eventbus.events.event import Event

__all__ = ["exclude_read_from", "mark_read_from"]

_EventT = TypeVar("_EventT", bound=Event)
_marked: set[str] = set()  # logs from which this process has read events
_metadata_of: Callable[[Event], dict[str, Any]] = operator.attrgetter("metadata")


class _MetadataFromLog(dict[str, Any]):
    """The metadata of an event that was read from a log."""

    __slots__ = ("log",)
    log: str


def mark_read_from(event: _EventT, log: str) -> _EventT:
    """Mark an event as read from a log.

    Args:
        event: The event, which is changed in place: it must not be shared yet.
        log: The log's real path.
    """
    metadata = _MetadataFromLog(event.metadata)
    metadata.log = log
    force_setattr(event, "metadata", metadata)
    _marked.add(log)
    return event


def exclude_read_from(events: Sequence[Event], log: str) -> Sequence[Event]:
    """Return the events that were not read from a log.

    Args:
        events: Any events.
        log: The log's real path.
    """
    if log not in _marked:  # the usual case: this process does not read the log it writes
        return events
    if _MetadataFromLog not in set(map(type, map(_metadata_of, events))):
        return events
    return [event for event in events if getattr(event.metadata, "log", None) != log]
