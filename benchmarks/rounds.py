"""Measure the entries in turns, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple, Self, TypeAlias

import anyio

__all__ = [
    "Contest",
    "Measured",
    "Moment",
    "Round",
    "Rounds",
    "Samples",
    "Scale",
    "Timing",
    "elapsed",
    "measure",
    "now",
    "quantile",
]

Samples: TypeAlias = Sequence[float]
Round: TypeAlias = Callable[[], Awaitable[Samples]]
"""Runs one round and returns its samples: one for a timing, many for a latency."""
Rounds: TypeAlias = dict[str, Round]
"""The rounds by the name of their entry."""


class Timing(float):
    """A wall time, with the processor time of the same work.

    Attributes:
        processor: The processor time of all threads of the process, in the same unit.
    """

    __slots__ = ("processor",)

    def __new__(cls, wall: float, processor: float) -> Self:
        """Return a wall time."""
        timing = super().__new__(cls, wall)
        timing.processor = processor
        return timing

    processor: float


class Moment(NamedTuple):
    """The two clocks of `Timing`, in nanoseconds."""

    wall: int
    processor: int


def now() -> Moment:
    """Read both clocks."""
    return Moment(time.perf_counter_ns(), time.process_time_ns())


class Scale(NamedTuple):
    """The size of a run.

    Attributes:
        rounds: The number of rounds of each entry.
        events: The number of events that one round publishes; fewer than a mailbox holds.
        seconds: The duration of one round, for workloads that run for a fixed time.
        is_short: True for a run in a minute, with small logs.
    """

    rounds: int
    events: int
    seconds: float
    is_short: bool = False


class Contest(NamedTuple):
    """Entries that are measured in turns.

    Attributes:
        name: The work that the entries do.
        unit: The unit of the samples.
        prepare: Sets up all entries on the given stack and returns their rounds.
        rounds: The maximum number of rounds, for slow entries.
        backend: The event loop to run in, ``asyncio`` or ``trio``.
    """

    name: str
    unit: str
    prepare: Callable[[AsyncExitStack, Scale], Awaitable[Rounds]]
    rounds: int = 1_000
    backend: str = "asyncio"


class Measured(NamedTuple):
    """The results of a contest: for each entry, the samples of each round."""

    name: str
    unit: str
    entries: dict[str, list[Samples]]

    def medians(self, entry: str) -> list[float]:
        """Return the median of each round."""
        return [float(statistics.median(samples)) for samples in self.entries[entry]]

    def processor_times(self, entry: str) -> list[float]:
        """Return the processor time of each round; none if it was not measured."""
        times = [
            [each.processor for each in samples if isinstance(each, Timing)]
            for samples in self.entries[entry]
        ]
        return [statistics.median(each) for each in times] if all(times) else []

    def all_samples(self, entry: str) -> list[float]:
        """Return the samples of all rounds together."""
        return [float(sample) for samples in self.entries[entry] for sample in samples]

    def ratios(self, entry: str, baseline: str) -> list[float]:
        """Return the entry's median divided by that of `baseline`, for each round."""
        return [a / b for a, b in zip(self.medians(entry), self.medians(baseline), strict=True)]


def measure(contest: Contest, scale: Scale) -> Measured:
    """Run a contest."""
    return anyio.run(_take_turns, contest, scale, backend=contest.backend)


async def _take_turns(contest: Contest, scale: Scale) -> Measured:
    async with AsyncExitStack() as stack:
        rounds = await contest.prepare(stack, scale)
        for take in rounds.values():
            await take()  # warm up caches and specialised bytecode
        taken: dict[str, list[Samples]] = {name: [] for name in rounds}
        # The garbage collector stays on, as in programs. Each round starts with nothing to collect, and
        # the objects of the set-up are frozen, so that one entry's set-up does not slow the others.
        gc.collect()
        gc.freeze()
        try:
            order = list(rounds)
            for _ in range(min(scale.rounds, contest.rounds)):
                for name in order:
                    gc.collect()
                    taken[name].append(await rounds[name]())
                order.append(order.pop(0))
        finally:
            gc.unfreeze()
    return Measured(contest.name, contest.unit, taken)


def elapsed(began: Moment | int, events: int, clock: Callable[[], Moment | int] = now) -> Samples:
    """Return the time per event since `began` on the same clock, in nanoseconds."""
    ended = clock()
    if isinstance(began, int):
        return (((ended.wall if isinstance(ended, Moment) else ended) - began) / events,)
    assert isinstance(ended, Moment)
    return (Timing((ended.wall - began.wall) / events, (ended.processor - began.processor) / events),)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
