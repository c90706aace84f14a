"""What `publish` costs its caller: how many listen, from which thread, and beside whom."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio.lowlevel
import anyio.to_thread
import msgspec

from benchmarks import peers
from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed
from benchmarks.silent import Events, Ticked, built, calls, prebuilt, silent_async
from eventbus import Event, EventBus

__all__ = ["CONTESTS"]

_Clock = Callable[[], int]


async def _entered(stack: AsyncExitStack, listeners: int) -> EventBus:
    bus = await stack.enter_async_context(EventBus([silent_async() for _ in range(listeners)]))
    await bus.drain()
    return bus


def _three_appends(events: Events) -> Round:
    boxes: list[deque[object]] = [deque(), deque(), deque()]

    async def take() -> Samples:
        first, second, third = (box.append for box in boxes)
        began = time.perf_counter_ns()
        for event in events.each():
            first(event)
            second(event)
            third(event)
        taken = elapsed(began, events.number)
        for box in boxes:
            box.clear()
        return taken

    return take


async def _to_three(stack: AsyncExitStack, scale: Scale) -> Rounds:
    bus, events = await _entered(stack, 3), prebuilt(scale.events)
    return {
        "eventbus": calls(bus.publish, events, bus.drain),
        "floor: 3 deque appends": _three_appends(events),
        **peers.publish_to_three(events),
    }


class _Plain(msgspec.Struct, frozen=True):
    number: int


async def _to_three_built(stack: AsyncExitStack, scale: Scale) -> Rounds:
    bus, events = await _entered(stack, 3), built(scale.events)
    return {
        "eventbus": calls(bus.publish, events, bus.drain),
        "building the event alone": calls(bool, events),
        "floor: a plain struct and 3 deque appends": _three_appends(built(scale.events, _Plain)),
        **peers.publish_to_three(events),
    }


async def _into_idle(stack: AsyncExitStack, scale: Scale) -> Rounds:
    """One event at a time: each has to wake its consumers."""
    here = await _entered(stack, 3)
    there = stack.enter_context(EventBus([silent_async() for _ in range(3)]))

    def one_by_one(bus: EventBus) -> Round:
        async def take() -> Samples:
            taken: list[float] = []
            for event in events:
                began = time.perf_counter_ns()
                bus.publish(event)
                taken.extend(elapsed(began, 1))
                await bus.drain()
            return taken

        return take

    events = [Ticked() for _ in range(min(scale.events, 200))]
    return {"the caller's loop": one_by_one(here), "the bus's own thread": one_by_one(there)}


async def _beside_others(stack: AsyncExitStack, scale: Scale) -> Rounds:
    body = {"__module__": __name__}
    new_class: Any = type(Event)
    others = [new_class(f"Other{number}", (Event,), dict(body), frozen=True) for number in range(50)]
    rounds: Rounds = {}
    for name, listeners in (("1 subscriber", 1), ("no subscriber", 0)):
        alone, crowded = await _entered(stack, listeners), await _entered(stack, listeners)
        for other in others * 20:
            crowded.subscribe(silent_async(), other)
        await crowded.drain()
        for suffix, bus in (("", alone), (", 1,000 to other types", crowded)):
            rounds[name + suffix] = calls(bus.publish, prebuilt(scale.events), bus.drain)
    return rounds


async def _to_many(stack: AsyncExitStack, scale: Scale) -> Rounds:
    buses = {listeners: await _entered(stack, listeners) for listeners in (0, 1, 3, 10, 100)}
    events = prebuilt(scale.events)
    return {f"{number} listening": calls(bus.publish, events, bus.drain) for number, bus in buses.items()}


def _from_threads(bus: EventBus, events: list[Ticked], threads: int, clock: _Clock) -> Samples:
    """Publish from several threads; return the time of an event, all threads' own time added up."""
    share = len(events) // threads
    ready = threading.Barrier(threads)
    spent: list[int] = []

    def work(mine: list[Ticked]) -> None:
        publish = bus.publish
        ready.wait()
        began = clock()
        for event in mine:
            publish(event)
        spent.append(clock() - began)

    shares = [events[number * share : (number + 1) * share] for number in range(threads)]
    workers = [threading.Thread(target=work, args=(mine,)) for mine in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (sum(spent) / (share * threads),)


async def _across_threads(stack: AsyncExitStack, scale: Scale, clock: _Clock) -> Rounds:
    here = await _entered(stack, 3)
    there = stack.enter_context(EventBus([silent_async() for _ in range(3)]))
    events = [Ticked() for _ in range(scale.events)]

    def from_threads(bus: EventBus, threads: int) -> Round:
        async def take() -> Samples:
            taken = await anyio.to_thread.run_sync(_from_threads, bus, events, threads, clock)
            await bus.drain()
            return taken

        return take

    rounds: Rounds = {"same thread": calls(here.publish, prebuilt(scale.events), here.drain, clock=clock)}
    for threads in (1, 4, 16):
        rounds[f"{threads} to a bus in a loop"] = from_threads(here, threads)
        rounds[f"{threads} to a bus in its own thread"] = from_threads(there, threads)
    return rounds


async def _beside_a_hung_one(stack: AsyncExitStack, scale: Scale) -> Rounds:
    async def hang(event: Ticked) -> None:
        del event
        await anyio.sleep_forever()

    async def until_only(bus: EventBus, hung: int) -> None:
        while sum(each.queued > 0 for each in bus.statistics().subscriptions.values()) > hung:
            await anyio.lowlevel.checkpoint()

    healthy, disturbed, events = await _entered(stack, 5), await _entered(stack, 4), prebuilt(scale.events)
    subscription = disturbed.subscribe(hang)
    stack.push_async_callback(disturbed.aclose, 0.0)  # it would hold the close to its deadline
    stack.callback(subscription.unsubscribe)
    return {
        "5 healthy": calls(healthy.publish, events, partial(until_only, healthy, 0)),
        "1 hung among 5": calls(disturbed.publish, events, partial(until_only, disturbed, 1)),
    }


CONTESTS = [
    Contest("publish to 3", "ns", _to_three),
    Contest("build and publish to 3", "ns", _to_three_built),
    Contest("publish into an idle bus", "ns", _into_idle, rounds=20),
    Contest("publish beside others", "ns", _beside_others),
    Contest("publish to many", "ns", _to_many, rounds=60),
    Contest(
        "publish across threads, processor time", "ns", partial(_across_threads, clock=time.thread_time_ns)
    ),
    Contest("publish across threads, wall time", "ns", partial(_across_threads, clock=time.perf_counter_ns)),
    Contest("publish beside a hung subscriber", "ns", _beside_a_hung_one),
]
