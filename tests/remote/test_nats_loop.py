"""The asyncio loop in a thread of its own, for hosts of asyncio and trio."""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from eventbus.remote.nats_loop import NatsLoop

pytestmark = pytest.mark.anyio


async def add(one: int, other: int) -> int:
    await anyio.lowlevel.checkpoint()
    return one + other


async def fail() -> None:
    raise LookupError("of the call")


async def test_calls() -> None:
    """A call returns its result or raises its exception, under asyncio and trio, and the thread ends."""
    loop = NatsLoop("eventbus-test")
    loop.start()
    assert await loop.run(add, 1, 2) == 3
    with pytest.raises(LookupError, match="of the call"):
        await loop.run(fail)
    loop.end()
    loop.end()
    loop.join(5)
    assert "eventbus-test" not in [each.name for each in threading.enumerate()]


async def test_a_cancelled_call_is_cancelled() -> None:
    """When the waiting task is cancelled, so is the call in the loop."""
    loop = NatsLoop("eventbus-test")
    loop.start()
    began, ended = threading.Event(), threading.Event()

    async def hang() -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop.run, hang)
        await anyio.to_thread.run_sync(began.wait, 5)
        tasks.cancel_scope.cancel()
    assert ended.wait(5)
    loop.end()
    loop.join(5)


def test_what_runs_at_the_end_is_cancelled() -> None:
    """`end` cancels what still runs in the loop."""
    loop = NatsLoop("eventbus-test")
    loop.start()
    future = loop.begin(anyio.sleep, 60)
    loop.end()
    loop.join(5)
    assert future.cancelled() or future.exception() is not None
