"""How long nodes, runs and skills usually take, and whether they have become slower.

Pure: lists of ends go in, figures come out. Only successes are compared, with those of the same workflow
and node: a failure stops early, or waits for a timeout.

    usual     the median of the last 20 successes before
    slower    by more than 20 %, and more than 1 s, and more than 3 times the usual deviation

The deviation is the median of the distances from the median: one run on a busy machine does not change it.
Of several runs, the median of the last 5 is compared with the 20 before them. It must also be longer than
nine in ten took before the slow ones began: without that, every fourth look at a node that is quick only
where its cache is warm gave a false alarm.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Literal, NamedTuple, Self, TypeAlias

from eventbus.events.outcomes import Outcome

__all__ = [
    "Attempt",
    "Change",
    "Durations",
    "Subject",
    "Success",
    "Usual",
    "change_of",
    "median_in_parts",
    "quantile",
]

LATEST, BEFORE = 5, 20
_FEWEST = 3  # successes, of which the median says something
_FEWEST_BEFORE = 10
_PART, _SECONDS, _DEVIATIONS = 0.2, 1.0, 3.0
_MOST = 0.9


class Subject(NamedTuple):
    """What takes the time.

    Attributes:
        kind: A run, a node, a skill; or an action that followed a skill, whose name is in `node`.
        name: The workflow or the skill.
        node: The node; empty for a run or a skill.
    """

    kind: Literal["run", "node", "skill", "action"]
    name: str
    node: str = ""


class Attempt(NamedTuple):
    """One end of a subject.

    Attributes:
        ended: When, in seconds since the epoch.
        seconds: How long it took; None if unknown.
        outcome: How it ended.
        session: The session that it was in.
    """

    ended: float
    seconds: float | None
    outcome: Outcome
    session: str


Success: TypeAlias = tuple[float, float]
"""When a success ended, in seconds since the epoch, and how long it took."""


class Usual(NamedTuple):
    """What was usual.

    Attributes:
        seconds: The median.
        deviation: The median of the distances from it.
    """

    seconds: float
    deviation: float

    def is_slower(self, seconds: float) -> bool:
        """Return True if a duration is longer by more than chance."""
        longer = seconds - self.seconds
        return longer > max(_PART * self.seconds, _SECONDS, _DEVIATIONS * self.deviation)

    def excess(self, seconds: float | None) -> float | None:
        """Return how much longer something took; None if it is not slower than usual."""
        return None if seconds is None or not self.is_slower(seconds) else seconds - self.seconds


class Change(NamedTuple):
    """A subject became slower.

    Attributes:
        part: By how much, as a part of what it took before.
        since: When the first of the slow ones ended.
    """

    part: float
    since: float


class Durations:
    """The successes of a subject, in the order of their ends.

    Args:
        successes: All of them, in this order.
    """

    def __init__(self, successes: Iterable[Success]) -> None:
        found = list(successes)
        self.ends: list[float] = [ended for ended, _ in found]
        self.seconds: list[float] = [seconds for _, seconds in found]

    @classmethod
    def of(cls, attempts: Iterable[Attempt]) -> Self:
        """Return the successes among all ends of a subject, which come in any order."""
        return cls(
            sorted(
                (each.ended, each.seconds)
                for each in attempts
                if each.seconds is not None and each.outcome == "succeeded"
            )
        )

    def usual(self, before: float) -> Usual | None:
        """Return what was usual before a time; None if too little is known.

        Only what came before counts, so that the answer about an old session never changes.
        """
        end = bisect_left(self.ends, before)
        return _usual(self.seconds[max(0, end - BEFORE) : end], _FEWEST)


def change_of(durations: Durations) -> Change | None:
    """Return how much slower the latest successes are than those before; None if they are not."""
    latest, before = durations.seconds[-LATEST:], durations.seconds[-LATEST - BEFORE : -LATEST]
    usual = _usual(before, _FEWEST_BEFORE)
    now = median(latest) if latest else 0.0
    if usual is None or not usual.is_slower(now):
        return None
    seconds = [*before, *latest]
    number = _first_slow(seconds, (usual.seconds + now) / 2)
    if now <= (quantile(seconds[:number], _MOST) or 0.0):
        return None
    part = (now - usual.seconds) / usual.seconds if usual.seconds else 1.0
    return Change(part, durations.ends[number - len(before) - len(latest)])


def _usual(seconds: Sequence[float], fewest: int) -> Usual | None:
    if len(seconds) < fewest:
        return None
    middle = median(seconds)
    return Usual(middle, median(abs(each - middle) for each in seconds))


def _first_slow(seconds: Sequence[float], limit: float) -> int:
    """Return the place of the first of the last values above a limit; one in between may be below."""
    first = max(number for number in range(len(seconds)) if seconds[number] > limit)
    below = 0
    for number in range(first, -1, -1):
        if seconds[number] > limit:
            first, below = number, 0
            continue
        below += 1
        if below > 1:
            break
    return first


def quantile(seconds: Iterable[float], part: float) -> float | None:
    """Return the value that this part of the values does not exceed; None without values."""
    values = sorted(seconds)
    return values[min(int(part * len(values)), len(values) - 1)] if values else None


def median_in_parts(durations: Durations, start: float, end: float, parts: int) -> Iterator[float | None]:
    """Yield the median of each part of a period, None for one without successes."""
    bounds = [start + (end - start) * number / parts for number in range(parts + 1)]
    places = [bisect_left(durations.ends, bound) for bound in bounds]
    for first, last in pairwise(places):
        yield median(durations.seconds[first:last]) if last > first else None
