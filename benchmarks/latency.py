"""Time from `publish` to the first line of the handler."""

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
from benchmarks.workload import Ticked
from eventbus import EventBus

__all__ = ["CONTESTS"]

_PAUSE = 0.004
"""Seconds between events, so that the consumer is asleep again."""
_BURST, _BURSTS = 100, 20


def _micros(began_ns: int, ended_ns: int) -> float:
    return (ended_ns - began_ns) / 1_000


async def _idle_across_threads(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = [Ticked() for _ in range(min(scale.events, 100))]
    arrived: SimpleQueue[int] = SimpleQueue()

    async def note(_: Ticked) -> None:
        arrived.put(time.perf_counter_ns())

    def delays_of(send: Callable[[Ticked], object]) -> Round:
        async def take() -> Samples:
            taken: list[float] = []
            for event in events:
                time.sleep(_PAUSE)  # noqa: ASYNC251 - the publisher is not a task here
                began = time.perf_counter_ns()
                send(event)
                taken.append(_micros(began, arrived.get()))
            return taken

        return take

    bus = stack.enter_context(EventBus([note]))
    portal = stack.enter_context(start_blocking_portal("asyncio"))
    queue: SimpleQueue[Ticked | None] = SimpleQueue()
    thread = threading.Thread(target=_report_arrivals, args=(queue, arrived))
    thread.start()
    stack.callback(queue.put, None)
    return {
        "eventbus": delays_of(bus.publish),
        "anyio portal (start_task_soon)": delays_of(lambda event: portal.start_task_soon(note, event)),
        "floor: thread reading a SimpleQueue": delays_of(queue.put),
    }


def _report_arrivals(queue: SimpleQueue[Ticked | None], arrived: SimpleQueue[int]) -> None:
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

    def delays_of(send: Callable[[Ticked], object]) -> Round:
        async def take() -> Samples:
            nonlocal arrived
            taken: list[float] = []
            for event in events:
                arrived = anyio.Event()
                began = time.perf_counter_ns()
                send(event)
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
    return {"eventbus": delays_of(bus.publish), "asyncio.Queue": delays_of(queue.put_nowait)}


class _Burst:
    """Events that are sent together, and the delay of each."""

    def __init__(self) -> None:
        self._events = [Ticked(number=number) for number in range(_BURST)]
        self._sent = [0] * _BURST
        self._taken: list[float] = []
        self._has_arrived = threading.Event()

    def note(self, event: Ticked) -> None:
        """Record the delay of an event that has arrived."""
        self._taken.append(_micros(self._sent[event.number], time.perf_counter_ns()))
        if event.number == _BURST - 1:
            self._has_arrived.set()

    def take(self, send: Callable[[Ticked], object]) -> Round:
        """Return a round that sends bursts from a thread, each when the previous one has arrived."""

        def in_a_thread() -> Samples:
            self._taken = []
            for _ in range(_BURSTS):
                time.sleep(_PAUSE)
                self._has_arrived.clear()
                for number, event in enumerate(self._events):
                    self._sent[number] = time.perf_counter_ns()
                    send(event)
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
        "thread reading a SimpleQueue": queued.take(queue.put),
    }


CONTESTS = [
    Contest("latency across threads, idle", "us", _idle_across_threads, rounds=20),
    Contest("latency in one loop, idle", "us", _idle_in_one_loop, rounds=20),
    Contest("latency from a thread, 100 at a time", "us", _loaded, rounds=20),
]
