"""Which events of a log are wanted, and how to pass over the others without decoding them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from eventbus.contracts import EventTypes
from eventbus.event_classes import event_classes
from eventbus.events import Event, UnknownEvent, event_types

__all__ = ["Selection"]

_PLAIN = re.compile(r"[0-9A-Za-z_.:@ -]+")
"""Every JSON writer writes these characters as they are."""
_MAX_NAMES = 8


class Selection:
    """What is wanted: every condition given holds.

    Args:
        session_id: The session; None for all, and for events of no session.
        types: An event class, or a union of them; subclasses are included.
        since: The earliest time, inclusive; a naive one is local.
        until: The latest time, exclusive; a naive one is local.

    Attributes:
        takes_all: Whether every event is wanted.
        mark: Found in every line that may be wanted; None where no search of bytes can tell.

    Raises:
        SubscriberError: `types` is something else.
    """

    __slots__ = ("_classes", "_session_id", "_since", "_until", "mark", "takes_all")

    def __init__(
        self,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        classes = event_classes(types)
        self._session_id = session_id
        self._classes = None if Event in classes else classes
        self._since = since and since.astimezone(UTC)
        self._until = until and until.astimezone(UTC)
        self.takes_all: bool = (session_id, self._classes, since, until) == (None, None, None, None)
        self.mark: re.Pattern[bytes] | None = _mark(session_id, self._classes)

    def takes(self, event: Event) -> bool:
        """Whether an event is wanted."""
        return (
            (self._session_id is None or event.session_id == self._session_id)
            and (self._classes is None or isinstance(event, self._classes))
            and (self._since is None or event.timestamp >= self._since)
            and (self._until is None or event.timestamp < self._until)
        )


Search = Callable[[bytes], Iterator[int]]
"""Yields places in the given lines, at least one within each that may be wanted."""


def _mark(session_id: str | None, classes: tuple[type[Event], ...] | None) -> re.Pattern[bytes] | None:
    """Return what to look for: the session, of which there are more than of types, if it is given."""
    if session_id is not None:
        return re.compile(re.escape(b'"%b"' % session_id.encode())) if _PLAIN.fullmatch(session_id) else None
    if classes is None or UnknownEvent in classes:
        return None
    names = [name for name, cls in event_types().items() if issubclass(cls, classes)]
    if len(names) > _MAX_NAMES or not all(map(_PLAIN.fullmatch, names)):
        return None
    return re.compile(rb'"event_type"\s*:\s*"(?:%b)"' % "|".join(map(re.escape, names)).encode())
