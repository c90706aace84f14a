"""``eventbus prune``: remove old segments of the event log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventbus.cli.exit_codes import NOT_FOUND, OK, USAGE, CommandError
from eventbus.cli.log_access import DamageNotes, moment, open_log
from eventbus.events.printable import printable
from eventbus.history import PrunedSegment
from eventbus.history import prune as prune_segments

__all__ = ["prune"]

_DAY_SECONDS = 86_400


def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Written to last before this: 30d, or a date.")
    ],
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="PATH", help="Where the event log is.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> Callable[[], int]:
    """Remove old segments of the event log, and none that somebody is writing."""
    return lambda: _run(directory, older_than, dry_run, as_json)


def _run(given: Path | None, older_than: str, dry_run: bool, as_json: bool) -> int:
    age = _age(older_than)
    directory = open_log(given, DamageNotes()).directory
    try:
        pruned = prune_segments(directory, older_than=age, dry_run=dry_run)
    except OSError as error:
        raise CommandError(str(error), "make the directory readable", NOT_FOUND) from error
    for segment in pruned:
        print(_as_json(segment, dry_run) if as_json else _as_text(segment, dry_run))
    if not pruned and not as_json:
        print(printable(f"nothing to remove in {directory}"))
    return OK


def _age(text: str) -> timedelta:
    try:
        return datetime.now(UTC) - moment(text)
    except ValueError as error:
        what, _, hint = str(error).partition(". ")
        raise CommandError(f"--older-than: {what}", hint, USAGE) from error


def _as_text(segment: PrunedSegment, dry_run: bool) -> str:
    verb = "would remove" if dry_run else "removed"
    days = segment.age_seconds / _DAY_SECONDS
    return f"{verb} {printable(segment.path.name)}: {segment.size} bytes, last written {days:.1f} days ago"


def _as_json(segment: PrunedSegment, dry_run: bool) -> str:
    told = {
        "path": str(segment.path),
        "size": segment.size,
        "age_seconds": round(segment.age_seconds, 3),
        "removed": not dry_run,
    }
    return msgspec.json.encode(told).decode()
