"""What a stream can show."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO

__all__ = ["shows_unicode", "terminal_size"]


def shows_unicode(stream: TextIO) -> bool:
    """Return False if a stream takes only some characters, such as ASCII."""
    return (stream.encoding or "ascii").lower().startswith("utf")


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Return the columns and rows of a stream's terminal, as they are now; 80 and 24 if it does not say."""
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(stream.fileno())
        if size.columns and size.lines:
            return size.columns, size.lines
    return 80, 24
