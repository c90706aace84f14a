"""How a command ends: its exit code, and the one line it prints when it cannot do its work."""

from __future__ import annotations

from eventbus.events.printable import printable

__all__ = ["DAMAGED", "NOT_FOUND", "OK", "PROBLEMS", "USAGE", "CommandError", "error_line"]

OK = 0
PROBLEMS = 1
"""The command did its work, and found problems."""
USAGE = 2
NOT_FOUND = 3
DAMAGED = 4
"""The command did its work, but for data that is damaged."""

_MAX_ERROR = 1_000


class CommandError(Exception):
    """A command cannot do its work.

    Attributes:
        line: What to print, without its line feed.
        exit_code: How the program ends.
    """

    def __init__(self, what: str, hint: str, exit_code: int) -> None:
        self.line: str = error_line(what, hint)
        self.exit_code = exit_code
        super().__init__(self.line)


def error_line(what: str, hint: str) -> str:
    """Return ``error: what. hint: do this`` as one line."""
    return printable(f"error: {what.rstrip('.')}. hint: {hint.rstrip('.')}", _MAX_ERROR)
