"""``eventbus stats``: print how much a log holds, and its totals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import duration, local_time, loss, quantity
from eventbus.cli.options import AsJson, LogDirectory
from eventbus.cli.session_access import open_history
from eventbus.correlation import CorrelatedSession
from eventbus.events.json_safe import safe_text
from eventbus.events.outcomes import Outcome
from eventbus.events.printable import printable
from eventbus.history import SegmentFile

__all__ = ["stats"]

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
    "skills_failed",
    "skills_cancelled",
    "skills_open",
    "skills_unfinished",
    "workflows_succeeded",
    "workflows_failed",
    "workflows_cancelled",
    "workflows_open",
    "workflows_unfinished",
    "workflow_nodes_not_run",
    "node_attempts_open",
    "node_attempts_unfinished",
)


def stats(directory: LogDirectory = None, as_json: AsJson = False) -> int:
    """Print how much the log holds, and its totals."""
    with open_history(directory) as history:
        totals = {
            "directory": safe_text(str(history.log.directory)),
            **_segment_totals(history.log.segments()),
            **_session_totals(history.figures()),
            "events_lost": history.events_lost(),
        }
        print(msgspec.json.encode(totals).decode() if as_json else "\n".join(_lines(totals)))
    return OK


def _segment_totals(segments: list[SegmentFile]) -> dict[str, Any]:
    return {
        "segments": len(segments),
        "writers": len({each.writer for each in segments}),
        "bytes": sum(each.size for each in segments),
    }


def _session_totals(sessions: Iterable[CorrelatedSession]) -> dict[str, Any]:
    sums: dict[str, Any] = {"sessions": 0, "first_start": None, "last_start": None}
    sums |= dict.fromkeys((f"sessions_{outcome}" for outcome in get_args(Outcome)), 0)
    sums |= dict.fromkeys(_SUMS, 0)
    for session in sessions:  # the latest first
        sums["sessions"] += 1
        sums[f"sessions_{session.outcome}"] += 1
        sums["last_start"] = sums["last_start"] or session.start_time
        sums["first_start"] = session.start_time
        for name in _SUMS:
            sums[name] += getattr(session, name)
    return sums


def _lines(totals: dict[str, Any]) -> list[str]:
    period = (
        f"{local_time(totals['first_start'])} to {local_time(totals['last_start'])}"
        if totals["sessions"]
        else "-"
    )
    abandoned = totals["skills_ended"] - totals["skills_completed"]
    lines = (
        ("log", printable(totals["directory"])),
        ("", _size_of_log(totals)),
        ("sessions", f"{totals['sessions']}, {totals['sessions_open']} of them open"),
        ("", _counts(totals, "sessions", *get_args(Outcome))),
        ("", f"begun {period}"),
        ("skills", f"{totals['skills']}: {totals['skills_completed']} completed, {abandoned} abandoned"),
        ("", _counts(totals, "skills", "failed", "cancelled", "open", "unfinished")),
        ("", duration(totals["total_skill_duration"])),
        ("runs", f"{totals['workflows']}: {totals['workflows_ended']} ended"),
        ("", _counts(totals, "workflows", "succeeded", "failed", "cancelled", "open", "unfinished")),
        ("", duration(totals["total_workflow_duration"])),
        ("nodes", _counts(totals, "workflow_nodes", "completed", "failed", "skipped", "cancelled")),
        ("", _counts(totals, "workflow_nodes", "not_run")),
        ("attempts", _counts(totals, "node_attempts", "completed", "failed")),
        ("", _counts(totals, "node_attempts", "open", "unfinished")),
        *([("lost", loss(totals["events_lost"]))] if totals["events_lost"] else []),
    )
    return [f"{title:<10}{text}" for title, text in lines]


def _size_of_log(totals: dict[str, Any]) -> str:
    segments, buses = quantity(totals["segments"], "segment"), quantity(totals["writers"], "bus", "buses")
    return f"{segments} of {buses}, {_size(totals['bytes'])}"


def _counts(totals: dict[str, Any], what: str, *outcomes: str) -> str:
    return ", ".join(f"{totals[f'{what}_{each}']} {each.replace('_', ' ')}" for each in outcomes)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1_024:  # noqa: PLR2004 - the factor between units
            return f"{count:.0f} {unit}"
        count /= 1_024
    return f"{count:.1f} GiB"
