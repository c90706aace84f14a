"""What correlating gives: one session's figures and records, what they show, and how they read.

Pure: no I/O, no clock, no bus.
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
    """The skills and workflows of one session, joined. A copy: changing it changes nothing else.

    Attributes:
        session_id: The session, or the name of a bucket of what belongs to none (see `Correlation`).
        start_time: The earliest start seen, in ISO 8601, UTC.
        end_time: The latest end seen, in ISO 8601, UTC; None while a skill or a run is open.
        skill_invocations: As `skill_invocation_record`, in the order first seen.
        workflow_events: As `workflow_event_record`, in the order seen, without progress.
        total_skill_duration: Seconds in ended skill invocations.
        total_workflow_duration: Seconds in ended runs.
        skills_completed: Invocations that ended completed.
        workflow_nodes_completed: Nodes that ran and succeeded, each once per run however many
            attempts it took.
        workflow_nodes_failed: Nodes of which an attempt failed and none succeeded.
        workflow_nodes_skipped: Nodes that were skipped, and did not run.
        workflow_nodes_cancelled: Nodes that were cancelled, and neither failed nor succeeded.
        node_attempts_completed: Attempts that succeeded.
        node_attempts_failed: Attempts that failed.
        skills: Invocations seen, ended or not.
        skills_ended: Those that ended, completed or abandoned.
        workflows: Runs seen, ended or not.
        workflows_ended: Those that ended.
        records_dropped: Records of it that are counted but no longer kept.
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
        """Whether a skill or a run of it is still going."""
        return self.end_time is None

    def to_dict(self) -> dict[str, Any]:
        """Return the nine historic keys, sharing nothing with this object's lists."""
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
    """Something that a session's figures show."""

    name: str
    message: str


INTERACTIVE_DOMINATED = Pattern("interactive_dominated", "Interactive work dominated automated execution")


def detect_patterns(session: CorrelatedSession) -> tuple[Pattern, ...]:
    """Return the patterns that a session shows.

    ``interactive_dominated``: its skills took more than twice as long as its workflows. Only where
    a skill and a run have both ended: before that, and with one of them alone, there is nothing to
    compare, and every session would begin by showing it.
    """
    compared = session.skills_ended and session.workflows_ended
    if compared and session.total_skill_duration > session.total_workflow_duration * 2:
        return (INTERACTIVE_DOMINATED,)
    return ()


def session_summary(session: CorrelatedSession) -> dict[str, Any]:
    """Return a session's figures under their six historic names; the rate is a percentage."""
    return {
        "session_id": session.session_id,
        "skills_used": session.skills,
        "workflow_nodes_executed": session.workflow_nodes_completed,
        "total_skill_duration": session.total_skill_duration,
        "total_workflow_duration": session.total_workflow_duration,
        "skill_completion_rate": session.skills_completed / session.skills * 100 if session.skills else 0,
    }


def correlation_report(sessions: Mapping[str, CorrelatedSession], notes: Sequence[str] = ()) -> str:
    """Return sessions as text for people, the one that began last first.

    Args:
        sessions: What `Correlation.sessions` or `correlate_by_session` gave.
        notes: What the reader must know of them, such as what is missing; one line each.
    """
    return "\n".join(report_lines(newest_first(sessions.values()), notes, count=len(sessions)))


def report_lines(
    sessions: Iterable[CorrelatedSession], notes: Sequence[str] = (), *, count: int
) -> Iterator[str]:
    """Return the lines of a report, one after the other.

    Args:
        sessions: In the order in which they are to be told.
        notes: As for `correlation_report`.
        count: How many sessions there are.
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
    """Return sessions by the instant at which they began, the latest first."""
    # The instant, not its text: one made by hand may tell it in another offset.
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
