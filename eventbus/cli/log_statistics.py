"""``eventbus stats``: print what ran and what became slower, and the totals of a log."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

import msgspec

from eventbus.cli.arguments import Argument
from eventbus.cli.exit_codes import NOT_FOUND, OK, CommandError
from eventbus.cli.humanize import local_time, loss, quantity, size
from eventbus.cli.options import AsJson, LogDirectory
from eventbus.cli.session_access import open_history
from eventbus.cli.statistics_screen import attempt_lines, figures_of, latest_ends, statistics_lines
from eventbus.cli.terminal import shows_unicode
from eventbus.cli.text_width import cut
from eventbus.correlation import CorrelatedSession
from eventbus.events.json_safe import safe_text
from eventbus.events.outcomes import Outcome
from eventbus.events.printable import printable
from eventbus.history import SegmentFile
from eventbus.history.session_history import SessionHistory
from eventbus.views.durations import Attempt, Subject

__all__ = ["stats"]

_STALE = 28 * 86_400.0  # seconds without a run, after which the latest run is looked back from
_KNOWN = "list what there is with: eventbus stats"
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


def stats(
    node: Annotated[
        str | None, Argument(metavar="NODE", help="Only this node, workflow or skill. Default: all.")
    ] = None,
    directory: LogDirectory = None,
    as_json: AsJson = False,
) -> int:
    """Print what ran in the last 7 days, how often it failed, and what became slower."""
    with open_history(directory) as history:
        attempts = _attempts(history, node)
        found, latest = _found(attempts), latest_ends(attempts) if node is not None else []
        totals = {
            "directory": safe_text(str(history.log.directory)),
            **_segment_totals(history.log.segments()),
            **_session_totals(history.figures()),
            "events_lost": history.events_lost(),
            "subjects": found,
            **({} if node is None else {"latest": latest}),
        }
        if as_json:
            print(msgspec.json.encode(totals).decode())
            return OK
        is_terminal = sys.stdout.isatty()
        columns = shutil.get_terminal_size().columns if is_terminal else None
        now = datetime.now().astimezone() if is_terminal else None
        has_unicode = shows_unicode(sys.stdout)
        for line in (
            *statistics_lines(found, columns, has_unicode=has_unicode),
            *attempt_lines(latest, columns, now, has_unicode=has_unicode),
            *_lines(totals, (columns or sys.maxsize) - 1),
        ):
            print(line)
    return OK


def _attempts(history: SessionHistory, node: str | None) -> dict[Subject, list[Attempt]]:
    """Return everything that ended, or what is called so.

    Raises:
        CommandError: There is no such node.
    """
    chosen = [each for each in history.subjects() if node in (None, each.node, each.name)]
    if node is not None and not chosen:
        raise CommandError(f"nothing in this log is called {printable(node)!r}", _KNOWN, NOT_FOUND)
    return {each: history.attempts(each) for each in chosen}


def _found(attempts: dict[Subject, list[Attempt]]) -> list[dict[str, Any]]:
    """Return the figures of everything that ran in the 2 weeks before now, or before the latest end."""
    now = datetime.now(UTC).timestamp()
    latest = max((ends[-1].ended for ends in attempts.values()), default=now)
    end = now if now - latest < _STALE else latest
    found = [figures_of(subject, ends, end) for subject, ends in attempts.items()]
    return [each for each in found if each["runs"] or each["runs_before"]]


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


def _lines(totals: dict[str, Any], width: int) -> Iterator[str]:
    since = f", since {local_time(totals['first_start'])[:10]}" if totals["sessions"] else ""
    lines = (
        ("sessions", f"{totals['sessions']}: {_counts(totals, 'sessions', *get_args(Outcome))}"),
        *([("lost", loss(totals["events_lost"]))] if totals["events_lost"] else []),
        ("log", f"{_size_of_log(totals)}{since}, in {printable(totals['directory'])}"),
    )
    for title, text in lines:
        yield cut(f"{title:<10}{text}", width)


def _size_of_log(totals: dict[str, Any]) -> str:
    segments, buses = quantity(totals["segments"], "segment"), quantity(totals["writers"], "bus", "buses")
    return f"{segments} of {buses}, {size(totals['bytes'])}"


def _counts(totals: dict[str, Any], what: str, *outcomes: str) -> str:
    return ", ".join(f"{totals[f'{what}_{each}']} {each.replace('_', ' ')}" for each in outcomes)
