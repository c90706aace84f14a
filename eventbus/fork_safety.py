"""A lock that a forked child finds free, and a last call in children that skip `atexit`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from weakref import WeakSet

__all__ = ["ForkSafeLock", "at_end_of_worker_process"]


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, even if a thread of the parent held it.

    No thread of the child could release it there. It is re-entrant because a finalizer or a signal
    handler may interrupt the thread that holds it. `__enter__` returns True on the outermost entry;
    a nested entry may see a partial update.
    """

    __slots__ = ("__weakref__", "_depth", "_lock")

    def __init__(self) -> None:
        self.reset_after_fork()
        _locks.add(self)

    def reset_after_fork(self) -> None:
        """Forget which thread holds the lock."""
        self._lock = threading.RLock()
        self._depth = 0

    def __enter__(self) -> bool:
        self._lock.acquire()
        self._depth += 1
        return self._depth == 1

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Undo one entry."""
        self._depth -= 1
        self._lock.release()

    def try_enter(self) -> bool:
        """Enter without waiting, and only as the outermost entry; call `leave` if this returns True."""
        if not self._lock.acquire(blocking=False):
            return False
        if self._depth:
            self._lock.release()
            return False
        self._depth = 1
        return True


_locks: WeakSet[ForkSafeLock] = WeakSet()


def _reset_locks() -> None:
    for lock in list(_locks):
        lock.reset_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_locks)


_pids: dict[Callable[[], None], int] = {}


def at_end_of_worker_process(function: Callable[[], None]) -> None:
    """Have a function called when this process ends, if it is one of multiprocessing's.

    Those that are forked end without `atexit`. Does nothing in other processes, and once per process.
    """
    process = sys.modules.get("multiprocessing.process")
    is_worker = process is not None and process.parent_process() is not None
    if is_worker and _pids.get(function) != os.getpid():
        from multiprocessing.util import Finalize  # noqa: PLC0415 - the process has imported it already

        _pids[function] = os.getpid()
        Finalize(None, function, exitpriority=100)
