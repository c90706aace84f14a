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
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from eventbus.delivery.critical_section import CriticalSection

__all__ = ["SWITCH_INTERVAL_SECONDS", "restore", "run_released", "shorten"]

_Result = TypeVar("_Result")

SWITCH_INTERVAL_SECONDS = 0.000_01
"""Short enough for publishers that release the interpreter every 0.2 ms."""

_SAME = 1e-7
"""Intervals that differ by less are equal: the interpreter keeps whole microseconds."""

_section = CriticalSection(lambda: None)
_waiting: dict[object, float] = {}
_ours: float | None = None  # the interval we have set, while it is in force
_found = 0.0  # the interval to restore


def shorten(key: object, seconds: float) -> None:
    """Shorten the switch interval until `restore` is called with the same key.

    Args:
        key: Identifies the loop that waits.
        seconds: The switch interval.
    """
    _section.run(partial(_shorten, key), seconds)


def _shorten(key: object, seconds: float) -> None:
    global _ours, _found  # noqa: PLW0603 - the interval belongs to the whole process, too
    _waiting[key] = seconds
    found = sys.getswitchinterval()
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
    for other, seconds in tuple(_waiting.items()):  # an interrupting `shorten` found it still short
        _shorten(other, seconds)


def _restore_all() -> None:
    global _section  # noqa: PLW0603 - a thread of the parent may have been inside at the fork
    _section = CriticalSection(lambda: None)
    for key in tuple(_waiting):  # they wait in the parent only
        restore(key)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_all)
