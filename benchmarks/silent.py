"""The event that is published, handlers that do nothing with it, and timed loops over many of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import anyio.lowlevel

from benchmarks.rounds import Round, Samples, elapsed
from eventbus import Event, Subscriber

__all__ = [
    "Events",
    "Pace",
    "SilentBatches",
    "Ticked",
    "awaits",
    "built",
    "calls",
    "prebuilt",
    "silent",
    "silent_async",
    "steadily",
    "to_the_end",
]


class Ticked(Event, frozen=True, kw_only=True):
    """A clock ticked."""

    number: int = 0


class Events(NamedTuple):
    """What one round publishes."""

    number: int
    each: Callable[[], Iterable[Any]]


def prebuilt(count: int) -> Events:
    """Return events that are built before the clock runs."""
    events = [Ticked(number=number) for number in range(count)]
    return Events(count, lambda: events)


def built(count: int, build: Callable[..., object] = Ticked) -> Events:
    """Return events that are built while the clock runs."""
    return Events(count, lambda: (build(number=number) for number in range(count)))


def silent() -> Callable[[Ticked], None]:
    """Return a new function: some peers connect the same one only once."""

    def handle(event: Ticked) -> None:
        del event

    return handle


def silent_async() -> Callable[[Ticked], Awaitable[None]]:
    """Return a new async function."""

    async def handle(event: Ticked) -> None:
        del event

    return handle


class SilentBatches(Subscriber[Ticked]):
    """Takes batches and does nothing with them."""

    events = Ticked

    async def handle_batch(self, events: Sequence[Ticked]) -> None:
        """Take a batch."""


async def _at_once() -> None:
    """Stand in where nothing has to be waited for."""


def calls(
    call: Callable[[Any], object],
    events: Events,
    settle: Callable[[], Awaitable[object]] = _at_once,
    *,
    to_the_end: bool = False,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Round:
    """Time ``call(event)``; and `settle` too, if it is timed `to_the_end`."""

    async def take() -> Samples:
        began = clock()
        for event in events.each():
            call(event)
        if to_the_end:
            await settle()
            return elapsed(began, events.number, clock)
        taken = elapsed(began, events.number, clock)
        await settle()
        return taken

    return take


Pace: TypeAlias = Callable[[Callable[[Any], object], Events, Callable[[], Awaitable[object]]], Round]
"""How events are handed over: to what, which, and what to await at the end."""


def awaits(call: Callable[[Any], Awaitable[object]], events: Events) -> Round:
    """Time ``await call(event)``."""

    async def take() -> Samples:
        began = time.perf_counter_ns()
        for event in events.each():
            await call(event)
        return elapsed(began, events.number)

    return take


to_the_end: Pace = partial(calls, to_the_end=True)


def steadily(
    call: Callable[[Any], object], events: Events, settle: Callable[[], Awaitable[object]], every: int = 10
) -> Round:
    """Time ``call(event)`` to the end, where after each few events the loop has its turn."""

    async def take() -> Samples:
        began = time.perf_counter_ns()
        for number, event in enumerate(events.each()):
            if not number % every:
                await anyio.lowlevel.checkpoint()
            call(event)
        await settle()
        return elapsed(began, events.number)

    return take
