"""Open the event log for a command that reads it, and report damage and other notes on stderr."""

from __future__ import annotations

import os
from pathlib import Path

from eventbus.cli.exit_codes import NOT_FOUND, PROBLEMS, CommandError
from eventbus.cli.notes import note
from eventbus.history import Damage, EventLog
from eventbus.settings import load_settings

__all__ = ["DamageNotes", "log_directory", "note", "open_log"]

_MAX_NOTES = 20


class DamageNotes:
    """Prints a note for each of the first damaged places, and counts the others.

    Attributes:
        count: The number of damaged places.
    """

    def __init__(self) -> None:
        self.count: int = 0

    def __call__(self, damage: Damage) -> None:
        """Count one place, and print it if it is one of the first."""
        self.count += 1
        if self.count <= _MAX_NOTES:
            place = f"{damage.path}:{damage.offset}"
            skipped = f"skipped {damage.length} bytes that hold no record" if damage.length else "not read on"
            note(f"{place}: {skipped}: {damage.reason}")

    def finish(self) -> None:
        """Print the number of places that had no note."""
        if self.count > _MAX_NOTES:
            note(f"{self.count - _MAX_NOTES} more places are damaged; eventbus doctor lists them all")


def log_directory(given: Path | None) -> Path:
    """Return the directory of the log: the given one, otherwise the one of the settings.

    Raises:
        SettingsError: A setting is wrong.
    """
    return load_settings().directory if given is None else given


def open_log(given: Path | None, notes: DamageNotes, *, must_exist: bool = True) -> EventLog:
    """Return the log.

    Raises:
        CommandError: There is no log in the directory, or it cannot be read.
        SettingsError: A setting is wrong.
    """
    directory = log_directory(given)
    _check_access(directory)
    if must_exist and not (directory / "events").is_dir():
        raise CommandError(
            f"there is no event log in {directory}",
            "name its directory with --dir or EVENTBUS_DIR",
            NOT_FOUND,
        )
    return EventLog(directory, on_damage=notes)


def _check_access(directory: Path) -> None:
    events = str(directory / "events")
    try:
        os.scandir(events).close()
        os.stat(os.path.join(events, "."))  # noqa: PTH116, PTH118 - a path would drop it; it asks for the right to open
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        problem = f"the log in {directory} cannot be read: {error.strerror or error}"
        raise CommandError(problem, "read it as its owner, or change its permissions", PROBLEMS) from error
