"""The subjects of events: ``eventbus.<session>.<event type>``.

Both are tokens of one level, so that the server selects one session of all, or one type. A token contains
the characters that need no thought; every other byte is written ``%XX``. A token is never empty.
"""

from __future__ import annotations

import hashlib
import re

from eventbus.event_classes import event_classes
from eventbus.events import Event, UnknownEvent, event_types

__all__ = ["ALL_EVENTS", "ANY", "session_filter", "subject_of", "token", "type_filter", "wire_name"]

ALL_EVENTS = "eventbus.>"
"""The subject that selects all events."""

ANY = "*"
"""The token that selects any session."""

_MAX_TOKEN = 120
_NONE = "~"
_EMPTY = "~empty"
_SPECIAL = re.compile(rb"[^A-Za-z0-9_-]")


def token(text: str | None) -> str:
    """Return a text as one level of a subject; different texts have different tokens.

    Args:
        text: Any text, lone surrogates too, or None.

    Returns:
        At most 120 characters: of a longer token the end is replaced by ``~`` and the SHA-256 of the text.
    """
    if not text:
        return _NONE if text is None else _EMPTY
    data = text.encode("utf-8", "surrogatepass")
    escaped = _SPECIAL.sub(lambda match: b"%%%02X" % match[0][0], data).decode("ascii")
    if len(escaped) <= _MAX_TOKEN:
        return escaped
    # No escaped text contains a ~, so no short token is equal to a long one.
    digest = hashlib.sha256(data).hexdigest()
    return f"{escaped[: _MAX_TOKEN - len(digest) - 1]}~{digest}"


def subject_of(event: Event) -> str:
    """Return the subject that an event is shipped under."""
    return f"eventbus.{token(event.session_id)}.{token(wire_name(event))}"


def wire_name(event: Event) -> str:
    """Return the ``event_type`` in the line of an event."""
    if isinstance(event, UnknownEvent):
        return event.unknown_type
    return str(event.__struct_config__.tag)


def session_filter(session_id: str | None) -> str:
    """Return the subject that selects the events of one session; of None those without a session."""
    return f"eventbus.{token(session_id)}.>"


def type_filter(events: object, session: str = ANY) -> list[str]:
    """Return the subjects that select events of some classes, with their subclasses.

    Args:
        events: An event class, or a union of them.
        session: The `token` of one session, by default any.

    Raises:
        SubscriberError: `events` is not an event class or a union of them.
    """
    wanted = event_classes(events)
    if Event in wanted:
        return [f"eventbus.{session}.>"]
    names = [name for name, each in event_types().items() if issubclass(each, wanted)]
    return [f"eventbus.{session}.{token(name)}" for name in names]
