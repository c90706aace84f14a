"""The performance targets, and how a run compares to them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks import commands, oneiric_dag, shipping
from benchmarks.rounds import Measured, quantile

__all__ = ["TARGETS", "Outcome", "Target", "judge", "outcome_of"]

_ONLY_SHOWN = math.inf


class Target(NamedTuple):
    """One performance target.

    Attributes:
        name: Its name in the report.
        contest: The contest that measures it.
        entry: The entry of the contest that it applies to.
        goal: The upper limit: a ratio to `baseline`, or without one a value in the contest's unit.
        baseline: The entry to compare to; None for an absolute figure.
        share: The quantile of all samples to compare, for an absolute figure.
        tolerance: A run fails when three rounds in four exceed the goal by more than this factor. A
            regression does so, a busy machine does not.
    """

    name: str
    contest: str
    entry: str
    goal: float
    baseline: str | None = None
    share: float = 0.5
    tolerance: float = 2.0


class Outcome(NamedTuple):
    """The result for one target.

    Attributes:
        target: The target.
        figure: The median of the rounds' ratios, or the quantile of all samples.
        lowest: The lowest figure of a round.
        middle_half: The first and third quartile of the rounds.
    """

    target: Target
    figure: float
    lowest: float
    middle_half: tuple[float, float]

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or ``FAILED`` if it fails the run."""
        if self.figure <= self.target.goal:
            return "met"
        return "FAILED" if self.middle_half[0] > self.target.goal * self.target.tolerance else "missed"


_END = "end to end, 3 handlers"
_PREBUILT = "end to end, 3 handlers, prebuilt events"
_ASYNC, _BATCH = "eventbus, async handlers", "eventbus, batch handlers"
_WRITE = "encode_lines and os.write, 512 at a time"
_START, _MANY = "start of a command", "commands over many segments"
_YIELDING = "end to end, 3 handlers, yielding every 10 events"
_DEQUES = "deque and asyncio.Event fan-out"
_CPU, _WALL = "publish across threads, processor time", "publish across threads, wall time"

