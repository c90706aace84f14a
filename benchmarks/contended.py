"""What becomes of delivery, and of the work, while the publisher keeps the interpreter busy.

CPython's lock is let go at each system call, however short, and whoever waits for it begins to wait
anew: a publisher that computes and writes now and then can keep every other thread out.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed
from benchmarks.silent import Ticked
from eventbus import EventBus

__all__ = ["CONTESTS"]

_PUBLISH_EVERY = 0.005
_LINE = b"a line of sixty-four bytes, as a program may write to its log...\n"
_DOCUMENT = {"session": "0123456789ab", "durations": list(range(100)), "message": "m" * 200}


def _compute() -> object:
    return sum(map(abs, range(50)))


def _convert() -> object:
    return json.loads(json.dumps(_DOCUMENT))


class _Work(NamedTuple):
    """What the publisher is busy with.

    Attributes:
        name: What to call it.
        step: A few microseconds of it.
        write_every: Seconds between two short writes; None for no writes.
    """

    name: str
    step: Callable[[], object]
    write_every: float | None = None

    def do(self, hand_over: Callable[[], object], seconds: float) -> int:
        """Do it, and hand something over now and then; return how many steps were done."""
        now = time.perf_counter()
        end, next_hand_over, steps = now + seconds, now, 0
        next_write = end if self.write_every is None else now
        with tempfile.TemporaryFile() as file:
            number = file.fileno()
            while now < end:
                if now >= next_write and self.write_every is not None:
                    os.write(number, _LINE)
                    next_write = now + self.write_every
                if now >= next_hand_over:
                    hand_over()
                    next_hand_over = now + _PUBLISH_EVERY
                self.step()
                steps += 1
                now = time.perf_counter()
        return steps


_WORKS = [
    _Work("no writes", _compute),
    *(_Work(f"a write every {every:g} ms", _compute, every / 1_000) for every in (0.1, 0.2, 1.0, 3.0)),
    _Work("JSON", _convert),
    _Work("JSON, a write every 1 ms", _convert, 0.001),
]
_WORST = _WORKS[3]


class _Delays:
    """Notes how many microseconds each event was under way."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.taken: list[float] = []

    def hand_over(self, hand_over: Callable[[Ticked], object]) -> None:
        event = Ticked(number=len(self.sent))
        self.sent.append(time.perf_counter_ns())
        hand_over(event)

    def note(self, event: Ticked) -> None:
        self.taken.append((time.perf_counter_ns() - self.sent[event.number]) / 1_000)


_Channel = Callable[[_Delays], Any]
"""A context in which what is handed over arrives at the delays' `note`, in another thread."""


@contextmanager
def _bus(delays: _Delays, **options: Any) -> Generator[Callable[[Ticked], object]]:
    with EventBus(**options) as bus:
        bus.subscribe(delays.note, Ticked)
        time.sleep(0.01)  # its thread falls asleep
        yield bus.publish


@contextmanager
def _queue(delays: _Delays) -> Generator[Callable[[Ticked], object]]:
    queue: SimpleQueue[Ticked | None] = SimpleQueue()

    def consume() -> None:
        while (event := queue.get()) is not None:
            delays.note(event)

    thread = threading.Thread(target=consume)
    thread.start()
    yield queue.put
    queue.put(None)
    thread.join()


@contextmanager
def _nothing(_: _Delays) -> Generator[Callable[[Ticked], object]]:
    yield lambda _: None


_OURS = "eventbus"
_LEFT_ALONE = "eventbus, switch_interval=None"
_CHANNELS: dict[str, _Channel] = {
    _OURS: _bus,
    _LEFT_ALONE: partial(_bus, switch_interval=None),
    "a thread on a SimpleQueue": _queue,
}


def _delays_of(channel: _Channel, work: _Work, seconds: float) -> Round:
    async def take() -> Samples:
        delays = _Delays()
        with channel(delays) as hand_over:
            work.do(lambda: delays.hand_over(hand_over), seconds)
        return delays.taken

    return take


def _time_of_a_step(channel: _Channel, work: _Work, seconds: float) -> Round:
    async def take() -> Samples:
        delays = _Delays()
        with channel(delays) as hand_over:
            began = time.perf_counter_ns()
            steps = work.do(lambda: delays.hand_over(hand_over), seconds)
            return elapsed(began, steps)

    return take


async def _latency(_: AsyncExitStack, scale: Scale) -> Rounds:
    ours = {f"{_OURS}, {work.name}": _delays_of(_bus, work, scale.seconds) for work in _WORKS}
    others = {
        f"{name}, {_WORST.name}": _delays_of(channel, _WORST, scale.seconds)
        for name, channel in _CHANNELS.items()
        if name != _OURS
    }
    return {**ours, **others}


async def _price(_: AsyncExitStack, scale: Scale) -> Rounds:
    channels = {"no bus": _nothing, **_CHANNELS}
    return {name: _time_of_a_step(channel, _WORST, scale.seconds) for name, channel in channels.items()}


CONTESTS = [
    Contest("latency, publisher busy", "us", _latency, rounds=8),
    Contest("a step of the work of a busy publisher", "ns", _price, rounds=8),
]
