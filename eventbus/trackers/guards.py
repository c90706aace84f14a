"""What keeps a tracker from harming the work it observes.

A tracker is handed anything as a name or as metadata, publishes to a sink it knows nothing about,
and runs in any thread, in finalizers and in forked children. Nothing of that may raise or wait.
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
from eventbus.events import Event

__all__ = ["QuietSink", "as_text", "as_texts", "copied", "finite", "ordinal", "truth"]

_MAX_TEXTS = 4_096
_MAX_CAUSES = 32
_MAX_INTEGER = 2**53  # beyond it JSON readers disagree
_logger = logging.getLogger("eventbus.trackers")


class QuietSink:
    """Publishes to one sink, or to the current one each time, and never raises.

    Attributes:
        failures: How many exceptions were kept from the observed work.
        unguarded: `publish`, for whoever keeps what it raises from the observed work themselves.

    Raises:
        TypeError: What was given has no `publish` method.
    """

    def __init__(self, sink: EventSink | None) -> None:
        if sink is not None and not callable(getattr(sink, "publish", None)):
            raise TypeError(
                f"{type(sink).__name__} is no bus: it has no publish(). A session goes in session_id="
            )
        self.unguarded: Callable[[Event], object] = _publish_to_current if sink is None else sink.publish
        self._told: set[str] = set()
        self.failures: int = 0

    def publish(self, event: Event) -> bool:
        """Answer whether a sink was there and accepted the event."""
        try:
            return bool(self.unguarded(event))
        except Exception as error:  # noqa: BLE001 - whatever it is, the observed work goes on
            self.failed(error)
            return False

    def failed(self, error: Exception) -> None:
        """Count an exception that was kept from the observed work; log the first of its type."""
        self.failures += 1
        cause = type(error).__name__
        if cause in self._told or len(self._told) >= _MAX_CAUSES:
            return
        self._told.add(cause)
        with suppress(Exception):  # a broken logging handler is no reason to harm it either
            # The type only: the text of an exception may be private.
            _logger.warning("observing failed: %s; what is observed goes on", cause)


def _publish_to_current(event: Event) -> bool:
    sink = current_bus()
    return sink is not None and sink.publish(event)


def as_text(value: object) -> str:
    """Return a name as an exact `str`, whatever was given for it."""
    try:
        return str.__str__(value if isinstance(value, str) else str(value))
    except Exception:  # noqa: BLE001 - a hostile __str__
        return f"<{type(value).__name__}>"


def as_texts(values: Iterable[object] | None) -> tuple[str, ...]:
    """Return names as texts, at most 4,096 of them; a single text stands for itself."""
    texts: list[str] = []
    with suppress(Exception):  # no iterable, or a hostile one: what it gave so far counts
        if isinstance(values, str):
            return (as_text(values),)
        texts.extend(as_text(value) for value in islice(values or (), _MAX_TEXTS))
    return tuple(texts)


def copied(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a JSON-safe copy of metadata: the caller's own is never changed.

    An event makes one, too; but by then an attempt has been ended that could no longer be told of.
    """
    try:
        return Event(session_id=None, metadata=dict(metadata)).metadata if metadata else {}
    except Exception:  # noqa: BLE001 - no mapping, or a hostile one
        return {"metadata": f"<{type(metadata).__name__}>"}


def finite(value: object) -> float | None:
    """Return a number that JSON can say, or None for anything else."""
    if type(value) is int and abs(value) < _MAX_INTEGER:
        return value
    try:
        number = float(value) if type(value) is int or type(value) is float else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def truth(value: object) -> bool:
    """Return whether a value is true; what cannot say so is not."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - such as an array of several values
        return False


def ordinal(value: object) -> int | None:
    """Return a number that counts something from 1, or None for anything else."""
    return value if type(value) is int and 0 < value < _MAX_INTEGER else None
