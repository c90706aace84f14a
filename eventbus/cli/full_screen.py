"""A terminal's other screen: drawn whole, and left as it was found."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache

from rich.console import Console
from rich.text import Span, Text

from eventbus.cli.terminal import terminal_size

__all__ = ["FullScreen", "full_screen"]

_FOOTER_ROWS = 2  # an empty one before it
_MAX_STYLES = 64

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the other screen, without cursor and line wrap
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_LEAVE_KEYS = b"qQ\x03"


class FullScreen:
    """The screen while it is shown."""

    def size(self) -> tuple[int, int]:
        """Return its columns and rows, as they are now."""
        return terminal_size(sys.stdout)

    def draw(self, lines: Sequence[Text], footer: Text) -> None:
        """Draw lines over the ones before, in one write, and a footer below them.

        What does not fit is left out, and counted; the footer stays.
        """
        columns, rows = self.size()
        shown = list(lines)
        if len(shown) + _FOOTER_ROWS > rows:
            kept = max(rows - _FOOTER_ROWS - 1, 1)
            hidden = len(shown) - kept
            shown = [*shown[:kept], Text(f"{'…' if _can_write('…') else '...'} {hidden} more lines", "dim")]
        frame = [_drawn(line, columns) for line in [*shown, Text(), footer][:rows]]
        sys.stdout.write(_HOME + f"{_CLEAR_LINE}\r\n".join(frame) + _CLEAR_LINE + _CLEAR_BELOW)
        sys.stdout.flush()

    def wants_to_leave(self) -> bool:
        """Return True if the key ``q`` was pressed."""
        try:
            ready, _, _ = select.select([sys.stdin], [], [], 0)
            return bool(ready) and any(key in _LEAVE_KEYS for key in os.read(sys.stdin.fileno(), 64))
        except (OSError, ValueError):
            return False


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _drawn(line: Text, columns: int) -> str:
    """Return a row with the sequences that color it.

    Rows hold pieces one after the other, each with one style. So a style is rendered by rich once, and not
    each row of each frame, which took most of the time of watching.
    """
    line.truncate(columns)
    parts: list[str] = []
    place = 0
    for start, end, style in sorted([*line.spans, Span(len(line), len(line), "")]):
        base_on, base_off = _codes(str(line.style))
        on, off = _codes(str(style))
        gap, piece = line.plain[place:start], line.plain[max(start, place) : end]
        parts += (base_on, gap, base_off) if gap else ()
        parts += (on, piece, off) if piece else ()
        place = max(place, end)
    return "".join(parts)


@lru_cache(_MAX_STYLES)
def _codes(style: str) -> tuple[str, str]:
    """Return what begins and what ends a style."""
    if not style:
        return "", ""
    console = Console(highlight=False, markup=False)
    with console.capture() as captured:
        console.print(Text("x", style), end="")
    begin, _, end = captured.get().partition("x")
    return begin, end


@contextmanager
def full_screen() -> Generator[FullScreen]:
    """Show the other screen inside the block; leave it whatever ends the block."""
    before = None
    with suppress(OSError, ValueError, termios.error):
        before = termios.tcgetattr(sys.stdin.fileno())
        tty.setcbreak(sys.stdin.fileno())
    sys.stdout.write(_ENTER)
    try:
        yield FullScreen()
    finally:
        if before is not None:
            with suppress(OSError, ValueError, termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
        with suppress(OSError, ValueError):
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
