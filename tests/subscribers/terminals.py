"""Terminals for tests: one that is emulated, with its scrollback, and a stream that writes to it."""

from __future__ import annotations

import io
import os
import pty
import termios
from typing import Any

import pyte

__all__ = ["Screen", "TerminalStream", "open_terminal"]


_LINE_WRAP = 7 << 5
"""How pyte numbers the private mode 7."""


class Screen:
    """An emulated terminal with scrollback."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen: Any = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream: Any = pyte.Stream(self._screen)

    def feed(self, text: str) -> None:
        """Obey a text."""
        self._stream.feed(text)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, without wrapping again what is there, as xterm does."""
        self._screen.resize(rows, columns)

    def lines(self) -> list[str]:
        """Return the rows of the scrollback and of the screen, without what is empty at the end."""
        columns = range(self._screen.columns)
        above = ["".join(row[x].data for x in columns).rstrip() for row in self._screen.history.top]
        lines = [*above, *(line.rstrip() for line in self._screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def is_as_found(self) -> bool:
        """Return True if the cursor is shown at the beginning of a row, and lines wrap."""
        cursor = self._screen.cursor
        return not cursor.hidden and cursor.x == 0 and _LINE_WRAP in self._screen.mode


class TerminalStream(io.StringIO):
    """A stream that says it is a terminal, and keeps each write."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[str] = []

    def isatty(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str, /) -> int:
        """Keep a write."""
        self.frames.append(text)
        return len(text)


def open_terminal(columns: int, rows: int) -> tuple[int, io.TextIOWrapper]:
    """Return the leading side of a real pseudo terminal, and a stream to its other side."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (rows, columns))
    return leader, os.fdopen(follower, "w", encoding="utf-8")
