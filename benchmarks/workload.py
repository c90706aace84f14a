"""The published event, handlers that do nothing, and timed loops over many events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import anyio.lowlevel

from benchmarks.rounds import Moment, Round, Samples, elapsed, now
from eventbus import Event, Subscriber

__all__ = [
    "Events",
    "NoopBatches",
    "Pace",
    "Ticked",
    "Tocked",
    "built",
    "in_turn",
    "no_wait",
    "noop",
    "noop_async",
    "prebuilt",
    "timed_awaits",
    "timed_calls",
    "until_handled",
    "yielding",
]


class Ticked(Event, frozen=True, kw_only=True):
    """The event of the benchmarks."""

    number: int = 0


class Tocked(Event, frozen=True, kw_only=True):
    """An event of another class."""

    number: int = 0


class Events(NamedTuple):
    """The events of one round."""

    number: int
    each: Callable[[], Iterable[Any]]


def prebuilt(count: int) -> Events:
    """Return events that are built before the measurement."""
    events = [Ticked(number=number) for number in range(count)]
    return Events(count, lambda: events)


def built(count: int, build: Callable[..., object] = Ticked) -> Events:
    """Return events that are built during the measurement."""
    return Events(count, lambda: (build(number=number) for number in range(count)))


def in_turn(count: int) -> Events:
    """Return events of two classes in turn, built before the measurement."""
    events = [(Ticked, Tocked)[number % 2](number=number) for number in range(count)]
    return Events(count, lambda: events)


def noop() -> Callable[[Ticked], None]:
    """Return a new function, because some peers connect the same function only once."""

    def handle(event: Ticked) -> None:
        del event

    return handle


def noop_async() -> Callable[[Ticked], Awaitable[None]]:
    """Return a new async function."""

    async def handle(event: Ticked) -> None:
        del event

    return handle


class NoopBatches(Subscriber[Ticked]):
    """A subscriber that discards batches."""

    events = Ticked

    async def handle_batch(self, events: Sequence[Ticked]) -> None:
        """Discard a batch."""


async def no_wait() -> None:
    """Return at once, for calls without asynchronous work."""


def timed_calls(
    call: Callable[[Any], object],
    events: Events,
    settle: Callable[[], Awaitable[object]] = no_wait,
    *,
    until_handled: bool = False,
    clock: Callable[[], Moment | int] = now,
) -> Round:
    """Time ``call(event)``, and also `settle` if `until_handled`."""

    async def take() -> Samples:
        began = clock()
        for event in events.each():
            call(event)
        if until_handled:
            await settle()
            return elapsed(began, events.number, clock)
        taken = elapsed(began, events.number, clock)
        await settle()
        return taken

    return take


Pace: TypeAlias = Callable[[Callable[[Any], object], Events, Callable[[], Awaitable[object]]], Round]
"""Makes a round from the function to call, the events, and the function to await at the end."""


def timed_awaits(call: Callable[[Any], Awaitable[object]], events: Events) -> Round:
    """Time ``await call(event)``."""

    async def take() -> Samples:
        began = now()
        for event in events.each():
            await call(event)
        return elapsed(began, events.number)

    return take


until_handled: Pace = partial(timed_calls, until_handled=True)


def yielding(
    call: Callable[[Any], object], events: Events, settle: Callable[[], Awaitable[object]], every: int = 10
) -> Round:
    """Time ``call(event)`` and `settle`, yielding to the loop every few events."""

    async def take() -> Samples:
        began = now()
        for number, event in enumerate(events.each()):
            if not number % every:
                await anyio.lowlevel.checkpoint()
            call(event)
        await settle()
        return elapsed(began, events.number)

    return take
