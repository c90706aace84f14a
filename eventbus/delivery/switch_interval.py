"""Shorten the interpreter's switch interval while events wait for a loop of another thread.

A thread that has been woken waits for the interpreter's lock. CPython lets it ask for the lock only
when `sys.getswitchinterval` has passed without the lock being released, and begins to count anew at
each release (``take_gil`` in its ``ceval_gil.c``). A publisher that computes, and every millisecond
makes a system call, releases the lock more often than the default of 5 ms: the loop that it has rung
can wait for a second. With an interval below the time between two releases it gets its turn.

The interval is the whole process's. So it is short only while somebody waits, and is put back as it
was; one that the program has set meanwhile, or that is as short already, is left alone.

A signal handler or finalizer that publishes may interrupt either function anywhere, in the thread that
holds the lock: hence a re-entrant one, and each function is right when the other runs amid it.
"""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["SWITCH_INTERVAL_SECONDS", "restore", "shorten"]

SWITCH_INTERVAL_SECONDS = 0.000_01
"""Short enough for publishers that release the interpreter every 0.2 ms."""

_SAME = 1e-7
"""Two intervals that differ by less are one: the interpreter keeps whole microseconds."""

_lock = threading.RLock()
_waiting: dict[object, float] = {}
_ours: float | None = None  # the interval that is in force because of us
_found = 0.0  # the one to put back


def shorten(who: object, seconds: float) -> None:
    """Let no thread keep the interpreter for longer than this while another wants it.

    Args:
        who: On whose behalf; until `restore` for the same one.
        seconds: The switch interval.
    """
    global _ours, _found  # noqa: PLW0603 - as wide as what it keeps: the process
    with _lock:
        _waiting[who] = seconds
        found = sys.getswitchinterval()
        if found - seconds > _SAME:
            if _ours is None or abs(found - _ours) > _SAME:
                _found = found
            _ours = seconds
            sys.setswitchinterval(seconds)


def restore(who: object) -> None:
    """Undo `shorten`, as far as nobody else needs it; nothing if there was none."""
    global _ours
    if who not in _waiting:
        return
    with _lock:
        _waiting.pop(who, None)
        if _waiting or _ours is None:
            return
        ours, _ours = _ours, None
        if abs(sys.getswitchinterval() - ours) <= _SAME:  # else the program has set another
            sys.setswitchinterval(_found)
        for other, seconds in tuple(_waiting.items()):  # who interrupted this found it short still
            shorten(other, seconds)


def _restore_all() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it at the fork
    _lock = threading.RLock()
    for who in tuple(_waiting):  # threads of the parent's, or their loops
        restore(who)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_all)
