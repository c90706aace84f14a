"""Times, durations and quantities as text for people."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from eventbus.events.printable import printable
from eventbus.events.words import duration_text as duration

__all__ = [
    "duration",
    "elapsed",
    "local_time",
    "loss",
    "of_attempt",
    "quantity",
    "size",
    "when",
]

_WEEK = 7  # days


def quantity(number: int, singular: str, plural: str = "") -> str:
    """Return a number and its noun, such as ``1 segment``; the plural ends in s by default."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def local_time(timestamp: str) -> str:
    """Return an ISO 8601 timestamp as local time, to the second."""
    time = datetime.fromisoformat(timestamp)
    with suppress(OverflowError, ValueError, OSError):  # in the year 1 or 9999, it may have no local time
        time = time.astimezone()
    return f"{time:%Y-%m-%d %H:%M:%S}"


def when(timestamp: str, now: datetime | None) -> str:
    """Return an ISO 8601 timestamp as local time, as people say it.

    Args:
        timestamp: The time.
        now: The time it is told from; None for one that is the same whenever it is read.

    Returns:
        ``today 23:41``, ``yesterday 23:41``, ``Mon 23:41`` within a week, else as `local_time`.
    """
    local = local_time(timestamp)
    if now is None:
        return local
    time = datetime.fromisoformat(local)
    days = (now.date() - time.date()).days
    if not 0 <= days < _WEEK:
        return local
    day = ("today", "yesterday")[days] if days < 2 else f"{time:%a}"  # noqa: PLR2004
    return f"{day} {time:%H:%M}"


def elapsed(start: str, end: str | None) -> str:
    """Return the duration between two ISO 8601 timestamps, or ``open`` if there is no end yet."""
    if end is None:
        return "open"
    return duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def loss(count: int, *, as_sentence: bool = False) -> str:
    """Return how many events are missing in a log: as a sentence, or to stand behind the word "lost"."""
    verb = (" was lost" if count == 1 else " were lost") if as_sentence else ""
    return f"{quantity(count, 'event')}{verb} before they were stored: the figures may be too low"


def of_attempt(node_id: str, attempt: int) -> str:
    """Return the name of an attempt at a node."""
    return printable(node_id) if attempt == 1 else f"{printable(node_id)}, attempt {attempt}"


def size(count: float) -> str:
    """Return a number of bytes, such as ``6.8 MiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1_024:  # noqa: PLR2004 - the factor between units
            return f"{count:.0f} {unit}"
        count /= 1_024
    return f"{count:.1f} GiB"
