"""How long an event takes from `publish` to the file, and how long storing one keeps the interpreter.

The publisher keeps the interpreter busy, as in `benchmarks.contended`, and every event holds new metadata.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType

from eventbus_subscribers.json_persister import JsonPersister

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale
from eventbus import Event, EventBus, NodeProgress, scrubbed_line

__all__ = ["CONTESTS"]

_EVENTS_PER_SECOND = 10_000
_WRITES_EVERY = (0.0002, 0.001, 0.003)  # seconds
_SIZE = 64_000  # characters
_TEXTS = {
    "lines of a log": "INFO worker 7: compiled module_x in 0.31 s; wrote build/lib/x.py, 3 of 9 done\n",
    "digits": "7",
    "underscores": "_",
    "at signs": "@",
    "quotes": '\\"',
    "a token among dots": ".",
}


class _TimedPersister(JsonPersister):
    """Notes how many records were in the file, and when."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.counts: list[int] = []
        self.times: list[int] = []

    def _write_batch(self, events: Sequence[Event]) -> None:
        super()._write_batch(events)
        self.counts.append(self.statistics().written)
        self.times.append(time.perf_counter_ns())


def _published(number: int) -> Event:
    text = f"line {number} of the build, module_{number}.py compiled"
    return NodeProgress(workflow_id="ci", node_id="build", metadata={"number": number, "text": text})


def _publish_for(bus: EventBus, seconds: float, write_every: float) -> list[int]:
    """Publish at the rate, between a little work and short writes; return when each was published."""
    published: list[int] = []
    began = now = time.perf_counter()
    next_write = now
    with tempfile.TemporaryFile() as file:
        while now < began + seconds:
            if now >= next_write:
                os.write(file.fileno(), b"a line of a program's own log\n")
                next_write = now + write_every
            if len(published) < (now - began) * _EVENTS_PER_SECOND:
                published.append(time.perf_counter_ns())
                bus.publish(_published(len(published)))
            sum(map(abs, range(50)))
            now = time.perf_counter()
    return published


def _delays(directory: Path, seconds: float, write_every: float) -> Round:
    async def take() -> Samples:
        persister = _TimedPersister(directory)
        with EventBus([persister], history=0) as bus:
            published = _publish_for(bus, seconds, write_every)
        return [
            (persister.times[bisect_left(persister.counts, number)] - moment) / 1_000
            for number, moment in enumerate(published, 1)
        ]

    return take


async def _delay(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return {
        f"a write every {1_000 * every:g} ms": _delays(directory, scale.seconds * 4, every)
        for every in _WRITES_EVERY
    }


def _longest_call(text: str) -> Round:
    event = NodeProgress(workflow_id="ci", node_id="build", message=text)

    async def take() -> Samples:
        # Not by a thread that ticks: on a busy machine that measures the other programs.
        began = longest = 0

        def note(_: FrameType, what: str, __: object) -> None:
            nonlocal began, longest
            if what == "c_call":
                began = time.thread_time_ns()
            elif what == "c_return":
                longest = max(longest, time.thread_time_ns() - began)

        sys.setprofile(note)
        try:
            scrubbed_line(event)
        finally:
            sys.setprofile(None)
        return (longest / 1_000,)

    return take


async def _hold(_: AsyncExitStack, __: Scale) -> Rounds:
    # At the end, so that all of the text is searched.
    token = " ghp_" + "a1B2" * 9
    return {name: _longest_call(text * (_SIZE // len(text)) + token) for name, text in _TEXTS.items()}


CONTESTS = [
    Contest("publish to the file, busy publisher", "us", _delay, rounds=8),
    Contest("longest hold of the interpreter by a text of 64 kB", "us", _hold, rounds=10),
]
