"""A lock that a forked child finds free, and a last call in children that skip `atexit`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

__all__ = ["ForkSafeLock", "at_end_of_worker_process"]


_SLOTS = ("__enter__", "__exit__", "__weakref__", "_lock", "is_inside")  # not read by type checkers


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, even if a thread of the parent held it.

        with lock:
            ...

    No thread of the child could release it there. It is re-entrant because a finalizer or a signal
    handler may interrupt the thread that holds it: a nested entry may see a partial update.

    Attributes:
        is_inside: Return whether the calling thread holds the lock.
    """

    # ``with`` finds the C methods of the lock itself. Methods of this class could be left by an exception
    # (a KeyboardInterrupt, a time limit) between their two lines, with the lock taken for ever.
    __slots__ = _SLOTS

    if TYPE_CHECKING:

        def __enter__(self) -> bool: ...

        def __exit__(self, *_: object) -> None: ...

    def __init__(self) -> None:
        lock: Any = threading.RLock()
        self._lock = lock
        vars_: Any = self
        vars_.__enter__, vars_.__exit__ = lock.__enter__, lock.__exit__
        self.is_inside: Callable[[], bool] = lock._is_owned
        _locks.add(self)

    def run_if_free(self, work: Callable[[], object]) -> bool:
        """Call a function inside, unless this or another thread is inside already; return whether it was.

        Never waits.
        """
        if self.is_inside():
            return False
        try:
            try:
                is_free: bool = self._lock.acquire(blocking=False)
                if is_free:
                    work()
                return is_free
            finally:
                self._leave()
        except BaseException:
            self._leave()  # the exception may have struck the other one
            raise

    def free(self) -> None:
        """Free it, whichever thread holds it."""
        self._lock._at_fork_reinit()

    def _leave(self) -> None:
        while self.is_inside():
            self._lock.release()


_locks: WeakSet[ForkSafeLock] = WeakSet()


def _free_all() -> None:
    for lock in list(_locks):
        lock.free()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_free_all)


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
