"""EventLogger: log every event through the standard `logging`, one record and one line each.

    node_completed workflow=crackerjack run=4f node=tests attempt=1 status=failed duration=22.4s session=7f3a

A line begins with the event's type. All values pass through `printable`, so that no event can end its
line, forge another one, or move a cursor.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from eventbus import (
    Event,
    EventsLost,
    EventTypes,
    OwnThread,
    SkillCompleted,
    Subscriber,
    SubscriberFailed,
    printable,
)

__all__ = ["EventLogger"]

_SHORT_NAMES = {
    "workflow_id": "workflow",
    "run_id": "run",
    "node_id": "node",
    "skill_name": "skill",
    "invocation_id": "invocation",
    "workflow_path": "path",
    "error_type": "error",
    "error_message": "message",
    "duration_seconds": "duration",
}
# The session is appended; `success` repeats `status`; metadata may be too long for a line, and can be
# read from the record's `event`.
_LEFT_OUT = {"session_id", "timestamp", "metadata", "success", "fields"}


class EventLogger(Subscriber[Event]):
    """Logs each event as one record, whose attribute ``event`` is the event itself.

    Log handlers run in a thread of this subscriber: one that hangs blocks no other subscriber.

    Args:
        logger: The logger to log to, or its name.
        level: The level of ordinary events.
        failure_level: The level of failures, abandoned skills and lost events.
        events: The class or union of the events to log.
    """

    max_batch: int = 256
    name: str | None = "event_logger"

    def __init__(
        self,
        logger: logging.Logger | str = "eventbus.events",
        *,
        level: int = logging.INFO,
        failure_level: int = logging.WARNING,
        events: EventTypes = Event,
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._failure_level = failure_level
        self.events = events
        self._thread = OwnThread("eventbus-event-logger")

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Log events.

        Args:
            events: At least one, in the bus's order.
        """
        enabled = self._logger.isEnabledFor
        if enabled(self._level) or enabled(self._failure_level):
            await self._thread.run(self._log_all, events)

    async def stop(self) -> None:
        """End the thread."""
        self._thread.end()

    def _log_all(self, events: Sequence[Event]) -> None:
        """Log all events, even if one fails, then raise the first error."""
        errors: list[Exception] = []
        for event in events:
            try:
                self._log(event)
            except Exception as error:  # noqa: BLE001 - from a filter or handler; the bus reports it
                errors.append(error)
        if errors:
            raise errors[0]

    def _log(self, event: Event) -> None:
        level = self._failure_level if _is_failure(event) else self._level
        if self._logger.isEnabledFor(level):
            # The line is an argument, so that a percent sign in it is not a format.
            self._logger.log(level, "%s", _line(event), extra={"event": event})


def _is_failure(event: Event) -> bool:
    if isinstance(event, SkillCompleted):
        return not event.completed
    return isinstance(event, EventsLost | SubscriberFailed) or getattr(event, "success", True) is False


def _line(event: Event) -> str:
    """Return the event's type and its fields, without empty ones."""
    kind = type(event)
    fields = {name: getattr(event, name) for name in kind.__struct_fields__ if name not in _LEFT_OUT}
    shown = [_field(name, value) for name, value in fields.items() if value is not None and value != ()]
    if event.session_id is not None:
        shown.append(f"session={_quoted(printable(event.session_id, scrubbed=False))}")
    return " ".join([printable(kind.__struct_config__.tag), *shown])


def _field(name: str, value: Any) -> str:
    if name == "duration_seconds" and isinstance(value, int | float):
        return f"duration={value:.1f}s" if value >= 10 else f"duration={value:.3f}s"  # noqa: PLR2004
    if isinstance(value, tuple):
        value = ",".join([printable(item) for item in value])  # pyright: ignore[reportUnknownVariableType]
    return f"{_SHORT_NAMES.get(name, name)}={_quoted(printable(value))}"


def _quoted(text: str) -> str:
    """Return a text in quotes if its end could not be seen without them."""
    if text and not any(char in text for char in ' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