TARGETS = [
    Target("publish to 3 / blinker's send", "publish to 3", "eventbus", 0.25, "blinker"),
    Target(
        "build and publish to 3 / blinker's send",
        "build and publish to 3",
        "eventbus",
        0.25,
        "blinker",
        tolerance=_ONLY_SHOWN,
    ),
    Target("3 async handlers / bare loop", _END, _ASYNC, 1.8, "bare loop"),
    Target(
        "3 async handlers, prebuilt / bare loop", _PREBUILT, _ASYNC, 3.2, "bare loop", tolerance=_ONLY_SHOWN
    ),
    Target(
        "3 async handlers, on trio / bare loop", "end to end, 3 handlers, on trio", _ASYNC, 2.0, "bare loop"
    ),
    Target("3 batch handlers / bare loop", _END, _BATCH, 1.3, "bare loop", tolerance=3.0),
    Target(
        "3 batch handlers, prebuilt / bare loop", _PREBUILT, _BATCH, 1.0, "bare loop", tolerance=_ONLY_SHOWN
    ),
    Target("3 async handlers, yielding / bare loop", _YIELDING, _ASYNC, 2.0, "bare loop", tolerance=3.0),
    Target("3 async handlers, yielding / bare tasks", _YIELDING, _ASYNC, 1.2, _DEQUES, tolerance=3.0),
    Target(
        "two classes in turn / one class",
        "end to end, two classes in turn",
        "two classes in turn",
        1.1,
        "one class",
    ),
    Target(
        "one event in an idle loop / asyncio.Queue",
        "latency in one loop, idle",
        "eventbus",
        2.0,
        "asyncio.Queue",
        tolerance=4.0,
    ),
    Target(
        "bursts of 1,000: published / handled",
        "bursts of 1,000 with a checkpoint between",
        _ASYNC,
        1.0,
        tolerance=1.5,
    ),
    Target(
        "1,000 subscriptions to other types / none",
        "publish, subscriptions to other types",
        "1 subscriber, 1,000 to other types",
        1.1,
        "1 subscriber",
    ),
    Target(
        "no subscriber / 1 subscriber",
        "publish, subscriptions to other types",
        "no subscriber",
        1.0,
        "1 subscriber",
        tolerance=_ONLY_SHOWN,
    ),
    Target(
        "from a thread, bus in a loop / same thread",
        _CPU,
        "bus in a loop, publishing threads: 1",
        1.5,
        "same thread",
    ),
    Target(
        "from a thread, bus in its own / same thread",
        _CPU,
        "bus in its own thread, publishing threads: 1",
        1.5,
        "same thread",
    ),
    *(
        Target(f"from a thread, bus in {where}, wall time / same thread", _WALL, entry, 2.0, "same thread")
        for where, entry in (
            ("a loop", "bus in a loop, publishing threads: 1"),
            ("its own", "bus in its own thread, publishing threads: 1"),
        )
    ),
    Target(
        "subscribe among 10,000 / among 100",
        "subscribe and unsubscribe",
        "10,000 others",
        2.0,
        "100 others",
    ),
    Target(
        "replay=10 of 1,000,000 / of 1,000",
        "subscribe with replay=10, and unsubscribe",
        "a history of 1,000,000",
        1.5,
        "a history of 1,000",
    ),
    Target(
        "1 of 5 subscribers hung / 5 healthy",
        "publish, 1 of 5 subscribers hung",
        "1 of 5 hung",
        1.2,
        "5 healthy",
    ),
    Target(
        "persister alone / encode and write",
        "store events",
        "JsonPersister alone",
        1.8,
        _WRITE,
        tolerance=3.0,
    ),
    Target(
        "persister on a bus / encode and write",
        "store events",
        "JsonPersister on a bus in its own thread",
        1 / 0.7,
        _WRITE,
        tolerance=_ONLY_SHOWN,
    ),
    Target(
        "persister, new 120-byte text / encode and write",
        "store new texts of 120 characters",
        "JsonPersister alone",
        8.0,
        _WRITE,
        tolerance=4.0,
    ),
    Target(
        "persister, new 16 kB text / encode and write",
        "store new texts of 16 kB",
        "JsonPersister alone",
        20.0,
        _WRITE,
        tolerance=4.0,
    ),
    Target(
        "persister, metadata of numbers / encode and write",
        "store metadata of numbers",
        "JsonPersister alone",
        3.0,
        _WRITE,
        tolerance=4.0,
    ),
    Target(
        "persister, skills with an id each / nodes",
        "store events",
        "JsonPersister alone, skills with an id each",
        1.5,
        "JsonPersister alone",
    ),
    *(
        Target(
            f"publish to the file, a write every {every} ms, p99, us",
            "publish to the file, busy publisher",
            f"a write every {every} ms",
            50_000.0,
            share=0.99,
            tolerance=5.0,
        )
        for every in ("0.2", "1", "3")
    ),
    *(
        Target(
            f"hold of the interpreter, 64 kB of {text}, us",
            "longest hold of the interpreter by a text of 64 kB",
            text,
            2_000.0,
            share=0.99,
            tolerance=3.0,
        )
        for text in ("lines of a log", "underscores", "a token among dots")
    ),
    Target(
        "publish to a log, hung disk / healthy disk", "publish to a log", "hung disk", 1.2, "healthy disk"
    ),
    Target(
        "report of all sessions / decoding",
        "correlate stored events",
        "report of all sessions, no index",
        3.0,
        "msgspec decodes typed events, a block at a time",
    ),
    Target(
        "report of all sessions, peak memory, MB",
        "correlate stored events, peak memory",
        "report of all sessions, no index",
        150.0,
    ),
    Target("report on one stored session, ms", "report on one stored session", "through the index", 100.0),
    Target(
        "Oneiric DAG, observed / unobserved",
        oneiric_dag.BARE,
        oneiric_dag.OBSERVED,
        1.15,
        oneiric_dag.UNOBSERVED,
    ),
    Target(
        "Oneiric DAG, durable, observed / unobserved",
        oneiric_dag.DURABLE,
        oneiric_dag.OBSERVED,
        1.05,
        oneiric_dag.UNOBSERVED,
    ),
    Target("ship / nats-py's publish_async", "ship events", shipping.SHIPPER, 1 / 1.5, shipping.ASYNC),
    Target(
        "publish while the log is shipped / is not",
        "publish while the log is shipped",
        shipping.PUBLISHED,
        1.05,
        shipping.STORED,
    ),
    Target("eventbus ship, peak memory, MB", "ship a log, peak memory", shipping.MEMORY, 50.0),
    Target("eventbus --version / python -c pass", _START, commands.VERSION, 2.5, commands.NOTHING),
    Target("eventbus sessions / importing the public names", _START, commands.SESSIONS, 1.5, commands.NAMES),
    *(
        Target(f"eventbus {name}, 200,000 events, ms", _MANY, name, 1_000.0, tolerance=8.0)
        for name in commands.COMMANDS
    ),
    Target("any of these commands, peak memory, MB", f"{_MANY}, peak memory", commands.LARGEST, 100.0),
    Target("import the public names of eventbus, ms", "import, fresh interpreter", "eventbus", 80.0),
    *(
        Target(
            f"busy publisher, a write every {every} ms, p99, us",
            "latency, busy publisher",
            f"eventbus, a write every {every} ms",
            20_000.0,
            share=0.99,
            tolerance=5.0,
        )
        for every in ("0.2", "1", "3")
    ),
    Target(
        "busy publisher, time per step / no bus",
        "busy publisher, time per step",
        "eventbus",
        1.05,
        "no bus",
        tolerance=_ONLY_SHOWN,
    ),
    Target("a span, processor time", "send spans, processor time", "OtelSpans", 150_000, tolerance=1.5),
    Target(
        "publish beside OtelSpans / beside a handler that does nothing",
        "publish while spans are sent, 1,000 a second",
        "OtelSpans",
        1.2,
        "a handler that does nothing",
        tolerance=3.0,
    ),
    Target(
        "publish while a collector hangs / beside a handler that does nothing",
        "publish while spans are sent, 1,000 a second",
        "OtelSpans, and the collector hangs",
        1.2,
        "a handler that does nothing",
        tolerance=3.0,
    ),
]


def judge(measured: Iterable[Measured]) -> list[Outcome]:
    """Return the outcomes of the targets that were measured."""
    by_name = {each.name: each for each in measured}
    return [
        outcome_of(target, by_name[target.contest])
        for target in TARGETS
        if target.contest in by_name and target.entry in by_name[target.contest].entries
    ]


def outcome_of(target: Target, measured: Measured) -> Outcome:
    """Return the outcome of one target."""
    if target.baseline is None:
        values = measured.all_samples(target.entry)
        rounds = [quantile(samples, target.share) for samples in measured.entries[target.entry]]
        figure = quantile(values, target.share)
    else:
        rounds = measured.ratios(target.entry, target.baseline)
        figure = statistics.median(rounds)
    return Outcome(target, figure, min(rounds), (quantile(rounds, 0.25), quantile(rounds, 0.75)))
