"""The clock of deadlines: it runs on where a test of the program has replaced the clocks.

freezegun replaces `time.monotonic` and `time.perf_counter`, also under other names in other modules;
time-machine changes `time.monotonic` itself. Neither touches this clock of the kernel, nor a function that
is hidden in a `partial`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType

__all__ = ["elapsed_seconds", "is_replaced"]


def _clock() -> Callable[[], float]:
    if hasattr(time, "clock_gettime"):
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return partial(time.perf_counter)  # Windows


elapsed_seconds: Callable[[], float] = _clock()
"""Return the time since some moment, which never runs backwards."""

_AHEAD = time.monotonic() - elapsed_seconds()
_TOLERANCE_SECONDS = 0.1  # Windows counts in steps of 16 ms


def is_replaced() -> bool:
    """Whether `time.monotonic`, the clock of asyncio's timers, is not the interpreter's own now."""
    is_own = isinstance(time.monotonic, BuiltinFunctionType)
    return not is_own or abs(time.monotonic() - elapsed_seconds() - _AHEAD) > _TOLERANCE_SECONDS
