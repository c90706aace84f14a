"""The options that several commands share, and the values they take."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from eventbus.cli.arguments import Argument, Option
from eventbus.ground.session_names import name_of_argument
from eventbus.settings import ProgressMode, Settings, load_settings

__all__ = [
    "AsJson",
    "LogDirectory",
    "OneSession",
    "Progress",
    "Remote",
    "SessionId",
    "choice",
    "count",
    "parse_time",
    "settings_with",
]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def choice(names: Sequence[str], *declarations: str, **options: Any) -> Any:
    """Return an option that takes one of several names.

    Args:
        names: The names.
        declarations: How the option is spelled; by default like its parameter.
        options: Other arguments of `Option`.
    """

    def check(name: str) -> str:
        if name not in names:
            raise ArgumentTypeError(f"{name!r} is not one of {', '.join(names)}")
        return name

    return Option(*declarations, type=check, metavar="|".join(names), **options)


def count(text: str) -> int:
    """Return the number that a text names, 0 or more.

    Raises:
        ArgumentTypeError: The text names none.
    """
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def parse_time(text: str) -> datetime:
    """Return the time that a text names: ISO 8601 (local if it has no zone), or an age such as ``90m``.

    Raises:
        ArgumentTypeError: The text names no time.
    """
    age = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    try:
        if age is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ArgumentTypeError(
            f"{text!r} is not a time. Give one such as 2026-01-31, 2026-01-31T12:00:00Z, 90m, 24h or 7d"
        ) from error


LogDirectory: TypeAlias = Annotated[
    Path | None,
    Option(
        "--dir",
        type=Path,
        metavar="PATH",
        help="Directory of the event log. Default: EVENTBUS_DIR, else .session-buddy in the project.",
    ),
]
Remote: TypeAlias = Annotated[
    bool, Option("--remote", help="Read what all hosts have shipped to EVENTBUS_NATS_URL.")
]
AsJson: TypeAlias = Annotated[bool, Option("--json", help="Print one JSON object per line.")]
OneSession: TypeAlias = Annotated[
    str | None,
    Argument(
        type=name_of_argument, metavar="SESSION", help="A session id, or the beginning of one. Default: all."
    ),
]
SessionId: TypeAlias = Annotated[
    str | None,
    Option(
        "--session",
        type=name_of_argument,
        metavar="ID",
        help="Id of the session. Default: EVENTBUS_SESSION_ID.",
    ),
]
Progress: TypeAlias = Annotated[
    ProgressMode | None, choice(get_args(ProgressMode), "--progress", help="How to show progress on stderr.")
]


def settings_with(
    directory: Path | None, progress: ProgressMode | None, project: Path | None = None
) -> Settings:
    """Return the settings, with the given options in place of theirs.

    A pyproject.toml that is not TOML is ignored: finding that is up to the observed command.

    Args:
        directory: The option ``--dir``.
        progress: The option ``--progress``.
        project: Where the settings are looked for; by default in the working directory.

    Raises:
        SettingsError: A setting is wrong.
    """
    given = {"directory": directory and directory.absolute(), "progress": progress}
    return load_settings(project, arguments=given, ignore_unreadable=True)
