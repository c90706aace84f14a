"""``eventbus stats``: how much a log holds, and what it adds up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import began, counted, duration
from eventbus.cli.session_access import AsJson, LogDirectory, opened_history
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable
from eventbus.history import SegmentFile

__all__ = ["print_statistics", "stats"]

_SUMS = (
    "skills",
    "skills_ended",
    "skills_completed",
    "total_skill_duration",
    "workflows",
    "workflows_ended",
    "total_workflow_duration",
    "workflow_nodes_completed",
    "workflow_nodes_failed",
    "workflow_nodes_skipped",
    "workflow_nodes_cancelled",
    "node_attempts_completed",
    "node_attempts_failed",
)


def stats(directory: LogDirectory = None, as_json: AsJson = False) -> Callable[[], int]:
    """Tell how much a log holds, and what it adds up to."""
    return partial(print_statistics, directory, as_json)


def print_statistics(directory: Path | None, as_json: bool) -> int:
    """Print what a log holds; return the exit code.

    Args:
        directory: Where the log lives; by default where the settings say.
        as_json: One JSON object.

    Raises:
        CommandError: There is no log, or it cannot be read.
    """
    with opened_history(directory) as history:
        found = {
            "directory": str(history.log.directory),
            **_of_segments(history.log.segments()),
            **_of_sessions(history.figures()),
        }
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(_lines(found)))
    return OK


def _of_segments(segments: list[SegmentFile]) -> dict[str, Any]:
    return {
        "segments": len(segments),
        "writers": len({each.writer for each in segments}),
        "bytes": sum(each.size for each in segments),
    }


def _of_sessions(sessions: Iterable[CorrelatedSession]) -> dict[str, Any]:
    sums: dict[str, Any] = {"sessions": 0, "sessions_open": 0, "first_start": None, "last_start": None}
    sums |= dict.fromkeys(_SUMS, 0)
    for session in sessions:  # the latest first
        sums["sessions"] += 1
        sums["sessions_open"] += session.is_open
        sums["last_start"] = sums["last_start"] or session.start_time
        sums["first_start"] = session.start_time
        for name in _SUMS:
            sums[name] += getattr(session, name)
    return sums


def _lines(found: dict[str, Any]) -> list[str]:
    period = f"{began(found['first_start'])} to {began(found['last_start'])}" if found["sessions"] else "-"
    abandoned = found["skills_ended"] - found["skills_completed"]
    lines = (
        ("log", printable(found["directory"])),
        ("", _segments_of(found)),
        ("sessions", f"{found['sessions']}, {found['sessions_open']} of them open"),
        ("", f"begun {period}"),
        ("skills", f"{found['skills']}: {found['skills_completed']} completed, {abandoned} abandoned"),
        ("", duration(found["total_skill_duration"])),
        ("runs", f"{found['workflows']}: {found['workflows_ended']} ended"),
        ("", duration(found["total_workflow_duration"])),
        ("nodes", _counts(found, "workflow_nodes", "completed", "failed", "skipped", "cancelled")),
        ("attempts", _counts(found, "node_attempts", "completed", "failed")),
    )
    return [f"{title:<10}{text}" for title, text in lines]


def _segments_of(found: dict[str, Any]) -> str:
    segments, buses = counted(found["segments"], "segment"), counted(found["writers"], "bus", "buses")
    return f"{segments} of {buses}, {_size(found['bytes'])}"


def _counts(found: dict[str, Any], what: str, *outcomes: str) -> str:
    return ", ".join(f"{found[f'{what}_{outcome}']} {outcome}" for outcome in outcomes)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1_024:  # noqa: PLR2004 - how many of one make the next
            return f"{count:.0f} {unit}"
        count /= 1_024
    return f"{count:.1f} GiB"
