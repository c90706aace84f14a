"""What is usual, and what is slower: no false alarm by chance, and no real change missed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from eventbus.events.outcomes import Outcome
from eventbus.views.durations import (
    Attempt,
    Durations,
    change_of,
    median_in_parts,
    quantile,
)

DAY = 86_400.0
Noise = Callable[[random.Random], float]
SHAPES: dict[str, tuple[Noise, float]] = {
    "constant": (lambda _: 30.0, 0.0),
    "machine noise of 10 %": (lambda dice: 30 * dice.lognormvariate(0, 0.1), 0.005),
    "machine noise of 30 %": (lambda dice: 30 * dice.lognormvariate(0, 0.3), 0.01),
    "short and wild": (lambda dice: 0.3 * dice.lognormvariate(0, 0.5), 0.001),
    "a busy machine, one run in ten": (lambda dice: dice.choice([1] * 9 + [3]) * dice.gauss(30, 3), 0.02),
    "cold caches, one run in three": (lambda dice: dice.choice([5, 5, 20]) * dice.gauss(1, 0.1), 0.04),
    "cold caches, two runs in five": (
        lambda dice: dice.choice([5] * 3 + [20] * 2) * dice.gauss(1, 0.1),
        0.04,
    ),
    "times without any scale": (lambda dice: dice.expovariate(1 / 30), 0.02),
}


def durations(*seconds: float, outcome: Outcome = "succeeded") -> Durations:
    return Durations.of(Attempt(day * DAY, each, outcome, "s") for day, each in enumerate(seconds))


@pytest.mark.parametrize("shape", SHAPES)
def test_chance_gives_no_alarm(shape: str) -> None:
    """Where nothing changed, at most 4 looks in 100 find a node slower, whatever its times look like."""
    noise, most = SHAPES[shape]
    dice = random.Random(20261126)
    looks = 1_000
    alarms = sum(change_of(durations(*(noise(dice) for _ in range(25)))) is not None for _ in range(looks))
    assert alarms / looks <= most


@pytest.mark.parametrize(("factor", "least"), [(1.4, 0.9), (1.5, 0.98), (2.0, 1.0)])
def test_a_real_change_is_found(factor: float, least: float) -> None:
    """Of nodes that became half as slow again, under noise of 10 %, 98 in 100 are found after 5 runs."""
    dice = random.Random(20261126)
    looks = 500
    found = 0
    for _ in range(looks):
        times = [30 * dice.lognormvariate(0, 0.1) * (factor if run >= 20 else 1) for run in range(25)]
        found += change_of(durations(*times)) is not None
    assert found / looks >= least


def test_slower_is_said_with_how_much_and_since_when() -> None:
    """The change is between the medians; it began with the first of the slow runs."""
    change = change_of(durations(*[10.0] * 20, *[15.0] * 5))
    assert change is not None
    assert (change.part, change.since) == (0.5, 20 * DAY)
    change = change_of(durations(*[10.0] * 20, *[15.0] * 4, 9.0, *[15.0] * 3))
    assert change is not None
    assert change.since == 20 * DAY


@pytest.mark.parametrize(
    "seconds",
    [
        (),
        (10.0, 99.0),
        (*[10.0] * 9, *[99.0] * 5),  # too few before
        (*[10.0] * 20, *[11.9] * 5),  # less than 20 %
        (*[2.0] * 20, *[2.9] * 5),  # less than a second
        (*[7.0, 13.0] * 10, *[18.0] * 5),  # less than 3 times the deviation
        (*[10.0] * 20, 99.0, 10.0, 99.0, 10.0, 10.0),  # two outliers
        (*[10.0] * 20, *[5.0] * 5),  # faster
        (*[10.0] * 20, *[15.0] * 30),  # for so long that it is usual now
        (*[0.0] * 20, *[0.9] * 5),
    ],
)
def test_not_slower(seconds: tuple[float, ...]) -> None:
    """Everything that misses one of the conditions is no change."""
    assert change_of(durations(*seconds)) is None


def test_usual_is_what_came_before() -> None:
    """The usual duration is the median of the last 20 successes before a time, of 3 at least."""
    found = durations(*[100.0] * 10, *[10.0] * 20, *[1.0] * 9)
    usual = found.usual(30 * DAY)
    assert usual is not None
    assert (usual.seconds, usual.deviation) == (10.0, 0.0)
    assert (usual.excess(11.9), usual.excess(12.5), usual.excess(None)) == (None, 2.5, None)
    assert found.usual(2 * DAY) is None
    assert found.usual(3 * DAY) == (100.0, 0.0)
    assert durations(*[1.0] * 9, outcome="failed").usual(99 * DAY) is None


def test_of_a_period() -> None:
    """A period is told by the median of each of its parts; a quantile is one of the values."""
    found = durations(1.0, 2.0, 9.0, 4.0)
    assert list(median_in_parts(found, 0, 6 * DAY, 3)) == [1.5, 6.5, None]
    assert (quantile([], 0.9), quantile([3.0], 0.9), quantile(range(1, 11), 0.9)) == (None, 3.0, 10)
