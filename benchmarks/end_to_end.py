"""Publish, then wait until every handler is done: what an event costs in all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from benchmarks import peers
from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed
from benchmarks.silent import (
    Events,
    Pace,
    SilentBatches,
    built,
    prebuilt,
    silent,
    silent_async,
    steadily,
    to_the_end,
)
from eventbus import EventBus

__all__ = ["CONTESTS"]

_KINDS: dict[str, Callable[[], Any]] = {"async": silent_async, "batch": SilentBatches, "sync": silent}


def _bare(events: Events) -> Round:
    first, second, third = silent_async(), silent_async(), silent_async()

    async def take() -> Samples:
        began = time.perf_counter_ns()
        for event in events.each():
            await first(event)
            await second(event)
            await third(event)
        return elapsed(began, events.number)

    return take


async def _ours(stack: AsyncExitStack, events: Events, pace: Pace = to_the_end) -> Rounds:
    rounds: Rounds = {"bare loop": _bare(events)}
    for kind, new in _KINDS.items():
        bus = await stack.enter_async_context(EventBus([new() for _ in range(3)]))
        rounds[f"eventbus, {kind} handlers"] = pace(bus.publish, events, bus.drain)
    bus = stack.enter_context(EventBus([silent_async() for _ in range(3)]))
    rounds["eventbus, async handlers, own thread"] = pace(bus.publish, events, bus.drain)
    return rounds


async def _built(stack: AsyncExitStack, scale: Scale) -> Rounds:
    return await _ours(stack, built(scale.events))


async def _prebuilt(stack: AsyncExitStack, scale: Scale) -> Rounds:
    return await _ours(stack, prebuilt(scale.events))


async def _built_and_peers(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = built(scale.events)
    return {**await _ours(stack, events), **await peers.end_to_end(stack, events)}


async def _steadily(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = built(scale.events)
    peers_ = await peers.end_to_end(stack, events, steadily)
    return {**await _ours(stack, events, steadily), **peers_}


async def _slow_peers(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = built(scale.events // 2)
    return {**await _ours(stack, events), **await peers.slow_end_to_end(stack, events)}


CONTESTS = [
    Contest("end to end, 3 handlers", "ns", _built_and_peers),
    Contest("end to end, 3 handlers, events built before", "ns", _prebuilt),
    Contest("end to end, 3 handlers, on trio", "ns", _built, backend="trio"),
    Contest("end to end, 3 handlers, steadily", "ns", _steadily),
    Contest("end to end, 3 handlers, slower peers", "ns", _slow_peers, rounds=12),
]
