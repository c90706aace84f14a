"""``eventbus prune``: remove old segments of the event log."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

from eventbus.cli.exits import NOT_FOUND, OK, USAGE, CommandError
from eventbus.history import PrunedSegment, prune
from eventbus.printable import clean

__all__ = ["prune_log"]

_AGE = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def prune_log(directory: Path, older_than: str, dry_run: bool, as_json: bool) -> int:
    """Remove segments, print one line for each; return the exit code.

    Args:
        directory: Where the log lives.
        older_than: How long ago a segment must have been written to, such as ``30d``.
        dry_run: Only print what would be removed.
        as_json: Print one JSON object a line instead.

    Raises:
        CommandError: The age is none, there is no log, or it cannot be read.
    """
    age = _age(older_than)
    if not (directory / "events").is_dir():
        raise CommandError(
            f"there is no event log in {directory}", "name its directory with --dir", NOT_FOUND
        )
    try:
        pruned = prune(directory, older_than=age, dry_run=dry_run)
    except OSError as error:
        raise CommandError(str(error), "make the directory readable", NOT_FOUND) from error
    for segment in pruned:
        print(_as_json(segment, dry_run) if as_json else _as_text(segment, dry_run))
    return OK


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else _refuse(text)
    except OverflowError:
        return _refuse(text)


def _refuse(text: str) -> timedelta:
    raise CommandError(
        f"--older-than {text!r} is no age", "give a number and s, m, h, d or w, such as 30d", USAGE
    )


def _as_text(segment: PrunedSegment, dry_run: bool) -> str:
    verb = "would remove" if dry_run else "removed"
    days = segment.age_seconds / 86_400
    return f"{verb} {clean(segment.path.name)}  {segment.size} bytes, written {days:.1f} days ago"


def _as_json(segment: PrunedSegment, dry_run: bool) -> str:
    return json.dumps(
        {
            "path": str(segment.path),
            "size": segment.size,
            "age_seconds": round(segment.age_seconds, 3),
            "removed": not dry_run,
        }
    )
