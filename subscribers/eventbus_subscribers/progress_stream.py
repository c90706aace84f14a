"""The stream that progress is written to: never blocks for long, never raises, counts what is lost."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

__all__ = ["ProgressStream"]

_STALL_SECONDS = 0.5


class ProgressStream:
    """Writes texts to a stream.

    Args:
        given: The stream. None is `sys.stderr`, looked up for each text, because programs replace it.

    Attributes:
        unwritten: Lines that could not be written, because the stream was closed, broken or stalled.
    """

    def __init__(self, given: TextIO | None) -> None:
        self._given = given
        self._broken: TextIO | None = None
        self._is_stalled = False
        self.unwritten = 0

    def is_terminal(self) -> bool:
        """Return True if the stream is a terminal."""
        stream = self._stream()
        return bool(stream is not None and _or_none(stream.isatty))

    def descriptor(self) -> int | None:
        """Return the stream's file descriptor; None if it has none."""
        stream = self._stream()
        return None if stream is None else _or_none(stream.fileno)

    def encoding(self) -> str:
        """Return the stream's encoding."""
        return str(getattr(self._stream(), "encoding", None) or "ascii")

    def has_unicode(self) -> bool:
        """Return True if the stream can show any character."""
        return self.encoding().lower().startswith("utf")

    def size(self) -> tuple[int, int]:
        """Return the columns and rows of the terminal, as they are now."""
        descriptor = self.descriptor()
        with suppress(OSError, ValueError, TypeError):
            size = os.get_terminal_size(descriptor if descriptor is not None else -1)
            if size.columns and size.lines:
                return size.columns, size.lines
        return 80, 24

    def write(self, text: str, lines: int = 1) -> bool:
        """Write a text in one call, and flush it; return False if that could not be done.

        Args:
            text: The text.
            lines: How many lines are lost if it cannot be written.
        """
        stream = self._stream()
        is_written = (
            stream is not None
            and stream is not self._broken
            and self._is_writable(stream)
            and self._write(stream, text)
        )
        self.unwritten += 0 if is_written else lines
        return is_written

    def _write(self, stream: TextIO, text: str) -> bool:
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode("ascii", "backslashreplace").decode())
            stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            # `sys.stderr` may be replaced by a stream that works.
            self._broken = stream
            return False
        return True

    def _stream(self) -> TextIO | None:
        return sys.stderr if self._given is None else self._given

    def _is_writable(self, stream: TextIO) -> bool:
        """Return True if a line can be written without blocking, now or soon.

        A thread that hangs in a write holds the stream's lock, which the interpreter needs at exit: it
        would abort. So nothing is written to a full pipe.
        """
        descriptor = _or_none(stream.fileno)
        if descriptor is None or not hasattr(select, "poll"):
            return True
        poll = select.poll()
        try:
            poll.register(descriptor, select.POLLOUT)
            ready = poll.poll(0 if self._is_stalled else _STALL_SECONDS * 1_000)
        except (OSError, ValueError, OverflowError, TypeError):
            return True  # it cannot be polled; writing shows whether it works
        self._is_stalled = not ready
        return bool(ready)


def _or_none(method: Callable[[], int]) -> int | None:
    try:
        return method()
    except (AttributeError, OSError, ValueError):  # the stream has no file, or is closed
        return None
