"""Print the lines of a screen to stdout, or to another stream, as far as it can show them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TextIO

from rich.console import Console
from rich.text import Text

from eventbus.cli.session_screen import Look
from eventbus.cli.terminal import shows_unicode

__all__ = ["print_lines", "stdout_look", "stream_look"]


def stdout_look() -> Look:
    """Return what stdout can show."""
    return stream_look(sys.stdout)


def stream_look(stream: TextIO) -> Look:
    """Return what a stream can show."""
    has_unicode = shows_unicode(stream)
    if not stream.isatty():
        return Look(None, has_unicode)
    return Look(Console(file=stream).width, has_unicode, datetime.now().astimezone())


def print_lines(lines: Iterable[Text], next_step: str = "", stream: TextIO | None = None) -> None:
    """Print lines to stdout, or a stream; on a terminal in color, and after them what to do next."""
    out = sys.stdout if stream is None else stream
    is_terminal = out.isatty()
    if not is_terminal and not os.environ.get("FORCE_COLOR"):
        for line in lines:
            print(line.plain, file=out)
        return
    console = Console(file=out, highlight=False, markup=False)
    with console.capture() as captured:  # printing itself, rich would exit on a broken pipe
        for line in lines:
            console.print(line, soft_wrap=True)
        if is_terminal and next_step:
            console.print(Text(f"\n{next_step}", "dim"), soft_wrap=True)
    print(captured.get(), end="", file=out)
