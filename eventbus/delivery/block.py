"""The ``async with`` block of a bus: a host in the caller's loop, and a body that can be cancelled.

Test fixtures, exit stacks and async generators enter in one task and leave in another. asyncio allows
that if nothing of the block belongs to a task: the host is a task of its own, and the body is cancelled
by `Task.cancel`, as `asyncio.timeout` does. Rejected: an anyio task group for both backends. Its scope
must be left in the task that entered it. So must every scope of trio, which has nothing else to cancel
a body with: there it is a task group.

A forked child that leaves its copy of the body does not wait for the host: it would have to run its copy of
the loop, which shares the kernel's wake-ups with the parent's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import anyio
import anyio.abc

from eventbus.delivery.running_loop import is_cancellation, is_under_trio
from eventbus.errors import BusStateError

if TYPE_CHECKING:
    import asyncio

__all__ = ["Block", "begin_block"]

_Serve: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Block(Protocol):
    """A block that has been entered."""

    def cancel(self) -> None:
        """Cancel the body; only in its loop."""
        ...

    async def end(self, error: BaseException | None) -> bool:
        """Wait for the host, after the close; return whether `error` is the body's cancellation by us."""
        ...


async def begin_block(serve: _Serve, name: str) -> Block:
    """Run a host in the running loop, for the body that the calling task is about to run."""
    if not is_under_trio():
        return _AsyncioBlock(serve, name)
    tasks = anyio.create_task_group()
    await tasks.__aenter__()
    tasks.start_soon(serve, name=name)
    return _TrioBlock(tasks)


class _AsyncioBlock:
    def __init__(self, serve: _Serve, name: str) -> None:
        import asyncio  # noqa: PLC0415 - here, where a loop runs and it is loaded

        self._loop = asyncio.get_running_loop()
        self._body = asyncio.current_task()
        self._is_cancelled = False
        self._host: asyncio.Task[None] = self._loop.create_task(serve(), name=name)
        self._host.add_done_callback(_retrieve)

    def cancel(self) -> None:
        self._is_cancelled = self._body is not None and self._body.cancel()

    async def end(self, error: BaseException | None) -> bool:
        import asyncio  # noqa: PLC0415 - see `__init__`

        if self._loop is not asyncio.get_running_loop():
            return False  # the close has waited for the host, as long as it may
        await _outlast(self._host)
        if not self._is_cancelled or self._body is None or self._body is not asyncio.current_task():
            return False
        self._is_cancelled = False
        try:
            await asyncio.sleep(0)  # the cancellation may not have been raised yet
        except asyncio.CancelledError as pending:
            error = error or pending
        return self._body.uncancel() == 0 and isinstance(error, asyncio.CancelledError)


class _TrioBlock:
    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._body = anyio.get_current_task()

    def cancel(self) -> None:
        self._tasks.cancel_scope.cancel()

    async def end(self, error: BaseException | None) -> bool:
        if anyio.get_current_task() != self._body:
            raise BusStateError(
                "trio lets only the task that entered an `async with` block leave it. The bus is closed; "
                "enter it in the task that leaves it, or with a plain `with`"
            )
        if error is not None and self._tasks.cancel_scope.cancel_called and is_cancellation(error):
            return bool(await self._tasks.__aexit__(type(error), error, None))
        # Without the body's exception, which would come out wrapped in a group.
        await self._tasks.__aexit__(None, None, None)
        return False


def _retrieve(host: asyncio.Task[None]) -> None:
    """Keep asyncio from logging again what the host was ended with."""
    if not host.cancelled():
        host.exception()


async def _outlast(host: asyncio.Task[None]) -> None:
    """Wait until a host has ended, and pass on a cancellation only then."""
    import asyncio  # noqa: PLC0415 - see `_AsyncioBlock`

    cancelled: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while not host.done():
            try:
                await asyncio.wait((host,))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
