"""Tell events that were read from a log from those that are new.

Tail a log and publishing what comes onto a bus whose persister writes to that same log would
write each event again, and two processes that do so would hand one event back and forth for ever.
So whatever follows or replays marks its events, and a persister leaves out those of its own log.

The mark is the type of the event's metadata: it costs nothing, changes no comparison and no
encoding, and is lost where a new event is made from the old one. Rejected: a key in the metadata,
which every consumer would see; and a registry of events, which grows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec.structs import force_setattr

from eventbus.events.event import Event

__all__ = ["exclude_read_from", "mark_read_from"]

_EventT = TypeVar("_EventT", bound=Event)
_marked: set[str] = set()  # the logs that events of this process were read from
_metadata_of: Callable[[Event], dict[str, Any]] = operator.attrgetter("metadata")


class _MetadataFromLog(dict[str, Any]):
    """An event's metadata, and the log it was read from."""

    __slots__ = ("log",)
    log: str


def mark_read_from(event: _EventT, log: str) -> _EventT:
    """Note that an event was read from a log; nobody else may hold it yet.

    Args:
        event: The event, which is changed.
        log: The log's real path.
    """
    metadata = _MetadataFromLog(event.metadata)
    metadata.log = log
    force_setattr(event, "metadata", metadata)
    _marked.add(log)
    return event


def exclude_read_from(events: Sequence[Event], log: str) -> Sequence[Event]:
    """Return the events that were not read from a log: what whoever writes to it has to write.

    Args:
        events: Any events.
        log: The log's real path.
    """
    if log not in _marked:  # nearly always: nothing in this process reads the log it writes
        return events
    if _MetadataFromLog not in set(map(type, map(_metadata_of, events))):
        return events
    return [event for event in events if getattr(event.metadata, "log", None) != log]
