"""Take timings in turns, so that what the machine does meanwhile falls on all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple, TypeAlias

import anyio

__all__ = ["Contest", "Measured", "Round", "Rounds", "Samples", "Scale", "elapsed", "measure", "quantile"]

Samples: TypeAlias = Sequence[float]
Round: TypeAlias = Callable[[], Awaitable[Samples]]
"""Takes the samples of one round: one of a timing, many of a latency."""
Rounds: TypeAlias = dict[str, Round]
"""By the name of the entry."""


class Scale(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: How often each entry has its turn.
        events: How many events one round publishes; fewer than a mailbox holds.
        seconds: How long one round of a workload lasts that is measured by time.
    """

    rounds: int
    events: int
    seconds: float


class Contest(NamedTuple):
    """Entries that are measured in turns.

    Attributes:
        name: What the entries do.
        unit: Of the samples.
        prepare: Sets up every entry on the stack given, and returns their rounds.
        rounds: The most rounds, for entries that take long.
        backend: What loop they run in.
    """

    name: str
    unit: str
    prepare: Callable[[AsyncExitStack, Scale], Awaitable[Rounds]]
    rounds: int = 1_000
    backend: str = "asyncio"


class Measured(NamedTuple):
    """What came of a contest: for each entry, the samples of each round."""

    name: str
    unit: str
    entries: dict[str, list[Samples]]

    def medians(self, entry: str) -> list[float]:
        """Return the median of each round."""
        return [statistics.median(samples) for samples in self.entries[entry]]

    def all_samples(self, entry: str) -> list[float]:
        """Return the samples of all rounds together."""
        return [sample for samples in self.entries[entry] for sample in samples]

    def ratios(self, entry: str, against: str) -> list[float]:
        """Return, of each round, how many times `against` the entry took."""
        return [a / b for a, b in zip(self.medians(entry), self.medians(against), strict=True)]


def measure(contest: Contest, scale: Scale) -> Measured:
    """Run a contest."""
    return anyio.run(_take_turns, contest, scale, backend=contest.backend)


async def _take_turns(contest: Contest, scale: Scale) -> Measured:
    async with AsyncExitStack() as stack:
        rounds = await contest.prepare(stack, scale)
        for take in rounds.values():
            await take()  # warm: caches, and the interpreter's specialised bytecode
        taken: dict[str, list[Samples]] = {name: [] for name in rounds}
        # The collector is on, as in programs; each round begins with nothing to collect, and with
        # what the set-up made out of its sight, so that a big set-up is nobody else's burden.
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


def elapsed(began: int, events: int, clock: Callable[[], int] = time.perf_counter_ns) -> Samples:
    """Return the nanoseconds an event took, since `began` on the given clock."""
    return ((clock() - began) / events,)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
