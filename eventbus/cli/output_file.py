"""Write the file that a command was asked for, and say so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eventbus.cli.exit_codes import PROBLEMS, CommandError
from eventbus.cli.notes import note
from eventbus.ground.atomic_file import write_atomically

__all__ = ["write_output"]


def write_output(output: Path, parts: Iterable[bytes]) -> None:
    """Write a file, whole or not at all, and print a note about it.

    Raises:
        CommandError: It cannot be written.
        BrokenPipeError: It is a FIFO whose reader has left, as in `main`.
    """
    try:
        write_atomically(output, parts)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise CommandError(
            f"{output} cannot be written: {reason}", "choose another file", PROBLEMS
        ) from error
    note(f"wrote {output}")
