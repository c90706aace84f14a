"""How a command ends: its exit code, and the one line it prints if it cannot do its work."""

from __future__ import annotations

import os

__all__ = [
    "DAMAGED",
    "NOT_FOUND",
    "OK",
    "PROBLEMS",
    "USAGE",
    "CommandError",
    "SkippedDamageError",
    "defect",
    "error_line",
]

OK = 0
PROBLEMS = 1
"""The command did its work, and found problems."""
USAGE = 2
NOT_FOUND = 3
DAMAGED = 4
"""The command did its work, except for damaged data."""

_MAX_PART = 1_000  # characters


class CommandError(Exception):
    """A command cannot do its work.

    Attributes:
        problem: What is wrong.
        hint: What to do about it.
        exit_code: The exit code of the program.
    """

    def __init__(self, problem: str, hint: str, exit_code: int) -> None:
        super().__init__(f"{problem}. {hint}")
        self.problem = problem
        self.hint = hint
        self.exit_code = exit_code


class SkippedDamageError(Exception):
    """A command did its work, except for damaged parts of the log, which it has reported."""


def error_line(problem: str, hint: str) -> str:
    """Return ``error: problem. hint: do this`` as one line; an empty hint is left out."""
    from eventbus.events.printable import printable  # noqa: PLC0415 - costs a program without errors 40 ms

    parts = (f"error: {problem.rstrip('.')}", hint and f"hint: {hint.rstrip('.')}")
    # Each by itself: a problem that is too long must not cost the hint.
    return ". ".join(printable(part, _MAX_PART) for part in parts if part)


def defect(error: Exception) -> str:
    """Describe an exception that no command expects, with the place where it was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = ""
    if place is not None:
        file = os.path.basename(place.tb_frame.f_code.co_filename)  # noqa: PTH119 - `--version` waits for pathlib
        where = f" in {file}, line {place.tb_lineno}"
    return f"unexpected {type(error).__name__}{where}: {error}"
