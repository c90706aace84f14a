"""Other libraries doing the same work, each used as its documentation shows, in its cheapest form."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cache, partial
from itertools import islice
from typing import Any

import anyio
import blinker

from benchmarks.rounds import Round, Rounds, Samples, elapsed, now
from benchmarks.workload import (
    Events,
    Pace,
    Ticked,
    no_wait,
    noop,
    noop_async,
    timed_awaits,
    timed_calls,
    until_handled,
)

__all__ = ["end_to_end", "publish_to_three", "slow_end_to_end", "versions"]

_OPTIONAL = (
    "aiopubsub", "asphalt", "bubus", "dust_riven", "oneiric", "psygnal", "pyee", "pymitter", "reactivex"
)  # fmt: skip


@cache
def _found(name: str) -> Any:
    """Return an optional peer's module; if it is not installed, print that and return None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(
            f"SKIPPED: {name} is not installed (pip install --group bench; oneiric: Python 3.13 or newer)",
            file=sys.stderr,
        )
        return None


def versions() -> dict[str, str]:
    """Return the version of each measured library by its name."""
    names = ("anyio", "blinker", "msgspec", *(name for name in _OPTIONAL if _found(name)))
    return {name: importlib.metadata.version(name) for name in names}


def _with_three(connect: Callable[[Any], object], new_handler: Callable[[], Any]) -> None:
    for number in range(3):
        handler = new_handler()
        handler.__name__ = f"handle_{number}"  # bubus warns about handlers with the same name
        connect(handler)


def _blinker(new_handler: Callable[[], Any]) -> blinker.Signal:
    signal = blinker.Signal()
    _with_three(partial(signal.connect, weak=False), new_handler)
    return signal


def publish_to_three(events: Events) -> Rounds:
    """Return the peers that call 3 plain functions synchronously."""
    rounds = {"blinker": timed_calls(_blinker(noop).send, events)}
    if psygnal := _found("psygnal"):
        owner: Any = type("Owner", (), {"ticked": psygnal.Signal(object)})()
        _with_three(owner.ticked.connect, noop)
        rounds["psygnal (emit_fast)"] = timed_calls(owner.ticked.emit_fast, events)
    for name in ("pyee", "pymitter"):
        if peer := _found(name):
            emitter = peer.EventEmitter()
            _with_three(partial(emitter.on, "ticked"), noop)
            rounds[name] = timed_calls(partial(emitter.emit, "ticked"), events)
    return rounds | _there_and_then(events, timed_calls)


def _there_and_then(events: Events, pace: Pace) -> Rounds:
    """Return the peers whose call has run the 3 functions when it returns: no queue, no isolation."""
    rounds: Rounds = {}
    if dust_riven := _found("dust_riven"):
        signal = dust_riven.Signal()
        _with_three(signal.connect, noop)
        rounds["dust_riven (emit, in Rust)"] = pace(signal.emit, events, no_wait)
    if reactivex := _found("reactivex"):
        subject = reactivex.Subject()
        _with_three(subject.subscribe, noop)
        rounds["reactivex (Subject)"] = pace(subject.on_next, events, no_wait)
    return rounds


async def end_to_end(stack: AsyncExitStack, events: Events, pace: Pace = until_handled) -> Rounds:
    """Return the peers that need a few microseconds for 3 async handlers."""
    return {
        "blinker (send_async)": timed_awaits(_blinker(noop_async).send_async, events),
        "deque and asyncio.Event fan-out": await _deques(stack, events, pace),
        "asyncio.Queue fan-out": await _queues(stack, events, pace),
        **_there_and_then(events, pace),
    }


async def slow_end_to_end(stack: AsyncExitStack, events: Events) -> Rounds:
    """Return the peers that need up to hundreds of microseconds for 3 async handlers."""
    rounds: Rounds = {"anyio memory object streams": await _streams(stack, events)}
    if pyee := _found("pyee.asyncio"):
        emitter = pyee.AsyncIOEventEmitter()
        _with_three(partial(emitter.on, "ticked"), noop_async)
        rounds["pyee"] = until_handled(partial(emitter.emit, "ticked"), events, emitter.wait_for_complete)
    if pymitter := _found("pymitter"):
        emitter = pymitter.EventEmitter()
        _with_three(partial(emitter.on, "ticked"), noop_async)
        rounds["pymitter (emit_async)"] = timed_awaits(partial(emitter.emit_async, "ticked"), events)
    if aiopubsub := _found("aiopubsub"):
        rounds["aiopubsub"] = _aiopubsub(stack, aiopubsub, events)
    if asphalt := _found("asphalt.core"):
        rounds["asphalt (Signal)"] = _asphalt(asphalt, events)
    if oneiric := _found("oneiric.runtime.events"):
        rounds["Oneiric (EventDispatcher)"] = _oneiric(oneiric, events)
    if bubus := _found("bubus"):
        rounds["bubus"] = _bubus(bubus)
    return rounds


