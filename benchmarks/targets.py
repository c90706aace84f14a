"""What is to be reached, and what was."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks import oneiric_dag
from benchmarks.rounds import Measured, quantile

__all__ = ["TARGETS", "Outcome", "Target", "judge", "outcome_of"]

_ONLY_SHOWN = math.inf


class Target(NamedTuple):
    """One figure to reach.

    Attributes:
        what: What it is about.
        contest: Where it is measured.
        entry: Which entry's figure it is.
        reach: The most it should be: times what `against` takes, or in the contest's unit.
        against: The entry it is compared to; None for a figure that stands for itself.
        share: Which quantile of all samples counts, for a figure that stands for itself.
        lenience: How many times it is exceeded, in three rounds of four, where a run fails: by a
            gross regression, not a busy machine.
    """

    what: str
    contest: str
    entry: str
    reach: float
    against: str | None = None
    share: float = 0.5
    lenience: float = 2.0


class Outcome(NamedTuple):
    """What a target's figure was.

    Attributes:
        target: The target.
        figure: The median over the rounds of the ratio; or the quantile.
        low: The least of the rounds.
        spread: The middle half of the rounds: its first and last.
    """

    target: Target
    figure: float
    low: float
    spread: tuple[float, float]

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or ``FAILED`` for what fails a run."""
        if self.figure <= self.target.reach:
            return "met"
        return "FAILED" if self.spread[0] > self.target.reach * self.target.lenience else "missed"


_END = "end to end, 3 handlers"
_BEFORE = "end to end, 3 handlers, events built before"
_ASYNC, _BATCH = "eventbus, async handlers", "eventbus, batch handlers"
_CPU = "publish across threads, processor time"

TARGETS = [
    Target("publish to 3, beside blinker's send", "publish to 3", "eventbus", 0.25, "blinker"),
    Target(
        "the same, building the event too",
        "build and publish to 3",
        "eventbus",
        0.25,
        "blinker",
        lenience=_ONLY_SHOWN,
    ),
    Target("3 async handlers, beside a bare loop", _END, _ASYNC, 2.0, "bare loop"),
    Target("the same, events built before", _BEFORE, _ASYNC, 2.0, "bare loop", lenience=_ONLY_SHOWN),
    Target("the same, on trio", "end to end, 3 handlers, on trio", _ASYNC, 2.0, "bare loop"),
    Target("3 batch handlers, beside the same bare loop", _END, _BATCH, 1.0, "bare loop", lenience=3.0),
    Target("the same, events built before", _BEFORE, _BATCH, 1.0, "bare loop", lenience=_ONLY_SHOWN),
    Target(
        "3 async handlers, steadily",
        "end to end, 3 handlers, steadily",
        _ASYNC,
        2.0,
        "bare loop",
        lenience=3.0,
    ),
    Target(
        "1,000 subscriptions to other types",
        "publish beside others",
        "1 subscriber, 1,000 to other types",
        1.1,
        "1 subscriber",
    ),
    Target(
        "no subscriber, beside one",
        "publish beside others",
        "no subscriber",
        1.0,
        "1 subscriber",
        lenience=_ONLY_SHOWN,
    ),
    Target("publish from a thread, bus in a loop", _CPU, "1 to a bus in a loop", 1.5, "same thread"),
    Target("publish from a thread, bus in its own", _CPU, "1 to a bus in its own thread", 1.5, "same thread"),
    Target("one hung among 5", "publish beside a hung subscriber", "1 hung among 5", 1.2, "5 healthy"),
    Target(
        "store events, beside encoding and writing them",
        "store events",
        "JsonPersister, by itself",
        1 / 0.7,
        "encode_lines and os.write, 512 at a time",
        lenience=3.0,
    ),
    Target(
        "the same, behind a bus",
        "store events",
        "JsonPersister, behind a bus in its own thread",
        1 / 0.7,
        "encode_lines and os.write, 512 at a time",
        lenience=_ONLY_SHOWN,
    ),
    Target("publish, the disk hangs", "publish to a log", "a disk that hangs", 1.2, "a disk that answers"),
    Target(
        "correlate a stored history, beside decoding it",
        "correlate stored events",
        "a report of all sessions, no index",
        3.0,
        "msgspec decodes typed events, a block at a time",
    ),
    Target(
        "the same: peak memory, MB",
        "correlate stored events, peak memory",
        "a report of all sessions, no index",
        150.0,
    ),
    Target("report on one stored session, ms", "report on one stored session", "through the index", 100.0),
    *(
        Target(what, contest.name, oneiric_dag.OBSERVED, 1.05, oneiric_dag.UNOBSERVED)
        for contest, what in zip(
            oneiric_dag.CONTESTS,
            ("observe a DAG, beside not doing so", "the same, where Oneiric stores each node"),
            strict=False,
        )
    ),
    Target("import eventbus, ms", "import, fresh interpreter", "eventbus", 80.0),
    *(
        Target(
            f"publisher busy, a write every {every} ms: p99, us",
            "latency, publisher busy",
            f"eventbus, a write every {every} ms",
            20_000.0,
            share=0.99,
            lenience=5.0,
        )
        for every in ("0.2", "1", "3")
    ),
    Target(
        "publisher busy, what it gets done beside no bus",
        "a step of the work of a busy publisher",
        "eventbus",
        1.05,
        "no bus",
        lenience=_ONLY_SHOWN,
    ),
]


def judge(measured: Iterable[Measured]) -> list[Outcome]:
    """Return what became of each target that was measured."""
    by_name = {each.name: each for each in measured}
    return [
        outcome_of(target, by_name[target.contest])
        for target in TARGETS
        if target.contest in by_name and target.entry in by_name[target.contest].entries
    ]


def outcome_of(target: Target, measured: Measured) -> Outcome:
    """Return what became of one target."""
    if target.against is None:
        values = measured.all_samples(target.entry)
        rounds = [quantile(samples, target.share) for samples in measured.entries[target.entry]]
        figure = quantile(values, target.share)
    else:
        rounds = measured.ratios(target.entry, target.against)
        figure = statistics.median(rounds)
    return Outcome(target, figure, min(rounds), (quantile(rounds, 0.25), quantile(rounds, 0.75)))
