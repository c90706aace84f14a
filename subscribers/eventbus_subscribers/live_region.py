"""The rows at the end of a terminal that are drawn again and again, and what is printed above them.

The cursor stays below the region, at the beginning of a row, visible, and with line wrap on: whatever ends
the process between two frames, even SIGKILL, there is nothing to restore. Rejected: a hidden cursor, which
a process that is killed cannot show again; the terminal's other screen, which takes scrolling and copying.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

__all__ = ["LiveRegion"]

_COLOR_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}
_BEGIN = "\x1b[?25l\x1b[?7l"  # no cursor, no line wrap: for the time of one frame
_END = "\x1b[?7h\x1b[?25h"
_CLEAR_LINE = "\x1b[K"


class LiveRegion:
    """Makes the text of each frame.

    Args:
        console: Turns rows into text; by default one that paints as the environment says.

    Attributes:
        drawn: What is on the screen: the cells of each row, and its text. Put an old value back if a
            frame could not be written.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(
            force_terminal=True, highlight=False, markup=False, emoji=False, legacy_windows=False
        )
        self._colors = _COLOR_SYSTEMS.get(self._console.color_system or "")
        self.drawn: tuple[list[int], str] = [], ""

    def frame(self, printed: Sequence[Text], region: Sequence[Text], columns: int) -> str:
        """Return what to write: it clears the region, prints rows above it and draws it again.

        Args:
            printed: Rows that stay, as ordinary scrollback.
            region: The rows of the region.
            columns: The terminal's width; after a resize the old rows take other rows than they did.

        Returns:
            The text; nothing if the screen shows it already.
        """
        drawn = "".join([self._painted(row) for row in region])
        cells, last = self.drawn
        above = sum(max(1, -(-each // columns)) for each in cells)
        if not printed and drawn == last and above == len(cells):
            return ""
        self.drawn = [cell_len(row.plain) for row in region], drawn
        rows = "".join([self._painted(row) for row in printed])
        # Not "clear below": at the top of its screen tmux would keep each frame in its history.
        left = max(0, above - len(printed) - len(region))
        rest = f"{_CLEAR_LINE}\r\n" * left + _CLEAR_LINE + _up(left)
        return f"{_BEGIN}{_up(above)}\r{rows}{drawn}{rest}{_END}"

    def _painted(self, row: Text) -> str:
        """Return a row with its colors. `Console.print`, which folds and justifies, costs much more."""
        painted = "".join([self._segment(each) for each in row.render(self._console)])
        return f"{painted}{_CLEAR_LINE}\r\n"

    def _segment(self, segment: Segment) -> str:
        style = segment.style
        if style is None:
            return segment.text
        if self._console.no_color:
            style = style.without_color
        return style.render(segment.text, color_system=self._colors)


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows else ""
