"""What happens to running buses when the interpreter exits.

It exits in this order: the main thread ends; the executors are shut down; all threads that are not daemons
are waited for; the functions of `atexit` are called; the daemon threads are cut off.

`atexit` is where the buses are closed, because functions of the program that are called there may still
publish. For handlers that use `asyncio.to_thread` that is too late: so the buses are drained before. If such
threads have been used, and no other thread may still publish, they are also closed then, for `stop`.
Rejected: closing always that early.

The hook that is called first is private to `threading`; `concurrent.futures` uses it for its executors. Where
it is missing, there is only `atexit`.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, Protocol
from weakref import WeakSet

from eventbus.delivery.deadline import CLOSE_TIMEOUT_SECONDS, Deadline
from eventbus.delivery.latch import Latch
from eventbus.ground.fork_safety import at_end_of_worker_process

__all__ = ["before_early_close", "close_at_exit"]

_OF_EXECUTORS = "asyncio_"
"""How the threads of `asyncio.to_thread` are named. They are daemons if their loop's thread is one."""


class _Closable(Protocol):
    """A bus's life cycle."""

    is_running: bool

    def drain_at_exit(self) -> Latch: ...

    def begin_close_at_exit(self, timeout: float) -> None: ...

    def end_close_at_exit(self) -> None: ...


_closables: WeakSet[_Closable] = WeakSet()
_functions: dict[Callable[[], None], None] = {}  # in order


def close_at_exit(closable: _Closable) -> None:
    """Have a bus closed when the interpreter, or a process of multiprocessing, exits."""
    _closables.add(closable)
    at_end_of_worker_process(_close_all)
    _drain_first()


def before_early_close(function: Callable[[], None]) -> None:
    """Have a function called before the buses are closed, if that happens before `atexit` calls it."""
    _functions[function] = None


@atexit.register
def _close_all(timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
    running = _running()
    for each in running:  # all at once: several that hang take one timeout together
        each.begin_close_at_exit(timeout)
    for each in running:
        each.end_close_at_exit()


@cache
def _drain_first() -> None:
    register: Any = getattr(threading, "_register_atexit", None)
    if register is not None:
        with suppress(RuntimeError):  # the main thread has ended already
            # It registers its own first, which is then called after ours. Later it could not be imported.
            import_module("concurrent.futures.thread")
            register(_drain_all)


def _drain_all() -> None:
    """Drain the running buses when the main thread has ended, and close them if that is the time to."""
    deadline = Deadline()
    deadline.begin(CLOSE_TIMEOUT_SECONDS)
    drains = [each.drain_at_exit() for each in _running()]
    is_drained = False
    with suppress(KeyboardInterrupt):
        is_drained = all(each.wait(deadline.seconds_left()) for each in drains)
    if not is_drained or (_use_executors() and not _may_publish()):
        for function in tuple(_functions):
            function()
        _close_all(CLOSE_TIMEOUT_SECONDS if is_drained else deadline.seconds_left())


def _use_executors() -> bool:
    return any(each.name.startswith(_OF_EXECUTORS) for each in threading.enumerate())


def _may_publish() -> bool:
    """Whether a thread runs that the interpreter waits for."""
    waited_for = (each for each in threading.enumerate() if not each.daemon)
    return any(each is not threading.main_thread() for each in waited_for)


def _running() -> list[_Closable]:
    return [each for each in tuple(_closables) if each.is_running]
