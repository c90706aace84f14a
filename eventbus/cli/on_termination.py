"""Run a callback before SIGTERM or SIGHUP ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ["on_termination"]

_TIMEOUT_SECONDS = 1.5
_SIGNALS = ("SIGHUP", "SIGTERM")


@contextmanager
def on_termination(callback: Callable[[], object]) -> Generator[None]:
    """Call something when SIGTERM or SIGHUP arrives; the signal then ends the process as usual.

    An ignored signal stays ignored. A program that installs its own handler replaces this one.

    Args:
        callback: Called in a thread of its own, because the signal may have interrupted a thread that
            holds a lock. It has 1.5 s.
    """

    def end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        thread = threading.Thread(target=callback, name="eventbus-on-termination", daemon=True)
        thread.start()
        thread.join(_TIMEOUT_SECONDS)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    handled = [
        each
        for each in signal.Signals
        if each.name in _SIGNALS and signal.getsignal(each) is not signal.SIG_IGN
    ]
    before = {each: signal.signal(each, end) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
