"""How many of the seconds in skills were also seconds in runs: a skill often wraps a run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import accumulate

__all__ = ["Interval", "overlap"]

Interval = tuple[datetime, float]
"""An end, and the seconds before it."""


def overlap(skills: list[Interval] | None, runs: list[Interval] | None) -> float:
    """Return the seconds of skills during which at least one run was going."""
    if not skills or not runs:
        return 0.0
    if len(skills) == len(runs) == 1:  # nearly always, and ten times as fast
        ((skill_end, in_skill),), ((run_end, in_run),) = skills, runs
        end = (skill_end - run_end).total_seconds()
        return max(0.0, min(end, 0.0) - max(end - in_skill, -in_run))
    zero = min(ended for ended, _ in runs)
    covered = _Covered(_within(zero, runs))
    return sum(covered.before(end) - covered.before(start) for start, end in _within(zero, skills))


def _within(zero: datetime, intervals: Iterable[Interval]) -> list[tuple[float, float]]:
    """Return starts and ends in seconds since an instant, sorted, so that sums do not depend on the order."""
    ends = (((ended - zero).total_seconds(), seconds) for ended, seconds in intervals)
    return sorted((end - seconds, end) for end, seconds in ends)


class _Covered:
    """The seconds that at least one of some intervals covers."""

    def __init__(self, intervals: list[tuple[float, float]]) -> None:
        disjoint = list(_disjoint(intervals))
        self._starts = [start for start, _ in disjoint]
        self._lengths = [end - start for start, end in disjoint]
        self._sums = list(accumulate(self._lengths, initial=0.0))

    def before(self, instant: float) -> float:
        place = bisect_right(self._starts, instant) - 1
        if place < 0:
            return 0.0
        return self._sums[place] + min(instant - self._starts[place], self._lengths[place])


def _disjoint(intervals: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Join sorted intervals that overlap."""
    start, end = intervals[0]
    for each_start, each_end in intervals[1:]:
        if each_start > end:
            yield start, end
            start, end = each_start, each_end
        end = max(end, each_end)
    yield start, end
