"""Times, durations and quantities as text for people."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

__all__ = ["duration", "elapsed", "local_time", "quantity"]

_MINUTE, _HOUR = 60, 3_600


def duration(seconds: float) -> str:
    """Return a duration such as ``0.2s``, ``1m05s`` or ``2h03m``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)}m{int(seconds % _MINUTE):02}s"
    return f"{int(seconds // _HOUR)}h{int(seconds % _HOUR // _MINUTE):02}m"


def quantity(number: int, singular: str, plural: str = "") -> str:
    """Return a number and its noun, such as ``1 segment``; the plural ends in s by default."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def local_time(timestamp: str) -> str:
    """Return an ISO 8601 timestamp as local time, to the second."""
    time = datetime.fromisoformat(timestamp)
    with suppress(OverflowError, ValueError, OSError):  # in the year 1 or 9999, it may have no local time
        time = time.astimezone()
    return f"{time:%Y-%m-%d %H:%M:%S}"


def elapsed(start: str, end: str | None) -> str:
    """Return the duration between two ISO 8601 timestamps, or ``open`` if there is no end yet."""
    if end is None:
        return "open"
    return duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
