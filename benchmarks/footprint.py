"""Import time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale
from benchmarks.workload import Ticked, noop_async, prebuilt
from eventbus import EventBus

__all__ = ["CONTESTS"]

_TIMED_IMPORT = "import time; t = time.perf_counter(); {}; print((time.perf_counter() - t) * 1e3)"


def _imports(statement: str) -> Round:
    # Bytecode is kept, as after an installation: the first, untimed round compiles it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    async def take() -> Samples:
        command = [sys.executable, "-c", _TIMED_IMPORT.format(statement)]
        done = subprocess.run(command, capture_output=True, check=True, env=environment, text=True)  # noqa: ASYNC221
        return (float(done.stdout),)

    return take


async def _import_time(_stack: AsyncExitStack, _scale: Scale) -> Rounds:
    return {
        "eventbus": _imports("from eventbus import *"),  # `import eventbus` waits for the first use
        "anyio, blinker, msgspec": _imports("import anyio, blinker, msgspec"),
        "asyncio": _imports("import asyncio"),
    }


def _bytes_of(make: Callable[[], object], count: int) -> Samples:
    """Return the bytes per object when `make` creates `count` objects."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        taken = tracemalloc.get_traced_memory()[0] - before
        del made
    finally:
        tracemalloc.stop()
    return (taken / count,)


async def _memory(_stack: AsyncExitStack, scale: Scale) -> Rounds:
    count = scale.events
    events = prebuilt(count)

    async def event() -> Samples:
        return _bytes_of(lambda: prebuilt(count), count)

    def queued(mailboxes: int) -> Round:
        async def take() -> Samples:
            bus = EventBus(history=0)
            for _ in range(mailboxes):
                bus.subscribe(noop_async(), Ticked)

            def publish() -> object:
                for each in events.each():
                    bus.publish(each)
                return bus.statistics()

            return _bytes_of(publish, count)

        return take

    async def subscription() -> Samples:
        bus = EventBus()
        return _bytes_of(lambda: [bus.subscribe(noop_async(), Ticked) for _ in range(200)], 200)

    return {
        "an event": event,
        "place in 1 mailbox, without the event": queued(1),
        "places in 3 mailboxes, without the event": queued(3),
        "a subscription": subscription,
    }


CONTESTS = [
    Contest("import, fresh interpreter", "ms", _import_time, rounds=11),
    Contest("memory", "bytes", _memory, rounds=3),
]
