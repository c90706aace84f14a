"""Before a signal ends the process, as it would anyway: say what there is to say."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ["last_words"]

_SECONDS = 1.5
_SIGNALS = ("SIGHUP", "SIGTERM")


@contextmanager
def last_words(say: Callable[[], object]) -> Generator[None]:
    """Have SIGTERM and SIGHUP call something, and then end the process as they would without it.

    A program that handles them itself replaces this, as it replaces the default.

    Args:
        say: Called in a thread of its own, and waited for at most 1.5 s: the signal may have come in
            the midst of anything.
    """

    def end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        thread = threading.Thread(target=say, name="eventbus-last-words", daemon=True)
        thread.start()
        thread.join(_SECONDS)
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
