"""Which events of a log are wanted, and how to skip most of the others without decoding them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from eventbus.contracts import EventTypes
from eventbus.event_classes import event_classes
from eventbus.events import Event, UnknownEvent
from eventbus.events.event import classes_by_wire_name

__all__ = ["Selection"]

_NEVER_ESCAPED = re.compile(r"[0-9A-Za-z_.:@ -]+")
"""Texts that look the same in the JSON of every writer."""
_MAX_NAMES = 8


class Selection:
    """The conditions that an event has to meet, all of them.

    Args:
        session_id: The session; None for all sessions and events without one.
        types: An event class or a union of classes; subclasses are included.
        since: The earliest time, inclusive; a naive time is local.
        until: The latest time, exclusive; a naive time is local.

    Attributes:
        matches_all: True if every event matches.
        pattern: Every line with a matching event contains a match of it, and so may other lines. None
            if bytes cannot show which lines match.

    Raises:
        SubscriberError: `types` is not an event class or a union of them.
    """

    __slots__ = ("_classes", "_session_id", "_since", "_until", "matches_all", "pattern")

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
        self.matches_all: bool = (session_id, self._classes, since, until) == (None, None, None, None)
        self.pattern: re.Pattern[bytes] | None = _pattern(session_id, self._classes)

    def read_as(self, raw_types: Mapping[type[Any], type[Event]]) -> None:
        """Let objects of these types match as events of the mapped classes do."""
        if self._classes is not None:
            self._classes += tuple(raw for raw, cls in raw_types.items() if issubclass(cls, self._classes))

    def matches(self, event: Event) -> bool:
        """Return True if an event meets all conditions."""
        return (
            (self._session_id is None or event.session_id == self._session_id)
            and (self._classes is None or isinstance(event, self._classes))
            and (self._since is None or event.timestamp >= self._since)
            and (self._until is None or event.timestamp < self._until)
        )


def _pattern(session_id: str | None, classes: tuple[type[Event], ...] | None) -> re.Pattern[bytes] | None:
    if session_id is not None:  # which is more selective than types
        is_searchable = _NEVER_ESCAPED.fullmatch(session_id)
        return re.compile(re.escape(b'"%b"' % session_id.encode())) if is_searchable else None
    if classes is None or UnknownEvent in classes:
        return None
    known = classes_by_wire_name().items()
    names = [name for name, of_name in known if any(issubclass(cls, classes) for cls in of_name)]
    if len(names) > _MAX_NAMES or not all(map(_NEVER_ESCAPED.fullmatch, names)):
        return None
    return re.compile(rb'"event_type"\s*:\s*"(?:%b)"' % "|".join(map(re.escape, names)).encode())
