"""A critical section that signal handlers and finalizers may interrupt.

Python runs signal handlers and finalizers between any two bytecodes of a thread, so either may
publish while that very thread is inside. A plain lock would deadlock there; an RLock alone would
let them in while things are half done. This is an RLock that knows it is busy.

No user code, no I/O and no waiting happens inside: other threads wait for microseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["CriticalSection"]

_Result = TypeVar("_Result")
_Given = TypeVar("_Given")


class CriticalSection:
    """Runs work in one thread at a time, and knows when that thread is inside already.

    Args:
        when_missed: Called after leaving, if `run_unless_inside` returned None inside.
    """

    __slots__ = ("_inside", "_lock", "_missed", "_when_missed")

    def __init__(self, when_missed: Callable[[], object]) -> None:
        self._lock = threading.RLock()
        self._inside = False
        self._missed = False
        self._when_missed = when_missed

    def run(self, work: Callable[[_Given], _Result], given: _Given) -> _Result:
        """Return ``work(given)``, done inside; at once if this thread is inside already."""
        with self._lock:
            was_inside = self._inside
            self._inside = True
            try:
                result = work(given)
            finally:
                self._inside = was_inside
        if self._missed and not was_inside:
            self._make_up()
        return result

    def run_unless_inside(self, work: Callable[[], _Result]) -> _Result | None:
        """Return ``work()``, done inside; None if this thread is inside already.

        In that case `when_missed` is called as soon as it has left.
        """
        with self._lock:
            if self._inside:
                self._missed = True
                return None
            self._inside = True
            try:
                result = work()
            finally:
                self._inside = False
        if self._missed:
            self._make_up()
        return result

    def _make_up(self) -> None:
        self._missed = False
        self._when_missed()
