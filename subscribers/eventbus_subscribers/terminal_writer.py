"""Write frames to a terminal that may take nothing for a while, after Ctrl-S for instance.

The terminal is opened again, in non-blocking mode: a frame that is in the way is finished before the next
one is accepted. Rejected: the stream itself, whose mode other processes share, and in which a thread that
hangs holds the lock that the interpreter needs at its exit.
"""

from __future__ import annotations

import os
import select
import time

from eventbus_subscribers.progress_stream import ProgressStream

__all__ = ["TerminalWriter"]

_STALL_SECONDS = 0.5


class TerminalWriter:
    """Writes frames.

    Args:
        stream: The stream of the terminal; it counts what could not be written, and is written to itself
            where its terminal cannot be opened again.
    """

    def __init__(self, stream: ProgressStream) -> None:
        self._stream = stream
        self._descriptor = _opened(stream.descriptor())
        self._pending = b""

    def write(self, text: str) -> bool:
        """Accept a frame, and write what the terminal takes of it; return False if it is not accepted."""
        if self._descriptor is None:
            return self._stream.write(text, 0)
        if not self._flush(self._descriptor):
            return False
        self._pending = text.encode(self._stream.encoding(), "backslashreplace")
        self._flush(self._descriptor)
        return True

    def finish(self, text: str, lines: int) -> None:
        """Write the last frame, and wait a moment if the terminal takes nothing.

        Args:
            text: The frame.
            lines: How many lines are lost if it cannot be written.
        """
        if self._descriptor is None:
            self._stream.write(text, lines)
            return
        self._pending += text.encode(self._stream.encoding(), "backslashreplace")
        if not self._flush(self._descriptor, _STALL_SECONDS):
            self._stream.unwritten += lines
        os.close(self._descriptor)
        self._descriptor = None

    def _flush(self, descriptor: int, seconds: float = 0.0) -> bool:
        """Write what is pending; return False if some of it still is."""
        end = time.monotonic() + seconds
        try:
            while self._pending:
                try:
                    self._pending = self._pending[os.write(descriptor, self._pending) :]
                except BlockingIOError:
                    left = end - time.monotonic()
                    if left <= 0:
                        return False
                    select.select([], [descriptor], [], left)
        except (OSError, ValueError):  # the terminal is gone
            return False
        return True


def _opened(descriptor: int | None) -> int | None:
    if descriptor is None or not hasattr(os, "ttyname"):
        return None
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:  # the terminal of another container has no name here
        return None
