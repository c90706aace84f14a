"""The time from the earliest start to the latest end of a session's skills or runs."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime, timedelta

import msgspec

from eventbus.correlation.bounded_memory import evict_oldest

__all__ = ["FAR_FUTURE", "Span", "before", "finite_seconds"]

FAR_FUTURE = datetime.max.replace(tzinfo=UTC)
_FAR_PAST = datetime.min.replace(tzinfo=UTC)
_MAX_SECONDS = timedelta.max.total_seconds()  # sums of these stay finite


# The garbage collector ignores this struct and those of the folds: a long history has hundreds of
# thousands of them, none is part of a cycle, and walking over them takes longer than the fold.
class Span(msgspec.Struct, gc=False):
    """The earliest start and the latest end.

    Attributes:
        limit: How many starts that were not seen are remembered; None for all.
        earliest: The earliest start seen.
        latest: The latest end.
        startless: The computed starts of items of which only the end was seen. Kept apart: if the
            start arrives later, its time replaces the computed one.
    """

    limit: int | None
    earliest: datetime = FAR_FUTURE
    latest: datetime = _FAR_PAST
    startless: dict[Hashable, datetime] | None = None

    def begin(self, key: Hashable, timestamp: datetime) -> None:
        """Include the start of an item."""
        self.earliest = min(self.earliest, timestamp)
        if self.startless:
            self.startless.pop(key, None)

    def end(self, timestamp: datetime) -> None:
        """Include the end of an item."""
        self.latest = max(self.latest, timestamp)

    def compute_start(self, key: Hashable, ended: datetime, seconds: float) -> None:
        """Include the start of an item that was not seen."""
        if self.startless is None:
            self.startless = {}
        self.startless[key] = before(ended, seconds)
        self.earliest = min(self.earliest, *evict_oldest(self.startless, self.limit), FAR_FUTURE)

    @property
    def start(self) -> datetime:
        """The earliest start, seen or computed."""
        return min(self.earliest, *self.startless.values()) if self.startless else self.earliest


def finite_seconds(duration: float | None) -> float:
    """Return a duration that can be added up: 0 for None, a negative number or not a number."""
    try:
        seconds = float(duration or 0)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(seconds, _MAX_SECONDS) if seconds > 0 else 0.0  # NaN > 0 is False


def before(timestamp: datetime, seconds: float) -> datetime:
    """Return the time this many seconds before another, or that time itself if there is none."""
    try:
        return timestamp - timedelta(seconds=seconds)
    except OverflowError:  # a file can claim a duration of 1e300 s
        return timestamp
