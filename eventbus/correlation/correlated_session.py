"""The result of correlating: a session's figures and records."""

from __future__ import annotations

from typing import Any

import msgspec

from eventbus.correlation.hook_fold import HookFigures
from eventbus.events.outcomes import Outcome

__all__ = ["CorrelatedSession"]


class CorrelatedSession(msgspec.Struct):
    """The skills and workflows of one session, joined. It is a copy: changing it is safe.

    Attributes:
        session_id: The session's id, or the name of a bucket of events without one (see `Correlation`).
        start_time: The earliest start seen, in ISO 8601, UTC.
        end_time: The latest end seen, in ISO 8601, UTC; None while a skill or a run is open, or if one
            is unfinished.
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
        skills_failed: Invocations that an exception ended.
        skills_cancelled: Invocations that were interrupted, or given up without an exception.
        skills_open: Invocations that are still going.
        skills_unfinished: Invocations that never ended and whose writer is gone. Only a log has this
            figure and the next: live correlation does not know of writers, and what is open is open.
        skills_detached: Those of `skills_open` that another process than their writer will end, so that
            they stay open.
        workflows_succeeded: Runs that succeeded.
        workflows_failed: Runs that failed, whatever their nodes did.
        workflows_cancelled: Runs that were cancelled.
        workflows_open: Runs, with a start or only with an open node, that are still going.
        workflows_unfinished: Runs that never ended and whose writer is gone.
        workflow_nodes_not_run: Planned nodes without an attempt; in an open run they may have one yet.
        node_attempts_open: Attempts that began, and did not end yet.
        node_attempts_unfinished: Attempts that had not ended when their run ended or its writer was gone.
        skill_duration_in_workflows: The part of `total_skill_duration` during which a run was going.
        events_lost: Events that are missing in the log where this session was written. If not 0, all
            figures are lower bounds.
        skill_names: The skills, up to 16, in the order of their starts.
        workflow_ids: The workflows, up to 16, in the order of their starts.
        failed_nodes: The nodes that count as failed, up to 16, in the order of their failures.
        exit_code: The exit code of the first run that reported another one than 0; 0 if all reported
            codes are; None without any.
        error_type: The error of the first run that an error or a signal ended.
        is_unfinished: True if something of it never ended, and the writers of all of that are gone.
        hooks: The hooks of its nodes, such as crackerjack's, up to 64, in the order in which they ended.
        hooks_failed: How many of them failed in their latest pass.
        failed_hooks: The names of these.
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
    skills_failed: int = 0
    skills_cancelled: int = 0
    skills_open: int = 0
    skills_unfinished: int = 0
    skills_detached: int = 0
    workflows_succeeded: int = 0
    workflows_failed: int = 0
    workflows_cancelled: int = 0
    workflows_open: int = 0
    workflows_unfinished: int = 0
    workflow_nodes_not_run: int = 0
    node_attempts_open: int = 0
    node_attempts_unfinished: int = 0
    skill_duration_in_workflows: float = 0.0
    events_lost: int = 0
    skill_names: tuple[str, ...] = ()
    workflow_ids: tuple[str, ...] = ()
    failed_nodes: tuple[str, ...] = ()
    exit_code: int | None = None
    error_type: str | None = None
    is_unfinished: bool = False
    hooks: tuple[HookFigures, ...] = ()
    hooks_failed: int = 0
    failed_hooks: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """``open`` while something of it may still end; otherwise the worst outcome of its parts.

        The worst is failed, then unfinished, cancelled, succeeded, skipped. A failed node makes its
        session failed if no other attempt succeeded, even if its run is reported as a success.
        """
        if self.is_open:
            return "open"
        if self.workflows_failed or self.skills_failed or self.workflow_nodes_failed:
            return "failed"
        if self.is_unfinished:
            return "unfinished"
        if self.workflows_cancelled or self.skills_cancelled or self.workflow_nodes_cancelled:
            return "cancelled"
        did_something = self.skills_completed or self.workflows_ended or self.workflow_nodes_completed
        return "succeeded" if did_something or not self.workflow_nodes_skipped else "skipped"

    @property
    def is_open(self) -> bool:
        """True while a skill or a run of it is still going."""
        return self.end_time is None and not self.is_unfinished

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
