"""``eventbus prune``: remove old segments of the event log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import NOT_FOUND, OK, CommandError
from eventbus.cli.log_access import DamageNotes, note, open_log
from eventbus.cli.options import AsJson, LogDirectory, parse_time
from eventbus.events.json_safe import safe_text
from eventbus.events.printable import printable
from eventbus.history import PrunedSegment
from eventbus.history import prune as prune_segments

__all__ = ["prune"]

_DAY_SECONDS = 86_400


def prune(
    older_than: Annotated[
        datetime,
        Option(
            "--older-than", type=parse_time, metavar="AGE", help="Age of their last record: 30d, or a date."
        ),
    ],
    directory: LogDirectory = None,
    dry_run: Annotated[bool, Option("--dry-run", help="List the segments, and remove none of them.")] = False,
    as_json: AsJson = False,
) -> int:
    """Remove old segments of the event log.

    A segment that a program is writing stays. Where the log is shipped to a server, segments that are not
    shipped yet stay until they are twice as old.
    """
    age = datetime.now(UTC) - older_than
    log = open_log(directory, DamageNotes())
    kept: list[PrunedSegment] = []
    try:
        pruned = prune_segments(log.directory, older_than=age, dry_run=dry_run, on_kept=kept.append)
    except OSError as error:
        raise CommandError(str(error), "make the directory readable", NOT_FOUND) from error
    for segment in pruned:
        print(_as_json(segment, dry_run) if as_json else _as_text(segment, dry_run))
    if kept:
        segments = "1 segment is" if len(kept) == 1 else f"{len(kept)} segments are"
        note(
            f"{segments} kept: not shipped yet. If the log is not shipped any more, remove shipped.json in it"
        )
    if not pruned and not as_json:
        print(printable(f"nothing to remove in {log.directory}"))
    return OK


def _as_text(segment: PrunedSegment, dry_run: bool) -> str:
    verb = "would remove" if dry_run else "removed"
    days = segment.age_seconds / _DAY_SECONDS
    lost = "" if segment.is_shipped else ", not shipped yet"
    return (
        f"{verb} {printable(segment.path.name)}: {segment.size} bytes, last written {days:.1f} days ago{lost}"
    )


def _as_json(segment: PrunedSegment, dry_run: bool) -> str:
    fields = {
        "path": safe_text(str(segment.path)),
        "size": segment.size,
        "age_seconds": round(segment.age_seconds, 3),
        "removed": not dry_run,
        "shipped": segment.is_shipped,
    }
    return msgspec.json.encode(fields).decode()
