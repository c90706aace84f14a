"""Notes on stderr: what is not part of a result."""

from __future__ import annotations

import sys
from contextlib import suppress

from eventbus.events.printable import printable

__all__ = ["note"]

_MAX_NOTE = 1_000


def note(text: str) -> None:
    """Print a note, which is not part of the result: where it cannot be printed, the command goes on."""
    with suppress(OSError):
        print(printable(f"note: {text}", _MAX_NOTE), file=sys.stderr)
