"""Shorten the interpreter's switch interval while events wait for a loop of another thread.

A woken thread waits for the interpreter's lock. CPython lets it request the lock only when
`sys.getswitchinterval` has passed without a release of the lock, and restarts that timer at each
release (``take_gil`` in its ``ceval_gil.c``). A publisher that computes, and makes a system call every
millisecond, releases the lock more often than the default of 5 ms: the loop that it has rung can wait
for a second. With an interval below the time between two releases it gets its turn.

The interval is the whole process's. So it is short only while a loop waits, and is then set back. An
interval that the program has set in between, or that is as short already, is left alone.

A signal handler or finalizer that publishes may interrupt either function anywhere, in the thread that
holds the lock: hence a critical section, and each function is correct if the other runs inside it. A
signal handler that waits for another thread lets it in, by `run_released`.

A loop that stops answers no more, and nothing of the bus need run afterwards. So while the interval is
short a thread looks every 50 ms whether the loops that wait still run. Rejected: an end with the loop's
object, which the bus itself keeps alive; replacing the `stop` and `close` of a loop that is not ours.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from eventbus.delivery.clock import elapsed_seconds
from eventbus.delivery.critical_section import CriticalSection

__all__ = ["SWITCH_INTERVAL_SECONDS", "restore", "run_released", "shorten"]

_Result = TypeVar("_Result")

SWITCH_INTERVAL_SECONDS = 0.000_01
"""Short enough for publishers that release the interpreter every 0.2 ms."""

LOOK_SECONDS = 0.05
"""How often the loops that wait are looked at."""

_LOOKS_IN_VAIN = 10
"""After this many looks in a row at an interval that is not short the thread ends."""

_SAME = 1e-7
"""Intervals that differ by less are equal: the interpreter keeps whole microseconds."""

_section = CriticalSection(lambda: None)
_waiting: dict[object, tuple[float, Callable[[], bool]]] = {}
_ours: float | None = None  # the interval we have set, while it is in force
_found = 0.0  # the interval to restore


def shorten(key: object, seconds: float, is_running: Callable[[], bool]) -> None:
    """Shorten the switch interval until `restore` is called with the same key.

    Args:
        key: Identifies the loop that waits.
        seconds: The switch interval.
        is_running: Returns whether the loop runs; once it does not, the interval is restored.
    """
    _section.run(partial(_shorten, key), (seconds, is_running))
    _watch.begin()


def _shorten(key: object, waiting: tuple[float, Callable[[], bool]]) -> None:
    global _ours, _found  # noqa: PLW0603 - the interval belongs to the whole process, too
    _waiting[key] = waiting
    found, seconds = sys.getswitchinterval(), waiting[0]
    if found - seconds > _SAME:
        if _ours is None or abs(found - _ours) > _SAME:
            _found = found
        _ours = seconds
        sys.setswitchinterval(seconds)


def restore(key: object) -> None:
    """Undo `shorten` unless another key still needs it; does nothing without a `shorten`."""
    if key in _waiting:
        _section.run(_restore, key)


def run_released(wait: Callable[[], _Result]) -> _Result:
    """Return ``wait()``; until then other threads may do both, even if this one is interrupted in either."""
    return _section.run_released(wait)


def _restore(key: object) -> None:
    global _ours
    _waiting.pop(key, None)
    if _waiting or _ours is None:
        return
    ours, _ours = _ours, None
    if abs(sys.getswitchinterval() - ours) <= _SAME:  # otherwise the program has set another
        sys.setswitchinterval(_found)
    for other, waiting in tuple(_waiting.items()):  # an interrupting `shorten` found it still short
        _shorten(other, waiting)


def _restore_stopped() -> None:
    # Not in the thread's own function, whose variables would keep the last loop, and its bus, alive.
    for key, (_, is_running) in tuple(_waiting.items()):
        if not is_running():
            restore(key)


class _Watch:
    """Restores the interval for loops that have stopped, in a thread that ends soon after it is restored."""

    def __init__(self) -> None:
        self._thread: object = None  # stands for the last thread
        self.forget()

    def forget(self) -> None:
        """Note that no thread looks."""
        self._looked_at = float("-inf")  # not a flag, which an exception could leave set

    def begin(self) -> None:
        """Have a thread look, unless one does."""
        if elapsed_seconds() - self._looked_at < LOOK_SECONDS * _LOOKS_IN_VAIN:
            return
        self._looked_at = elapsed_seconds()
        self._thread = me = object()
        with suppress(RuntimeError):  # there are too many threads, or the interpreter is exiting
            # Not `Thread.start`, which waits until the thread has begun: publishers never wait.
            start_new_thread(self._look, (me,))

    def _look(self, me: object) -> None:
        in_vain = 0
        while in_vain < _LOOKS_IN_VAIN and self._thread is me:
            time.sleep(LOOK_SECONDS)
            self._looked_at = elapsed_seconds()
            in_vain = 0 if _waiting else in_vain + 1
            _restore_stopped()
        if self._thread is me:
            self.forget()
            if _waiting:  # since the last look
                self.begin()


_watch = _Watch()


def _restore_all() -> None:
    global _section  # noqa: PLW0603 - a thread of the parent may have been inside at the fork
    _section = CriticalSection(lambda: None)
    _watch.forget()
    for key in tuple(_waiting):  # they wait in the parent only
        restore(key)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_all)
