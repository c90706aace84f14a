"""Mark events by their origin: read from a log, or received from another host.

A program that tails a log and publishes its events onto a bus whose persister writes to the same log
would write each event again; two such programs would pass one event back and forth for ever. So
tailing and replaying mark their events, and a persister excludes the events of its own log. Events of
other hosts are excluded from every log, because what a log contains is shipped to all hosts.

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

__all__ = ["exclude_read_from", "is_new_here", "is_remote", "mark_as_remote", "mark_read_from"]

_EventT = TypeVar("_EventT", bound=Event)
_REMOTE = "\0remote"
"""The origin of the events of other hosts; no path contains a NUL."""

_marked: set[str] = set()  # the origins of which this process has events
_metadata_of: Callable[[Event], dict[str, Any]] = operator.attrgetter("metadata")


class _MarkedMetadata(dict[str, Any]):
    """The metadata of an event that did not happen here."""

    __slots__ = ("origin",)
    origin: str


def mark_read_from(event: _EventT, log: str) -> _EventT:
    """Mark an event as read from a log.

    Args:
        event: The event, which is changed in place: it must not be shared yet.
        log: The log's real path.
    """
    return _mark(event, log)


def mark_as_remote(event: _EventT) -> _EventT:
    """Mark an event as received from another host: no persister writes it, and it is not shipped again.

    Args:
        event: The event, which is changed in place: it must not be shared yet.
    """
    return _mark(event, _REMOTE)


def is_remote(event: Event) -> bool:
    """Return True if an event is marked as received from another host."""
    return _origin_of(event) == _REMOTE


def is_new_here(event: Event) -> bool:
    """Return True if an event was published in this process first: not read from a log, and not remote."""
    return _origin_of(event) is None


def exclude_read_from(events: Sequence[Event], log: str) -> Sequence[Event]:
    """Return the events that belong into a log: not those that were read from it, and no remote ones.

    Args:
        events: Any events.
        log: The log's real path.
    """
    if _marked.isdisjoint((log, _REMOTE)):  # the usual case: this process does not read the log it writes
        return events
    if _MarkedMetadata not in set(map(type, map(_metadata_of, events))):
        return events
    return [event for event in events if _origin_of(event) not in (log, _REMOTE)]


def _mark(event: _EventT, origin: str) -> _EventT:
    metadata = _MarkedMetadata(event.metadata)
    metadata.origin = origin
    force_setattr(event, "metadata", metadata)
    _marked.add(origin)
    return event


def _origin_of(event: Event) -> str | None:
    return getattr(event.metadata, "origin", None)
