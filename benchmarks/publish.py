"""Time per `publish` call, by number of subscribers, by thread, and next to other subscriptions."""

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
from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed, now
from benchmarks.workload import Events, Ticked, built, noop_async, prebuilt, timed_calls
from eventbus import Event, EventBus

__all__ = ["CONTESTS"]

_Clock = Callable[[], int]


async def _entered(stack: AsyncExitStack, subscribers: int) -> EventBus:
    bus = await stack.enter_async_context(EventBus([noop_async() for _ in range(subscribers)]))
    await bus.drain()
    return bus


def _three_appends(events: Events) -> Round:
    boxes: list[deque[object]] = [deque(), deque(), deque()]

    async def take() -> Samples:
        first, second, third = (box.append for box in boxes)
        began = now()
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
        "eventbus": timed_calls(bus.publish, events, bus.drain),
        "floor: 3 deque appends": _three_appends(events),
        **peers.publish_to_three(events),
    }


class _Plain(msgspec.Struct, frozen=True):
    number: int


async def _to_three_built(stack: AsyncExitStack, scale: Scale) -> Rounds:
    bus, events = await _entered(stack, 3), built(scale.events)
    return {
        "eventbus": timed_calls(bus.publish, events, bus.drain),
        "building the event alone": timed_calls(bool, events),
        "floor: a plain struct and 3 deque appends": _three_appends(built(scale.events, _Plain)),
        **peers.publish_to_three(events),
    }


async def _into_idle(stack: AsyncExitStack, scale: Scale) -> Rounds:
    """Publish one event at a time: each call has to wake the consumers."""
    here = await _entered(stack, 3)
    there = stack.enter_context(EventBus([noop_async() for _ in range(3)]))

    def one_by_one(bus: EventBus) -> Round:
        async def take() -> Samples:
            taken: list[float] = []
            for event in events:
                began = now()
                bus.publish(event)
                taken.extend(elapsed(began, 1))
                await bus.drain()
            return taken

        return take

    events = [Ticked() for _ in range(min(scale.events, 200))]
    return {"the caller's loop": one_by_one(here), "the bus's own thread": one_by_one(there)}


async def _with_other_types(stack: AsyncExitStack, scale: Scale) -> Rounds:
    body = {"__module__": __name__}
    new_class: Any = type(Event)
    others = [new_class(f"Other{number}", (Event,), dict(body), frozen=True) for number in range(50)]
    rounds: Rounds = {}
    for name, subscribers in (("1 subscriber", 1), ("no subscriber", 0)):
        alone, crowded = await _entered(stack, subscribers), await _entered(stack, subscribers)
        for other in others * 20:
            crowded.subscribe(noop_async(), other)
        await crowded.drain()
        for suffix, bus in (("", alone), (", 1,000 to other types", crowded)):
            rounds[name + suffix] = timed_calls(bus.publish, prebuilt(scale.events), bus.drain)
    return rounds


async def _to_many(stack: AsyncExitStack, scale: Scale) -> Rounds:
    buses = {subscribers: await _entered(stack, subscribers) for subscribers in (0, 1, 3, 10, 100)}
    events = prebuilt(scale.events)
    return {
        f"{number} subscribers": timed_calls(bus.publish, events, bus.drain) for number, bus in buses.items()
    }


def _from_threads(bus: EventBus, events: list[Ticked], threads: int, clock: _Clock) -> Samples:
    """Publish from several threads; return the sum of the threads' times, divided by the events."""
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
    there = stack.enter_context(EventBus([noop_async() for _ in range(3)]))
    events = [Ticked() for _ in range(scale.events)]

    def from_threads(bus: EventBus, threads: int) -> Round:
        async def take() -> Samples:
            taken = await anyio.to_thread.run_sync(_from_threads, bus, events, threads, clock)
            await bus.drain()
            return taken

        return take

    rounds: Rounds = {
        "same thread": timed_calls(here.publish, prebuilt(scale.events), here.drain, clock=clock)
    }
    for threads in (1, 4, 16):
        rounds[f"bus in a loop, publishing threads: {threads}"] = from_threads(here, threads)
        rounds[f"bus in its own thread, publishing threads: {threads}"] = from_threads(there, threads)
    return rounds


async def _with_hung_subscriber(stack: AsyncExitStack, scale: Scale) -> Rounds:
    async def hang(event: Ticked) -> None:
        del event
        await anyio.sleep_forever()

    async def until_only(bus: EventBus, hung: int) -> None:
        while sum(each.queued > 0 for each in bus.statistics().subscriptions.values()) > hung:
            await anyio.lowlevel.checkpoint()

    healthy, disturbed, events = await _entered(stack, 5), await _entered(stack, 4), prebuilt(scale.events)
    subscription = disturbed.subscribe(hang)
    stack.push_async_callback(disturbed.aclose, 0.0)  # otherwise the close would wait for its deadline
    stack.callback(subscription.unsubscribe)
    return {
        "5 healthy": timed_calls(healthy.publish, events, partial(until_only, healthy, 0)),
        "1 of 5 hung": timed_calls(disturbed.publish, events, partial(until_only, disturbed, 1)),
    }


CONTESTS = [
    Contest("publish to 3", "ns", _to_three),
    Contest("build and publish to 3", "ns", _to_three_built),
    Contest("publish into an idle bus", "ns", _into_idle, rounds=20),
    Contest("publish, subscriptions to other types", "ns", _with_other_types),
    Contest("publish to many", "ns", _to_many, rounds=60),
    Contest(
        "publish across threads, processor time", "ns", partial(_across_threads, clock=time.thread_time_ns)
    ),
    Contest("publish across threads, wall time", "ns", partial(_across_threads, clock=time.perf_counter_ns)),
    Contest("publish, 1 of 5 subscribers hung", "ns", _with_hung_subscriber),
]
