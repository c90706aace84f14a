"""The running loop, asyncio's or trio's.

Here and in `block` they are distinguished: anyio cannot wake a task of another thread's loop without
waiting for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import asyncio

__all__ = ["Sleeper", "current_loop", "is_cancellation", "is_under_trio", "new_sleeper", "schedulers"]


class Sleeper(Protocol):
    """What one task sleeps on."""

    def sleep(self) -> Awaitable[None]:
        """Return what suspends the awaiting task until `wake`; await it at once, and once.

        Waking has no effect on a later sleep.
        """
        ...

    def wake(self) -> None:
        """Resume the sleeping task, if there is one. Only in the loop's own thread."""
        ...


def current_loop() -> object:
    """Return an object that identifies the loop of the calling task."""
    trio = _running_trio()
    if trio is not None:
        return trio.current_trio_token()
    import asyncio  # noqa: PLC0415 - see _AsyncioSleeper

    return asyncio.get_running_loop()


def new_sleeper() -> Sleeper:
    """Return a sleeper for a task of the running loop."""
    trio = _running_trio()
    return _AsyncioSleeper() if trio is None else _TrioSleeper(trio)


def is_under_trio() -> bool:
    """Whether the calling task runs under trio; otherwise it runs under asyncio."""
    return _running_trio() is not None


def is_cancellation(error: BaseException) -> bool:
    """Whether asyncio or trio cancels a task with this exception."""
    known = (("asyncio", "CancelledError"), ("trio", "Cancelled"))
    found = (getattr(sys.modules.get(module), name, None) for module, name in known)
    return any(isinstance(each, type) and isinstance(error, each) for each in found)


class _AsyncioSleeper:
    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        # Here, where a loop runs and asyncio is loaded: it would be a third of `import eventbus`.
        import asyncio  # noqa: PLC0415

        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None

    def sleep(self) -> Awaitable[None]:
        # The future itself: a coroutine around it would cost a fifth of waking a task.
        self._future = future = self._loop.create_future()
        return future

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class _TrioSleeper:
    __slots__ = ("_task", "_trio")

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._task: Any = None

    async def sleep(self) -> None:
        self._task = self._trio.current_task()
        await self._trio.wait_task_rescheduled(self._abort)

    def wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._trio.reschedule(task)

    def _abort(self, _raise_cancel: object) -> Any:
        self._task = None
        return self._trio.Abort.SUCCEEDED


_Scheduler: TypeAlias = Callable[[Callable[[], None]], object]
_LaterScheduler: TypeAlias = Callable[[float, Callable[[], None]], object]


def schedulers() -> tuple[_Scheduler, _Scheduler, _LaterScheduler | None, Callable[[], bool]]:
    """Return the running loop's calls of functions (from anywhere, here, later) and its `is_running`."""
    trio = _running_trio()
    if trio is not None:
        run_sync_soon = trio.current_trio_token().run_sync_soon

        def is_running() -> bool:
            with suppress(RuntimeError):
                run_sync_soon(bool, idempotent=True)  # any function; the ended loop refuses it
                return True
            return False

        return run_sync_soon, run_sync_soon, None, is_running  # trio has timers in tasks only
    import asyncio  # noqa: PLC0415 - see _AsyncioSleeper

    loop = asyncio.get_running_loop()
    thread = threading.get_ident()
    # An empty context: callbacks must not run in the context of the publisher that rang.
    context = Context()

    def from_anywhere(callback: Callable[[], None]) -> None:
        # While a task of this loop runs, the loop does not sleep. Being in its thread is not enough: a
        # signal handler runs there while the loop sleeps in select(), and only the thread-safe form,
        # which costs a system call, wakes it.
        if threading.get_ident() == thread and asyncio.current_task(loop) is not None:
            loop.call_soon(callback, context=context)
        else:
            loop.call_soon_threadsafe(callback, context=context)

    here, later = partial(loop.call_soon, context=context), partial(loop.call_later, context=context)
    return from_anywhere, here, later, loop.is_running


def _running_trio() -> Any:
    """Return `trio.lowlevel` if the calling task runs under trio, without importing it.

    The module may be of any version, or half imported by another thread. Rejected: `in_trio_task`,
    which trio has since 0.29.
    """
    lowlevel = sys.modules.get("trio.lowlevel")
    try:
        lowlevel.current_task()  # type: ignore[union-attr]
    except (AttributeError, RuntimeError):
        return None
    return lowlevel