async def _queues(stack: AsyncExitStack, events: Events, pace: Pace) -> Round:
    queues: list[asyncio.Queue[Ticked]] = [asyncio.Queue() for _ in range(3)]

    async def consume(queue: asyncio.Queue[Ticked]) -> None:
        handle = noop_async()
        while True:
            await handle(await queue.get())
            queue.task_done()

    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    for queue in queues:
        tasks.start_soon(consume, queue)

    def put(event: Ticked) -> None:
        for queue in queues:
            queue.put_nowait(event)

    async def settle() -> None:
        for queue in queues:
            await queue.join()

    return pace(put, events, settle)


async def _deques(stack: AsyncExitStack, events: Events, pace: Pace) -> Round:
    """The cheapest way to pass events to tasks: no bound, no isolation, one thread."""
    countdown = _Countdown(3 * events.number)
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    boxes: list[tuple[deque[Ticked], asyncio.Event]] = [(deque(), asyncio.Event()) for _ in range(3)]

    async def consume(queue: deque[Ticked], has_mail: asyncio.Event) -> None:
        handle = countdown.handler()
        while True:
            await has_mail.wait()
            has_mail.clear()
            while queue:
                await handle(queue.popleft())

    for queue, has_mail in boxes:
        tasks.start_soon(consume, queue, has_mail)

    def put(event: Ticked) -> None:
        for queue, has_mail in boxes:
            queue.append(event)
            has_mail.set()

    return pace(put, events, countdown.wait)


class _Countdown:
    """Creates async handlers and waits until they have been called `expected` times in total."""

    def __init__(self, expected: int) -> None:
        self._left = self._expected = expected
        self._done = anyio.Event()

    def handler(self) -> Callable[..., Any]:
        async def handle(*_: object) -> None:
            self._left -= 1
            if not self._left:
                self._done.set()

        return handle

    async def wait(self) -> None:
        await self._done.wait()
        self._left, self._done = self._expected, anyio.Event()


async def _streams(stack: AsyncExitStack, events: Events) -> Round:
    countdown = _Countdown(3 * events.number)
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    senders: list[Any] = []

    async def consume(receiver: Any) -> None:
        handle = countdown.handler()
        async with receiver:
            async for event in receiver:
                await handle(event)

    for _ in range(3):
        sender, receiver = anyio.create_memory_object_stream[Ticked](events.number)
        senders.append(stack.enter_context(sender))
        tasks.start_soon(consume, receiver)

    def send(event: Ticked) -> None:
        for sender in senders:
            sender.send_nowait(event)

    return until_handled(send, events, countdown.wait)


def _aiopubsub(stack: AsyncExitStack, aiopubsub: Any, events: Events) -> Round:
    countdown = _Countdown(3 * events.number)
    hub = aiopubsub.Hub()
    for number in range(3):
        subscriber = aiopubsub.Subscriber(hub, f"subscriber {number}")
        subscriber.add_async_listener(aiopubsub.Key("clock", "ticked"), countdown.handler())
        stack.push_async_callback(subscriber.remove_all_listeners)
    publisher = aiopubsub.Publisher(hub, prefix=aiopubsub.Key("clock"))
    return until_handled(partial(publisher.publish, aiopubsub.Key("ticked")), events, countdown.wait)


def _asphalt(asphalt: Any, events: Events) -> Round:
    event_class: Any = type("AsphaltTicked", (asphalt.Event,), {"__module__": __name__})
    owner_class: Any = type("Owner", (), {"ticked": asphalt.Signal(event_class)})
    owner = owner_class()
    _with_three(owner.ticked.connect, noop_async)

    def dispatch(_: Ticked) -> Any:  # asphalt builds the event itself
        return owner.ticked.dispatch()

    return timed_awaits(dispatch, events)


def _oneiric(oneiric: Any, events: Events) -> Round:
    dispatcher = oneiric.EventDispatcher()
    for number in range(3):
        handler = oneiric.EventHandler(name=f"handler {number}", callback=noop_async(), topics=("ticked",))
        dispatcher.register(handler)

    async def dispatch(event: Ticked) -> None:
        payload = {"number": event.number}
        await dispatcher.dispatch(oneiric.create_event_envelope("ticked", payload, source="benchmark"))

    return timed_awaits(dispatch, Events(50, lambda: islice(events.each(), 50)))


def _bubus(bubus: Any) -> Round:
    events = 20  # bubus rejects more than 100 pending events
    event_class: Any = type(bubus.BaseEvent)("BubusTicked", (bubus.BaseEvent,), {"__module__": __name__})

    async def take() -> Samples:
        bus = bubus.EventBus()
        _with_three(partial(bus.on, event_class), noop_async)
        began = now()
        dispatched = [bus.dispatch(event_class()) for _ in range(events)]
        await dispatched[-1]
        taken = elapsed(began, events)
        await bus.stop(timeout=0, clear=True)
        return taken

    return take
