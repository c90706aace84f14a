"""How long an event is under way, from `publish` to the handler's first line."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from queue import SimpleQueue
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale
from benchmarks.silent import Ticked
from eventbus import EventBus

__all__ = ["CONTESTS"]

_PAUSE = 0.000_5
"""Seconds between events, for the consumer to fall asleep again."""
_PUBLISH_EVERY = 0.005
_WRITE_EVERY_MS = (0.2, 1.0, 3.0)


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


class _Delays:
    """Notes how long each event was under way."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.taken: list[float] = []

    def hand_over(self, hand_over: Callable[[Ticked], object]) -> None:
        event = Ticked(number=len(self.sent))
        self.sent.append(time.perf_counter_ns())
        hand_over(event)

    def note(self, event: Ticked) -> None:
        self.taken.append(_micros(self.sent[event.number], time.perf_counter_ns()))


def _work(hand_over: Callable[[], None], seconds: float, write_every: float | None) -> None:
    """Keep this thread busy with Python; hand over now and then, and make short writes."""
    now = time.perf_counter()
    end, next_hand_over = now + seconds, now
    next_write = end if write_every is None else now
    with tempfile.TemporaryFile() as file:
        number = file.fileno()
        while now < end:
            if now >= next_write and write_every is not None:
                os.write(number, b"a line of sixty-four bytes, as a program may write to its log...\n")
                next_write = now + write_every
            if now >= next_hand_over:
                hand_over()
                next_hand_over = now + _PUBLISH_EVERY
            sum(map(abs, range(50)))
            now = time.perf_counter()


@contextmanager
def _on_bus(delays: _Delays) -> Generator[Callable[[Ticked], object]]:
    with EventBus() as bus:
        bus.subscribe(delays.note, Ticked)
        time.sleep(0.01)  # its thread falls asleep
        yield bus.publish


@contextmanager
def _on_queue(delays: _Delays) -> Generator[Callable[[Ticked], object]]:
    queue: SimpleQueue[Ticked | None] = SimpleQueue()

    def consume() -> None:
        while (event := queue.get()) is not None:
            delays.note(event)

    thread = threading.Thread(target=consume)
    thread.start()
    yield queue.put
    queue.put(None)
    thread.join()


async def _busy(_: AsyncExitStack, scale: Scale) -> Rounds:
    def works(on: Callable[[_Delays], Any], write_every: float | None) -> Round:
        async def take() -> Samples:
            delays = _Delays()
            with on(delays) as hand_over:
                _work(lambda: delays.hand_over(hand_over), scale.seconds, write_every)
            return delays.taken

        return take

    rounds: Rounds = {"eventbus, no writes": works(_on_bus, None)}
    for every in _WRITE_EVERY_MS:
        rounds[f"eventbus, a write every {every:g} ms"] = works(_on_bus, every / 1_000)
    for every in _WRITE_EVERY_MS:
        rounds[f"a thread on a SimpleQueue, a write every {every:g} ms"] = works(_on_queue, every / 1_000)
    return rounds


CONTESTS = [
    Contest("latency across threads, idle", "us", _idle_across_threads, rounds=20),
    Contest("latency in one loop, idle", "us", _idle_in_one_loop, rounds=20),
    Contest("latency, publisher busy", "us", _busy, rounds=8),
]
