"""What the bus costs before and between events: time to import, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale
from benchmarks.silent import Ticked, prebuilt, silent_async
from eventbus import EventBus

__all__ = ["CONTESTS"]

_TIMED_IMPORT = "import time; t = time.perf_counter(); import {}; print((time.perf_counter() - t) * 1e3)"


def _imports(modules: str) -> Round:
    # Compiled code is kept, as by any installer: the first, untimed round compiles what is new.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    async def take() -> Samples:
        command = [sys.executable, "-c", _TIMED_IMPORT.format(modules)]
        done = subprocess.run(command, capture_output=True, check=True, env=environment, text=True)  # noqa: ASYNC221
        return (float(done.stdout),)

    return take


async def _import_time(_stack: AsyncExitStack, _scale: Scale) -> Rounds:
    return {
        "eventbus": _imports("eventbus"),
        "anyio, blinker, msgspec": _imports("anyio, blinker, msgspec"),
        "asyncio": _imports("asyncio"),
    }


def _bytes_of(make: Callable[[], object], count: int) -> Samples:
    """Return the bytes that one of `count` things takes."""
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
                bus.subscribe(silent_async(), Ticked)

            def publish() -> object:
                for each in events.each():
                    bus.publish(each)
                return bus.statistics()

            return _bytes_of(publish, count)

        return take

    async def subscription() -> Samples:
        bus = EventBus()
        return _bytes_of(lambda: [bus.subscribe(silent_async(), Ticked) for _ in range(200)], 200)

    return {
        "an event": event,
        "queued in 1 mailbox, beside the event": queued(1),
        "queued in 3 mailboxes, beside the event": queued(3),
        "a subscription": subscription,
    }


CONTESTS = [
    Contest("import, fresh interpreter", "ms", _import_time, rounds=11),
    Contest("memory", "bytes", _memory, rounds=3),
]
