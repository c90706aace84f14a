"""The clock of deadlines: it runs on where a test of the program has replaced the clocks.

freezegun replaces `time.monotonic` and `time.perf_counter`, also under other names in other modules;
time-machine changes `time.monotonic` itself. Neither touches this clock of the kernel, nor a function that
is hidden in a `partial`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ["elapsed_seconds"]


def _clock() -> Callable[[], float]:
    if hasattr(time, "clock_gettime"):
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return partial(time.perf_counter)  # Windows


elapsed_seconds: Callable[[], float] = _clock()
"""Return the time since some moment, which never runs backwards."""
