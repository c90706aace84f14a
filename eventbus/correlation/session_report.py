"""What a session shows: its patterns, its summary, and the report as text for people.

No I/O, no clock, no bus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.events.printable import printable
from eventbus.ground.session_names import spell

__all__ = [
    "Pattern",
    "correlation_report",
    "detect_patterns",
    "hooks_text",
    "newest_first",
    "outcome_text",
    "report_lines",
    "session_summary",
    "shortcomings",
]

_RULE = "=" * 60
_MIN_DIFFERENCE = 1.0  # seconds: a session that is over at once is dominated by nothing
_PARTS = ("failed", "cancelled", "open", "unfinished")
_NOT_SUCCEEDED = {
    **{f"Skills {each.capitalize()}": f"skills_{each}" for each in _PARTS},
    **{f"Workflows {each.capitalize()}": f"workflows_{each}" for each in _PARTS},
    "Nodes Failed": "workflow_nodes_failed",
    "Nodes Skipped": "workflow_nodes_skipped",
    "Nodes Cancelled": "workflow_nodes_cancelled",
    "Nodes Open": "node_attempts_open",
    "Nodes Unfinished": "node_attempts_unfinished",
    "Nodes Not Run": "workflow_nodes_not_run",
}
_TITLES = tuple(_NOT_SUCCEEDED)
_counts = attrgetter(*_NOT_SUCCEEDED.values())
_SUMMARY = (
    "skills_failed",
    "skills_cancelled",
    "skills_open",
    "skills_unfinished",
    "workflows",
    "workflows_succeeded",
    "workflows_failed",
    "workflows_cancelled",
    "workflows_open",
    "workflows_unfinished",
    "workflow_nodes_failed",
    "workflow_nodes_skipped",
    "workflow_nodes_cancelled",
    "workflow_nodes_not_run",
    "node_attempts_open",
    "node_attempts_unfinished",
    "failed_nodes",
    "exit_code",
    "error_type",
    "events_lost",
    "hooks_failed",
    "failed_hooks",
)


class Pattern(NamedTuple):
    """A pattern in a session's figures."""

    name: str
    message: str


INTERACTIVE_DOMINATED = Pattern("interactive_dominated", "Interactive work dominated automated execution")


def detect_patterns(session: CorrelatedSession) -> tuple[Pattern, ...]:
    """Return the patterns that a session shows.

    ``interactive_dominated``: its skills took, outside its runs, more than twice as long as the runs,
    and at least a second longer. Both a skill and a run must have ended; otherwise every session would
    begin with this pattern.
    """
    if not (session.skills_ended and session.workflows_ended):
        return ()
    automated = session.total_workflow_duration
    interactive = session.total_skill_duration - session.skill_duration_in_workflows
    is_dominated = interactive > automated * 2 and interactive - automated >= _MIN_DIFFERENCE
    return (INTERACTIVE_DOMINATED,) if is_dominated else ()


def session_summary(session: CorrelatedSession) -> dict[str, Any]:
    """Return a session's figures, the first six under legacy names; the rate is a percentage."""
    return {
        "session_id": session.session_id,
        "skills_used": session.skills,
        "workflow_nodes_executed": session.workflow_nodes_completed,
        "total_skill_duration": session.total_skill_duration,
        "total_workflow_duration": session.total_workflow_duration,
        "skill_completion_rate": session.skills_completed / session.skills * 100 if session.skills else 0,
        "outcome": session.outcome,
        **{name: getattr(session, name) for name in _SUMMARY},
    }


def correlation_report(sessions: Mapping[str, CorrelatedSession], notes: Sequence[str] = ()) -> str:
    """Return sessions as text for people, the newest first.

    Args:
        sessions: The result of `Correlation.sessions` or `correlate_by_session`.
        notes: Remarks for the reader, such as a number of missing events; one line each.
    """
    return "\n".join(report_lines(newest_first(sessions.values()), notes, count=len(sessions)))


def report_lines(
    sessions: Iterable[CorrelatedSession], notes: Sequence[str] = (), *, count: int
) -> Iterator[str]:
    """Generate the lines of a report.

    Args:
        sessions: In the order of the report.
        notes: As for `correlation_report`.
        count: The number of sessions.
    """
    if not count:
        yield "No correlated sessions found."
        yield from map(_note, notes)
        return
    yield from (_RULE, "Skills-Workflow Correlation Report", _RULE, "", f"Total Sessions: {count}", "")
    for session in sessions:
        yield from _session_lines(session)
    if notes:
        yield from (*map(_note, notes), "")
    yield _RULE


def newest_first(sessions: Iterable[CorrelatedSession]) -> list[CorrelatedSession]:
    """Return sessions sorted by the instant of their start, the latest first."""
    # Texts do not sort: a session made by hand may have another UTC offset.
    return sorted(
        sessions, key=lambda each: datetime.fromisoformat(each.start_time).astimezone(UTC), reverse=True
    )


def _session_lines(session: CorrelatedSession) -> list[str]:
    patterns = [f"  Pattern: {pattern.message}" for pattern in detect_patterns(session)]
    return [
        f"Session: {printable(spell(session.session_id))}",
        f"  Skills Used: {session.skills}",
        f"  Skills Completed: {session.skills_completed}",
        f"  Workflow Nodes: {session.workflow_nodes_completed}",
        f"  Skill Duration: {session.total_skill_duration:.1f}s",
        f"  Workflow Duration: {session.total_workflow_duration:.1f}s",
        f"  Outcome: {outcome_text(session)}",
        *(f"  {title}: {text}" for title, text in shortcomings(session)),
        *([f"  Hooks: {hooks_text(session)}"] if session.hooks else ()),
        *patterns,
        "",
    ]


def outcome_text(session: CorrelatedSession) -> str:
    """Return a session's outcome, with the exit code and the error that belong to it."""
    if not session.exit_code and session.error_type is None:
        return session.outcome
    reasons = (f"exit code {session.exit_code}" if session.exit_code else "", session.error_type or "")
    given = ", ".join(printable(each) for each in reasons if each)
    return f"{session.outcome} ({given})" if given else session.outcome


def hooks_text(session: CorrelatedSession) -> str:
    """Return how many of a session's hooks succeeded, their passes and seconds, and which failed."""
    hooks = session.hooks
    succeeded = sum(each.outcome == "succeeded" for each in hooks)
    passes, seconds = sum(each.passes for each in hooks), sum(each.duration_seconds for each in hooks)
    again = f" in {passes} passes" if passes > len(hooks) else ""
    failed = f", failed {', '.join(map(printable, session.failed_hooks))}" if session.failed_hooks else ""
    return f"{succeeded}/{len(hooks)} succeeded{again} ({seconds:.1f}s){failed}"


def shortcomings(session: CorrelatedSession) -> Iterator[tuple[str, str]]:
    """Generate a title and a text for each part of a session that did not succeed."""
    counts = _counts(session)
    for title, count in zip(_TITLES, counts, strict=True) if any(counts) else ():
        if count:
            names = session.failed_nodes if title == "Nodes Failed" else ()
            yield title, f"{count} ({', '.join(map(printable, names))})" if names else str(count)
    if session.events_lost:
        yield "Events Lost", f"up to {session.events_lost}; the figures may be too low"


def _note(text: str) -> str:
    return f"Note: {printable(text)}"
