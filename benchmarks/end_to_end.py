"""Time per event from `publish` until every handler has finished."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio.lowlevel

from benchmarks import peers
from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed, now
from benchmarks.workload import (
    Events,
    NoopBatches,
    Pace,
    built,
    in_turn,
    noop,
    noop_async,
    prebuilt,
    until_handled,
    yielding,
)
from eventbus import Event, EventBus

__all__ = ["CONTESTS"]

_BURSTS = 100

_KINDS: dict[str, Callable[[], Any]] = {"async": noop_async, "batch": NoopBatches, "sync": noop}


def _bare(events: Events) -> Round:
    first, second, third = noop_async(), noop_async(), noop_async()

    async def take() -> Samples:
        began = now()
        for event in events.each():
            await first(event)
            await second(event)
            await third(event)
        return elapsed(began, events.number)

    return take


async def _ours(stack: AsyncExitStack, events: Events, pace: Pace = until_handled) -> Rounds:
    rounds: Rounds = {"bare loop": _bare(events)}
    for kind, new in _KINDS.items():
        bus = await stack.enter_async_context(EventBus([new() for _ in range(3)]))
        rounds[f"eventbus, {kind} handlers"] = pace(bus.publish, events, bus.drain)
    bus = stack.enter_context(EventBus([noop_async() for _ in range(3)]))
    rounds["eventbus, async handlers, own thread"] = pace(bus.publish, events, bus.drain)
    return rounds


async def _built(stack: AsyncExitStack, scale: Scale) -> Rounds:
    return await _ours(stack, built(scale.events))


async def _prebuilt(stack: AsyncExitStack, scale: Scale) -> Rounds:
    return await _ours(stack, prebuilt(scale.events))


async def _built_and_peers(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = built(scale.events)
    return {**await _ours(stack, events), **await peers.end_to_end(stack, events)}


async def _yielding(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = built(scale.events)
    peers_ = await peers.end_to_end(stack, events, yielding)
    return {**await _ours(stack, events, yielding), **peers_}


async def _two_classes(stack: AsyncExitStack, scale: Scale) -> Rounds:
    async def handle(event: Event) -> None:
        del event

    bus = await stack.enter_async_context(EventBus())
    for _ in range(3):
        bus.subscribe(handle, Event)
    return {
        "one class": until_handled(bus.publish, prebuilt(scale.events), bus.drain),
        "two classes in turn": until_handled(bus.publish, in_turn(scale.events), bus.drain),
    }


async def _bursts(stack: AsyncExitStack, scale: Scale) -> Rounds:
    """Publish bursts with one checkpoint between: how many events are published for each that is handled?"""
    rounds: Rounds = {}
    for kind, new in _KINDS.items():
        bus = await stack.enter_async_context(EventBus([new() for _ in range(3)]))
        rounds[f"eventbus, {kind} handlers"] = _in_bursts(bus, built(scale.events))
    return rounds


def _in_bursts(bus: EventBus, events: Events) -> Round:
    async def take() -> Samples:
        before = bus.statistics()
        for _ in range(_BURSTS):
            for event in events.each():
                bus.publish(event)
            await anyio.lowlevel.checkpoint()
        report = await bus.drain()
        published = _BURSTS * events.number * len(report.subscriptions)
        lost = report.lost - sum(each.lost for each in before.subscriptions.values())
        return (published / (published - lost),)

    return take


async def _slow_peers(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = built(scale.events // 2)
    return {**await _ours(stack, events), **await peers.slow_end_to_end(stack, events)}


CONTESTS = [
    Contest("end to end, 3 handlers", "ns", _built_and_peers),
    Contest("end to end, 3 handlers, prebuilt events", "ns", _prebuilt),
    Contest("end to end, 3 handlers, on trio", "ns", _built, backend="trio"),
    Contest("end to end, 3 handlers, yielding every 10 events", "ns", _yielding),
    Contest("end to end, two classes in turn", "ns", _two_classes),
    Contest("bursts of 1,000 with a checkpoint between", "published / handled", _bursts, rounds=5),
    Contest("end to end, 3 handlers, slower peers", "ns", _slow_peers, rounds=12),
]
