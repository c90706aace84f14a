"""Delivery latency, and the publisher's own speed, while the publisher keeps the interpreter busy.

CPython releases its lock at each system call, and each release restarts the wait of the other threads.
A publisher that computes and sometimes writes can therefore keep all other threads out.
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

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed, now
from benchmarks.workload import Ticked
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
    """A workload of the publisher.

    Attributes:
        name: Its name in the entries.
        step: A few microseconds of work.
        write_every: Seconds between two short writes; None for no writes.
    """

    name: str
    step: Callable[[], object]
    write_every: float | None = None

    def run(self, send: Callable[[], object], seconds: float) -> int:
        """Work for this many seconds and call `send` every 5 ms; return the number of steps."""
        now = time.perf_counter()
        end, next_send, steps = now + seconds, now, 0
        next_write = end if self.write_every is None else now
        with tempfile.TemporaryFile() as file:
            number = file.fileno()
            while now < end:
                if now >= next_write and self.write_every is not None:
                    os.write(number, _LINE)
                    next_write = now + self.write_every
                if now >= next_send:
                    send()
                    next_send = now + _PUBLISH_EVERY
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
    """Records the delay of each event, in microseconds."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.durations: list[float] = []

    def send(self, send: Callable[[Ticked], object]) -> None:
        event = Ticked(number=len(self.sent))
        self.sent.append(time.perf_counter_ns())
        send(event)

    def record(self, event: Ticked) -> None:
        self.durations.append((time.perf_counter_ns() - self.sent[event.number]) / 1_000)


_Channel = Callable[[_Delays], Any]
"""A context manager that yields a send function; `_Delays.record` gets the events in another thread."""


@contextmanager
def _bus(delays: _Delays, **options: Any) -> Generator[Callable[[Ticked], object]]:
    with EventBus(**options) as bus:
        bus.subscribe(delays.record, Ticked)
        time.sleep(0.01)  # until its thread sleeps
        yield bus.publish


@contextmanager
def _queue(delays: _Delays) -> Generator[Callable[[Ticked], object]]:
    queue: SimpleQueue[Ticked | None] = SimpleQueue()

    def consume() -> None:
        while (event := queue.get()) is not None:
            delays.record(event)

    thread = threading.Thread(target=consume)
    thread.start()
    yield queue.put
    queue.put(None)
    thread.join()


@contextmanager
def _no_bus(_: _Delays) -> Generator[Callable[[Ticked], object]]:
    yield lambda _: None


_OURS = "eventbus"
_UNCHANGED = "eventbus, switch_interval=None"
_CHANNELS: dict[str, _Channel] = {
    _OURS: _bus,
    _UNCHANGED: partial(_bus, switch_interval=None),
    "thread reading a SimpleQueue": _queue,
}


def _delays_of(channel: _Channel, work: _Work, seconds: float) -> Round:
    async def take() -> Samples:
        delays = _Delays()
        with channel(delays) as send:
            work.run(lambda: delays.send(send), seconds)
        return delays.durations

    return take


def _time_of_a_step(channel: _Channel, work: _Work, seconds: float) -> Round:
    async def take() -> Samples:
        delays = _Delays()
        with channel(delays) as send:
            began = now()
            steps = work.run(lambda: delays.send(send), seconds)
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


async def _cost(_: AsyncExitStack, scale: Scale) -> Rounds:
    channels = {"no bus": _no_bus, **_CHANNELS}
    return {name: _time_of_a_step(channel, _WORST, scale.seconds) for name, channel in channels.items()}


CONTESTS = [
    Contest("latency, busy publisher", "us", _latency, rounds=8),
    Contest("busy publisher, time per step", "ns", _cost, rounds=8),
]
