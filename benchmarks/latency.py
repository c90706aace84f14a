"""How long an event is under way, from `publish` to the handler's first line."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from queue import SimpleQueue

import anyio
import anyio.to_thread
from anyio.from_thread import start_blocking_portal

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale
from benchmarks.silent import Ticked
from eventbus import EventBus

__all__ = ["CONTESTS"]

_PAUSE = 0.004
"""Seconds between events, for the consumer to fall asleep again."""
_BURST, _BURSTS = 100, 20


def _micros(began_ns: int, ended_ns: int) -> float:
    return (ended_ns - began_ns) / 1_000


async def _idle_across_threads(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = [Ticked() for _ in range(min(scale.events, 100))]
    arrived: SimpleQueue[int] = SimpleQueue()

    async def note(_: Ticked) -> None:
        arrived.put(time.perf_counter_ns())

    def hands(hand_over: Callable[[Ticked], object]) -> Round:
        async def take() -> Samples:
            taken: list[float] = []
            for event in events:
                time.sleep(_PAUSE)  # noqa: ASYNC251 - the publisher is no task here
                began = time.perf_counter_ns()
                hand_over(event)
                taken.append(_micros(began, arrived.get()))
            return taken

        return take

    bus = stack.enter_context(EventBus([note]))
    portal = stack.enter_context(start_blocking_portal("asyncio"))
    queue: SimpleQueue[Ticked | None] = SimpleQueue()
    thread = threading.Thread(target=_drain_into, args=(queue, arrived))
    thread.start()
    stack.callback(queue.put, None)
    return {
        "eventbus": hands(bus.publish),
        "anyio portal (start_task_soon)": hands(lambda event: portal.start_task_soon(note, event)),
        "floor: a thread on a SimpleQueue": hands(queue.put),
    }


def _drain_into(queue: SimpleQueue[Ticked | None], arrived: SimpleQueue[int]) -> None:
    while queue.get() is not None:
        arrived.put(time.perf_counter_ns())


async def _idle_in_one_loop(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = [Ticked() for _ in range(min(scale.events, 200))]
    arrived_at = 0
    arrived = anyio.Event()

    def note(_: Ticked) -> None:
        nonlocal arrived_at
        arrived_at = time.perf_counter_ns()
        arrived.set()

    def hands(hand_over: Callable[[Ticked], object]) -> Round:
        async def take() -> Samples:
            nonlocal arrived
            taken: list[float] = []
            for event in events:
                arrived = anyio.Event()
                began = time.perf_counter_ns()
                hand_over(event)
                await arrived.wait()
                taken.append(_micros(began, arrived_at))
            return taken

        return take

    async def consume(queue: asyncio.Queue[Ticked]) -> None:
        while True:
            note(await queue.get())

    bus = await stack.enter_async_context(EventBus([note]))
    queue: asyncio.Queue[Ticked] = asyncio.Queue()
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    tasks.start_soon(consume, queue)
    await bus.drain()
    return {"eventbus": hands(bus.publish), "asyncio.Queue": hands(queue.put_nowait)}


class _Burst:
    """Events that are handed over at once, and how long each of them was under way."""

    def __init__(self) -> None:
        self._events = [Ticked(number=number) for number in range(_BURST)]
        self._sent = [0] * _BURST
        self._taken: list[float] = []
        self._has_arrived = threading.Event()

    def note(self, event: Ticked) -> None:
        """Note an arrival."""
        self._taken.append(_micros(self._sent[event.number], time.perf_counter_ns()))
        if event.number == _BURST - 1:
            self._has_arrived.set()

    def take(self, hand_over: Callable[[Ticked], object]) -> Round:
        """Return what hands a burst over in a thread, now and then, and waits for it."""

        def in_a_thread() -> Samples:
            self._taken = []
            for _ in range(_BURSTS):
                time.sleep(_PAUSE)
                self._has_arrived.clear()
                for number, event in enumerate(self._events):
                    self._sent[number] = time.perf_counter_ns()
                    hand_over(event)
                self._has_arrived.wait()
            return self._taken

        return partial(anyio.to_thread.run_sync, in_a_thread)


async def _loaded(stack: AsyncExitStack, _: Scale) -> Rounds:
    mine, theirs, queued = _Burst(), _Burst(), _Burst()
    here = await stack.enter_async_context(EventBus([mine.note]))
    there = stack.enter_context(EventBus([theirs.note]))
    queue: SimpleQueue[Ticked | None] = SimpleQueue()

    def consume() -> None:
        while (event := queue.get()) is not None:
            queued.note(event)

    thread = threading.Thread(target=consume)
    thread.start()
    stack.callback(queue.put, None)
    return {
        "eventbus, the caller's loop": mine.take(here.publish),
        "eventbus, own thread": theirs.take(there.publish),
        "a thread on a SimpleQueue": queued.take(queue.put),
    }


CONTESTS = [
    Contest("latency across threads, idle", "us", _idle_across_threads, rounds=20),
    Contest("latency in one loop, idle", "us", _idle_in_one_loop, rounds=20),
    Contest("latency from a thread, 100 at a time", "us", _loaded, rounds=20),
]
