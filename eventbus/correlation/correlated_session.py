"""The result of correlating: a session's figures and records, its patterns, and the report.

No I/O, no clock, no bus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from eventbus.events.printable import printable

__all__ = [
    "CorrelatedSession",
    "Pattern",
    "correlation_report",
    "detect_patterns",
    "newest_first",
    "report_lines",
    "session_summary",
]

_RULE = "=" * 60


class CorrelatedSession(msgspec.Struct):
    """The skills and workflows of one session, joined. It is a copy: changing it is safe.

    Attributes:
        session_id: The session's id, or the name of a bucket of events without one (see `Correlation`).
        start_time: The earliest start seen, in ISO 8601, UTC.
        end_time: The latest end seen, in ISO 8601, UTC; None while a skill or a run is open.
        skill_invocations: Records as by `skill_invocation_record`, in the order first seen.
        workflow_events: Records as by `workflow_event_record`, in the order seen, without progress.
        total_skill_duration: Seconds in ended skill invocations.
        total_workflow_duration: Seconds in ended runs.
        skills_completed: Invocations that ended completed.
        workflow_nodes_completed: Nodes that ran and succeeded, each once per run, in one attempt or
            several.
        workflow_nodes_failed: Nodes with a failed attempt and no successful one.
        workflow_nodes_skipped: Nodes that were skipped and did not run.
        workflow_nodes_cancelled: Nodes that were cancelled, and neither failed nor succeeded.
        node_attempts_completed: Attempts that succeeded.
        node_attempts_failed: Attempts that failed.
        skills: Invocations seen, ended or not.
        skills_ended: Invocations that ended, completed or abandoned.
        workflows: Runs seen, ended or not.
        workflows_ended: Runs that ended.
        records_dropped: Records that are counted but no longer kept.
    """

    session_id: str
    start_time: str
    end_time: str | None = None
    skill_invocations: list[dict[str, Any]] = []
    workflow_events: list[dict[str, Any]] = []
    total_skill_duration: float = 0.0
    total_workflow_duration: float = 0.0
    skills_completed: int = 0
    workflow_nodes_completed: int = 0
    workflow_nodes_failed: int = 0
    workflow_nodes_skipped: int = 0
    workflow_nodes_cancelled: int = 0
    node_attempts_completed: int = 0
    node_attempts_failed: int = 0
    skills: int = 0
    skills_ended: int = 0
    workflows: int = 0
    workflows_ended: int = 0
    records_dropped: int = 0

    @property
    def is_open(self) -> bool:
        """True while a skill or a run of it is still going."""
        return self.end_time is None

    def to_dict(self) -> dict[str, Any]:
        """Return the nine legacy keys; the lists are copies."""
        return {
            "session_id": self.session_id,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "skill_invocations": list(self.skill_invocations),
            "workflow_events": list(self.workflow_events),
            "total_skill_duration": self.total_skill_duration,
            "total_workflow_duration": self.total_workflow_duration,
            "skills_completed": self.skills_completed,
            "workflow_nodes_completed": self.workflow_nodes_completed,
        }


class Pattern(NamedTuple):
    """A pattern in a session's figures."""

    name: str
    message: str


INTERACTIVE_DOMINATED = Pattern("interactive_dominated", "Interactive work dominated automated execution")


def detect_patterns(session: CorrelatedSession) -> tuple[Pattern, ...]:
    """Return the patterns that a session shows.

    ``interactive_dominated``: its skills took more than twice as long as its workflows. Both a skill
    and a run must have ended; otherwise every session would begin with this pattern.
    """
    compared = session.skills_ended and session.workflows_ended
    if compared and session.total_skill_duration > session.total_workflow_duration * 2:
        return (INTERACTIVE_DOMINATED,)
    return ()


def session_summary(session: CorrelatedSession) -> dict[str, Any]:
    """Return a session's figures under their six legacy names; the rate is a percentage."""
    return {
        "session_id": session.session_id,
        "skills_used": session.skills,
        "workflow_nodes_executed": session.workflow_nodes_completed,
        "total_skill_duration": session.total_skill_duration,
        "total_workflow_duration": session.total_workflow_duration,
        "skill_completion_rate": session.skills_completed / session.skills * 100 if session.skills else 0,
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
        f"Session: {printable(session.session_id)}",
        f"  Skills Used: {session.skills}",
        f"  Skills Completed: {session.skills_completed}",
        f"  Workflow Nodes: {session.workflow_nodes_completed}",
        f"  Skill Duration: {session.total_skill_duration:.1f}s",
        f"  Workflow Duration: {session.total_workflow_duration:.1f}s",
        *patterns,
        "",
    ]


def _note(text: str) -> str:
    return f"Note: {printable(text)}"
