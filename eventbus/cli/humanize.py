"""Say times and durations as people do."""

from __future__ import annotations

from datetime import datetime

__all__ = ["began", "counted", "duration", "took"]

_MINUTE, _HOUR = 60, 3_600


def duration(seconds: float) -> str:
    """Return a duration such as ``0.2s``, ``1m05s`` or ``2h03m``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)}m{int(seconds % _MINUTE):02}s"
    return f"{int(seconds // _HOUR)}h{int(seconds % _HOUR // _MINUTE):02}m"


def counted(number: int, one: str, many: str = "") -> str:
    """Return how many there are of a thing, such as ``1 segment``; its plural ends in s by default."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def began(start: str) -> str:
    """Return an instant in ISO 8601 as local time, to the second."""
    return f"{datetime.fromisoformat(start).astimezone():%Y-%m-%d %H:%M:%S}"


def took(start: str, end: str | None) -> str:
    """Return how long it is from one instant to another; ``open`` where there is no end yet."""
    if end is None:
        return "open"
    return duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
