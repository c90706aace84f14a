"""Keep a tracker from harming the work it observes.

A tracker accepts any value as a name or as metadata, publishes to a sink it did not make, and runs in
any thread, in finalizers and in forked children. None of this may raise or wait.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from eventbus.contracts import EventSink
from eventbus.delivery.current_bus import current_bus
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.events import Event
from eventbus.events.json_safe import json_safe_mapping

__all__ = [
    "GuardedSink",
    "as_bool",
    "as_text",
    "as_texts",
    "attempt_number",
    "finite",
    "metadata_copy",
    "warn_of_failure",
]

_MAX_TEXTS = 4_096
_MAX_INTEGER = 2**53  # beyond it JSON readers disagree


class GuardedSink:
    """Publishes to one sink, or to the current bus at each event, and never raises.

    Attributes:
        failures: How many exceptions were kept from the observed work.
        publish_unguarded: The sink's own `publish`, for callers with their own `try`.

    Raises:
        TypeError: The sink has no `publish` method.
    """

    def __init__(self, sink: EventSink | None) -> None:
        if sink is not None and not callable(getattr(sink, "publish", None)):
            raise TypeError(
                f"{type(sink).__name__} is not a bus: it has no publish(). Pass a session as session_id="
            )
        self.publish_unguarded: Callable[[Event], object] = (
            _publish_to_current if sink is None else sink.publish
        )
        self._log = RateLimitedLog(logging.getLogger("eventbus.trackers"), "observing")
        self.failures: int = 0

    def publish(self, event: Event) -> bool:
        """Return True if there is a sink and it accepted the event."""
        try:
            return bool(self.publish_unguarded(event))
        except Exception as error:  # noqa: BLE001 - a broken sink must not stop the observed work
            self.record_failure(error)
            return False

    def record_failure(self, error: Exception) -> None:
        """Count an exception that was kept from the observed work, and log its type."""
        self.failures += 1
        warn_of_failure(self._log, error)


def _publish_to_current(event: Event) -> bool:
    sink = current_bus()
    return sink is not None and sink.publish(event)


def warn_of_failure(log: RateLimitedLog, error: Exception) -> None:
    """Log that observing failed; only the exception's type, since its text may be private."""
    cause = type(error).__name__
    log.warn(cause, f"failed: {cause}; the observed work continues")


def as_text(value: object) -> str:
    """Return any value as an exact `str`."""
    try:
        return str.__str__(value if isinstance(value, str) else str(value))
    except Exception:  # noqa: BLE001 - a hostile __str__
        return f"<{type(value).__name__}>"


def as_texts(values: Iterable[object] | None) -> tuple[str, ...]:
    """Return values as texts, at most 4,096 of them; a single text is one value."""
    texts: list[str] = []
    with suppress(Exception):  # not iterable, or a hostile iterator: keep the values before the error
        if isinstance(values, str):
            return (as_text(values),)
        texts.extend(as_text(value) for value in islice(values or (), _MAX_TEXTS))
    return tuple(texts)


def metadata_copy(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a shallow copy of metadata, with exact `str` keys. The event makes the deep one.

    A mapping that cannot be read is replaced here, before the tracker changes its state: otherwise an
    attempt would end without an event.
    """
    try:
        if not metadata:
            return {}
        copy = dict(metadata)
        # A subclass of `str` may hash as it likes: `error_message` would not be found under it.
        return copy if all(type(key) is str for key in copy) else json_safe_mapping(copy)
    except Exception:  # noqa: BLE001 - not a mapping, or a hostile one
        return {"metadata": f"<{type(metadata).__name__}>"}


def finite(value: object) -> float | None:
    """Return a number that JSON can represent, or None for anything else."""
    if type(value) is int and abs(value) < _MAX_INTEGER:
        return value
    try:
        number = float(value) if type(value) is int or type(value) is float else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_bool(value: object) -> bool:
    """Return the truth of a value; False if asking for it raises."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - such as an array of several values
        return False


def attempt_number(value: object) -> int | None:
    """Return a number that counts from 1, or None for anything else."""
    return value if type(value) is int and 0 < value < _MAX_INTEGER else None
