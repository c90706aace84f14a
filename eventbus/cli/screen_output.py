"""Print the lines of a screen to stdout, as far as it can show them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.text import Text

from eventbus.cli.session_screen import Look

__all__ = ["print_lines", "stdout_look"]


def stdout_look() -> Look:
    """Return what stdout can show."""
    encoding = (sys.stdout.encoding or "ascii").lower()
    has_unicode = encoding.startswith("utf")
    if not sys.stdout.isatty():
        return Look(None, has_unicode)
    return Look(Console().width, has_unicode, datetime.now().astimezone())


def print_lines(lines: Iterable[Text], next_step: str = "") -> None:
    """Print lines; on a terminal in color, and after them what to do next."""
    is_terminal = sys.stdout.isatty()
    if not is_terminal and not os.environ.get("FORCE_COLOR"):
        for line in lines:
            print(line.plain)
        return
    console = Console(highlight=False, markup=False)
    with console.capture() as captured:  # printing itself, rich would exit on a broken pipe
        for line in lines:
            console.print(line, soft_wrap=True)
        if is_terminal and next_step:
            console.print(Text(f"\n{next_step}", "dim"), soft_wrap=True)
    print(captured.get(), end="")
