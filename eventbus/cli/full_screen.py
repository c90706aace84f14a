"""A terminal's other screen: drawn whole, and left as it was found."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.text import Text

__all__ = ["FullScreen", "full_screen"]

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the other screen, without cursor and line wrap
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_LEAVE_KEYS = b"qQ\x03"


class FullScreen:
    """The screen while it is shown."""

    def size(self) -> tuple[int, int]:
        """Return its columns and rows, as they are now."""
        with suppress(OSError, ValueError):
            size = os.get_terminal_size(sys.stdout.fileno())
            if size.columns and size.lines:
                return size.columns, size.lines
        return 80, 24

    def draw(self, lines: Iterable[Text]) -> None:
        """Draw lines over the ones before, in one write; what does not fit is left out."""
        columns, rows = self.size()
        console = Console(width=columns, highlight=False, markup=False)
        shown = list(lines)[:rows]
        for line in shown:
            line.truncate(columns)
        with console.capture() as captured:
            console.print(Text("\n").join(shown), end="", soft_wrap=True)
        drawn = captured.get().replace("\n", f"{_CLEAR_LINE}\r\n")
        sys.stdout.write(f"{_HOME}{drawn}{_CLEAR_LINE}{_CLEAR_BELOW}")
        sys.stdout.flush()

    def wants_to_leave(self) -> bool:
        """Return True if the key ``q`` was pressed."""
        try:
            ready, _, _ = select.select([sys.stdin], [], [], 0)
            return bool(ready) and any(key in _LEAVE_KEYS for key in os.read(sys.stdin.fileno(), 64))
        except (OSError, ValueError):
            return False


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
