"""Time to subscribe and unsubscribe, by the number of other subscriptions, and to replay, by the history."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Unpack

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale
from benchmarks.workload import Ticked, noop_async
from eventbus import EventBus
from eventbus.delivery.subscription_factory import SubscriptionOptions

__all__ = ["CONTESTS"]

_CALLS = 50


def _timed(bus: EventBus, **options: Unpack[SubscriptionOptions]) -> Round:
    async def take() -> Samples:
        taken: list[float] = []
        for _ in range(_CALLS):
            began = time.perf_counter_ns()
            bus.subscribe(noop_async(), Ticked, **options).unsubscribe()
            taken.append((time.perf_counter_ns() - began) / 1_000)
        return taken

    return take


def _opened(stack: AsyncExitStack, history: int = 1_024) -> EventBus:
    bus = EventBus(history=history)
    stack.callback(bus.close)
    return bus


async def _among_others(stack: AsyncExitStack, scale: Scale) -> Rounds:
    del scale
    rounds: Rounds = {}
    for others in (100, 10_000):
        bus = _opened(stack)
        for _ in range(others):
            bus.subscribe(noop_async(), Ticked)
        rounds[f"{others:,} others"] = _timed(bus)
    return rounds


async def _replaying(stack: AsyncExitStack, scale: Scale) -> Rounds:
    del scale
    rounds: Rounds = {}
    for history in (1_000, 1_000_000):
        bus = _opened(stack, history)
        for number in range(history):
            bus.publish(Ticked(number=number))
        rounds[f"a history of {history:,}"] = _timed(bus, replay=10)
    return rounds


CONTESTS = [
    Contest("subscribe and unsubscribe", "us", _among_others, rounds=20),
    Contest("subscribe with replay=10, and unsubscribe", "us", _replaying, rounds=20),
]
