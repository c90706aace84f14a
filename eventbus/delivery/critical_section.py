"""A critical section that signal handlers, finalizers and exceptions may interrupt.

Python runs signal handlers and finalizers between any two bytecodes of a thread, so either may
publish while that very thread is inside. A plain lock would deadlock there; an RLock alone would
let them in while things are half done. This is an RLock whose section knows that it is busy.

An exception may strike anywhere inside, too: the KeyboardInterrupt of a signal handler, a time limit.
So there is no flag that could be left set: a thread is inside as long as it owns the lock. And ``with``
stands on one line with the work, so that nothing can be raised between the work and the release, not
even by a debugger that stops at each line. What the exception leaves half done is the work's concern.
Since Python 3.14 an exception may also strike between the entry and the block, where ``with`` does not
leave again: a thread that is still inside after the outermost block leaves then.

No user code, no I/O and no waiting happens inside: other threads wait for microseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["CriticalSection"]

_Result = TypeVar("_Result")
_Given = TypeVar("_Given")


class CriticalSection:
    """Runs work in one thread at a time, and knows when that thread is inside already.

    Args:
        when_missed: Called after leaving, if `run_unless_inside` returned None inside.

    Attributes:
        is_inside: Return whether the calling thread is inside.
    """

    __slots__ = ("_lock", "_missed", "_when_missed", "is_inside")

    def __init__(self, when_missed: Callable[[], object]) -> None:
        lock: Any = threading.RLock()
        self._lock = lock
        self._missed = False
        self._when_missed = when_missed
        # What `threading.Condition` asks of a lock.
        self.is_inside: Callable[[], bool] = lock._is_owned

    def run(self, work: Callable[[_Given], _Result], given: _Given) -> _Result:
        """Return ``work(given)``, done inside; at once if this thread is inside already."""
        if self.is_inside():
            return work(given)
        try:
            with self._lock: return work(given)  # noqa: E701  # fmt: skip
        except BaseException:
            self._leave_if_inside()
            raise
        finally:
            if self._missed:
                self._make_up()

    def run_unless_inside(self, work: Callable[[], _Result]) -> _Result | None:
        """Return ``work()``, done inside; None if this thread is inside already.

        In that case `when_missed` is called as soon as it has left.
        """
        if self.is_inside():
            self._missed = True
            return None
        try:
            with self._lock: return work()  # noqa: E701  # fmt: skip
        except BaseException:
            self._leave_if_inside()
            raise
        finally:
            if self._missed:
                self._make_up()

    def run_released(self, wait: Callable[[], _Result]) -> _Result:
        """Return ``wait()``, called while this thread is not inside; it is inside again afterwards.

        For a signal handler that waits for another thread, which may have to enter. The interrupted
        work must bear that others have entered in the meantime.
        """
        if not self.is_inside():
            return wait()
        state = self._lock._release_save()
        try:
            return wait()
        finally:
            self._lock._acquire_restore(state)

    def _leave_if_inside(self) -> None:
        if self.is_inside():
            self._lock.release()

    def _make_up(self) -> None:
        self._missed = False
        self._when_missed()
