"""What the commands that read the log have in common: where it is, which part, and what is damaged."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from eventbus.cli.exit_codes import NOT_FOUND, USAGE, CommandError
from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.history import Damage, EventLog
from eventbus.settings import load_settings

__all__ = ["DamageNotes", "log_directory", "moment", "note", "open_log"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MAX_NOTE = 1_000
_MAX_NOTES = 20


class DamageNotes:
    """Says on stderr what was passed over: the first places, and how many more.

    Attributes:
        count: How many places.
    """

    def __init__(self) -> None:
        self.count: int = 0

    def __call__(self, damage: Damage) -> None:
        """Say it of one place."""
        self.count += 1
        if self.count <= _MAX_NOTES:
            note(
                f"{damage.path}:{damage.offset}: passed over {damage.length} bytes that hold no record: "
                f"{damage.reason}"
            )

    def finish(self) -> None:
        """Say how many were not told."""
        if self.count > _MAX_NOTES:
            note(f"and {self.count - _MAX_NOTES} more places; eventbus doctor lists them all")


def log_directory(given: Path | None) -> Path:
    """Return where the log lives: as given, else by the settings.

    Raises:
        CommandError: The settings cannot be used.
    """
    if given is not None:
        return given
    try:
        return load_settings().directory
    except SettingsError as error:
        raise CommandError(error.problem, error.hint, USAGE) from error


def open_log(given: Path | None, notes: DamageNotes, *, must_exist: bool = True) -> EventLog:
    """Return the log.

    Raises:
        CommandError: The settings cannot be used, or there is no log there.
    """
    directory = log_directory(given)
    if must_exist and not (directory / "events").is_dir():
        raise CommandError(
            f"there is no event log in {directory}",
            "name its directory with --dir or EVENTBUS_DIR",
            NOT_FOUND,
        )
    return EventLog(directory, on_damage=notes)


def moment(text: str) -> datetime:
    """Return the time a text names: ISO 8601 (local if it has no zone), or an age such as ``90m``.

    Raises:
        ValueError: It names none.
    """
    age = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    try:
        if age is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is no time. Give one such as 2026-01-31, 2026-01-31T12:00:00Z, 90m, 24h or 7d"
        ) from error


def note(text: str) -> None:
    """Tell something that is not part of the result."""
    print(printable(f"note: {text}", _MAX_NOTE), file=sys.stderr)
