"""A daemon thread for a subscriber whose work may block: files, streams, log handlers.

A call that hangs in it holds up its own subscriber only: not the loop that all subscribers share, and
not the end of the program. `anyio.to_thread` can promise only the first: under asyncio its threads are
not daemons, so the interpreter waits at exit for one that hangs, and even for one that is idle while
its loop runs on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast

from eventbus.delivery.causality import call_here
from eventbus.delivery.doorbell import Waiter
from eventbus.delivery.running_loop import current_loop

__all__ = ["OwnThread"]

_logger = logging.getLogger(__name__)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Idle: TypeAlias = "Callable[[], float | None]"


class OwnThread:
    """Makes one subscriber's blocking calls, one at a time and in order.

    The thread is started by the first call, and again by the first call after `end` or after a
    fork. Use it from one task at a time, as the methods of a `Subscriber` are.

    Args:
        name: The thread's name, for debuggers and logs.
        idle: Called in the thread when it has no calls left. If it returns a number of seconds, it is
            called again when they have passed without a call.
    """

    __slots__ = ("_calls", "_idle", "_name", "_thread", "_waiter")

    def __init__(self, name: str, *, idle: _Idle | None = None) -> None:
        self._name = name
        self._idle = idle
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiter: tuple[object, Waiter] | None = None  # the last call's, with its loop

    async def run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Return ``function(*args, **kwargs)``, called in the thread.

        Cancelling stops the waiting, not the call: it is still made, and its outcome dropped. Where
        no thread can be started (late in the interpreter's exit) the call is made at once, here.

        Raises:
            BaseException: The function's own exceptions.
        """
        call = _Call(partial(function, *args, **kwargs))
        if self._is_serving():
            await self._wait_for(call)
        else:
            call.make()
        return call.outcome()

    def end(self) -> None:
        """Let the thread end after the calls it has been given. Never waits for it."""
        self._calls.put(None)
        self._thread = None
        self._waiter = None

    async def _wait_for(self, call: _Call[Any]) -> None:
        loop = current_loop()
        kept, self._waiter = self._waiter, None
        waiter = kept[1] if kept is not None and kept[0] is loop else Waiter()
        waiter.reset()
        call.when_made = waiter.notify
        self._calls.put(call)
        await waiter.wait()
        # Kept only now, for the next call: a cancelled one is still going to notify its waiter.
        self._waiter = loop, waiter

    def _is_serving(self) -> bool:
        if self._thread is not None and self._thread.is_alive():
            return True
        # New ones: a forked child's copies may hold calls of the parent, a ring that the parent was
        # about to make, and a lock that is never released.
        self._calls = SimpleQueue()
        self._waiter = None
        self._thread = threading.Thread(
            target=_serve, args=(self._calls, self._idle), name=self._name, daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
        return self._thread is not None


class _Call(Generic[_Result]):
    __slots__ = ("_call", "_error", "_function", "_result", "when_made")

    def __init__(self, function: Callable[[], _Result]) -> None:
        self._function = function
        # Events published in the thread belong to the same chain and the same handler. Not the whole
        # context is copied: anyio would believe that a loop runs in the thread.
        self._call = call_here.get()
        self._result: _Result | None = None
        self._error: BaseException | None = None
        self.when_made: Callable[[], None] | None = None

    def make(self) -> None:
        call_here.set(self._call)
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - it is raised in the task that waits
            self._error = error
        if self.when_made is not None:
            self.when_made()

    def outcome(self) -> _Result:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame: keeping it would make a cycle
        return cast("_Result", self._result)


def _serve(calls: SimpleQueue[_Call[Any] | None], idle: _Idle | None) -> None:
    # A function, not a method: the waiting thread must not keep the `OwnThread` alive.
    pause: float | None = None
    while True:
        try:
            call = calls.get(timeout=pause)
        except Empty:
            pass
        else:
            if call is None:
                return
            call.make()
            del call
        pause = _work_when_idle(idle) if idle is not None and calls.empty() else None


def _work_when_idle(idle: _Idle) -> float | None:
    try:
        return idle()
    except Exception:
        _logger.exception("the idle function of a subscriber's thread failed")
        return None
