"""Draw docs/live-view.svg: the terminal in the middle of a real ``eventbus demo`` of this project.

Run it with ``make picture``. The program runs in a pseudo terminal, which is emulated; the screen with the
most running nodes is drawn, without the first row, which names a directory of this machine.
"""

from __future__ import annotations

import codecs
import os
import pty
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import pyte

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "live-view.svg"
COLUMNS, ROWS = 84, 16
CELL, LINE, MARGIN = 8.4, 20, 16

_Row: TypeAlias = "list[tuple[str, str]]"
"""The cells of a row: a character, and the name of its color."""

STYLE = """
  .ground { fill: #ffffff; stroke: #d0d7de }
  text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328 }
  .green { fill: #1a7f37 } .red { fill: #cf222e } .yellow { fill: #9a6700 } .dim { fill: #656d76 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #30363d }
    text { fill: #e6edf3 }
    .green { fill: #3fb950 } .red { fill: #f85149 } .yellow { fill: #d29922 } .dim { fill: #8d96a0 }
  }
"""


def main() -> None:
    """Run the demo, and write the picture."""
    screens = list(_screens([sys.executable, "-m", "eventbus", "demo", str(ROOT)]))
    most = max(map(_running, screens))
    busiest = [screen for screen in screens if _running(screen) == most]
    rows = busiest[len(busiest) // 2][1:]
    while rows and not _text(rows[-1]):
        rows.pop()
    PICTURE.write_text("".join(_svg([_prompt("eventbus demo"), *rows])), "utf-8")


def _screens(command: list[str]) -> Iterator[list[_Row]]:
    """Run a command in a pseudo terminal; yield its screen after each change."""
    screen: Any = pyte.Screen(COLUMNS, ROWS)
    stream: Any = pyte.Stream(screen)
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (ROWS, COLUMNS))
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    for name in ("CI", "NO_COLOR", "EVENTBUS_PROGRESS", "COLUMNS", "LINES"):
        environment.pop(name, None)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with tempfile.TemporaryDirectory() as log:
        streams = {"stdin": follower, "stdout": follower, "stderr": follower}
        with subprocess.Popen([*command, "--dir", log], **streams, env=environment):  # noqa: S603
            os.close(follower)
            while data := _read(leader):
                stream.feed(decoder.decode(data))
                yield [[_cell(screen.buffer[y][x]) for x in range(COLUMNS)] for y in range(ROWS)]
    os.close(leader)


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65_536)
    except OSError:  # the program has ended
        return b""


def _cell(char: Any) -> tuple[str, str]:
    color = {"green": "green", "red": "red", "brown": "yellow"}.get(char.fg, "")
    return char.data, color


def _running(screen: list[_Row]) -> int:
    return sum("█" in _text(row) for row in screen)


def _text(row: _Row) -> str:
    return "".join(char for char, _ in row).rstrip()


def _prompt(command: str) -> _Row:
    return [("$", "dim"), *((char, "") for char in f" {command}")]


def _svg(rows: list[_Row]) -> Iterator[str]:
    width, height = COLUMNS * CELL + 2 * MARGIN, len(rows) * LINE + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
    yield f'viewBox="0 0 {width:.0f} {height}" role="img">\n'
    yield "<title>eventbus demo: two phases run side by side, those before them have ended</title>\n"
    yield f"<style>{STYLE}</style>\n"
    yield f'<rect class="ground" x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>\n'
    for number, row in enumerate(rows):
        yield from _line(row, MARGIN + number * LINE + 15)
    yield "</svg>\n"


def _line(row: _Row, y: int) -> Iterator[str]:
    """Yield the texts of a row, each of one color, and each at the column where it is on the terminal."""
    column = 0
    for color, cells in groupby(row, lambda cell: cell[1]):
        text = "".join(char for char, _ in cells)
        shown = text.rstrip()
        start = column + len(shown) - len(shown.lstrip())
        column += len(text)
        if shown := shown.strip():
            x, length = MARGIN + start * CELL, len(shown) * CELL
            kind = f' class="{color}"' if color else ""
            yield f'<text{kind} x="{x:.1f}" y="{y}" textLength="{length:.1f}">{escape(shown)}</text>\n'


if __name__ == "__main__":
    main()
