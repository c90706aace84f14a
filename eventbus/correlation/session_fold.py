"""Fold the events of one session, each in constant time, into its figures and records.

Every invocation, run and attempt at a node is remembered by its id. So a repeated event changes
nothing, and the figures are corrected when a start arrives after its end. The memory is bounded: a
repeat of an evicted item counts again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import msgspec

from eventbus.correlation.bounded_memory import add_name, names_in_order
from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.correlation.hook_fold import HookFold
from eventbus.correlation.inferred_runs import RunKey
from eventbus.correlation.overlap import overlap
from eventbus.correlation.run_fold import RunFold
from eventbus.correlation.skill_fold import Captured, SkillFold, skill_records
from eventbus.correlation.span import Span
from eventbus.events import NodeProgress, WorkflowEvent
from eventbus.events.records import workflow_event_records

__all__ = ["OpenItems", "SessionFold", "new_session_fold"]


class OpenItems(NamedTuple):
    """What a session began or planned and did not end.

    Attributes:
        invocations: The ids of its open skill invocations.
        runs: The keys of its open runs.
        attempts: The node and the number of each attempt without an end, also in ended runs.
        not_run: The planned nodes that had no attempt.
    """

    invocations: Collection[str] = ()
    runs: Collection[RunKey] = ()
    attempts: Iterable[tuple[str, int]] = ()
    not_run: Iterable[str] = ()


class SessionFold(msgspec.Struct, gc=False):
    """One session's figures and records so far.

    Attributes:
        name: The name under which the session is returned.
        skills: Its skill invocations.
        runs: Its runs.
        hooks: The hooks of its nodes; None without any.
        is_filed_open: `is_open` when `Correlation` last filed this session.
    """

    name: str
    skills: SkillFold
    runs: RunFold
    hooks: HookFold | None = None
    is_filed_open: bool = False

    def hook_ended(self, event: NodeProgress) -> bool:
        """Fold the end of a hook; return False for a repeat."""
        if self.hooks is None:
            self.hooks = HookFold(self.runs.limit)
        span, timestamp = self.runs.span, event.timestamp
        span.earliest = min(span.earliest, timestamp)
        span.end(timestamp)
        return self.hooks.add(event, event.run_id)

    @property
    def is_open(self) -> bool:
        """True while a skill, a run, or a node of a run whose start was not seen is still going."""
        return self.skills.is_open or self.runs.is_open

    @property
    def dropped(self) -> int:
        """How many records are counted but no longer kept."""
        return self.skills.dropped + self.runs.dropped

    @property
    def start(self) -> datetime:
        """The earliest start; a start that was not seen is computed from its end."""
        return _in_utc(min(self.skills.span.start, self.runs.span.start))

    def figures(self) -> CorrelatedSession:
        """Return the session as it stands, without its records."""
        # Properties of properties would cost a fifth of this.
        skills, runs = self.skills, self.runs
        skill_span, run_span = skills.span, runs.span
        start = _in_utc(min(skill_span.start, run_span.start))
        is_open = skills.is_open or runs.is_open
        # Not before the start: the wall clock may have been set back in between.
        end = None if is_open else _in_utc(max(start, skill_span.latest, run_span.latest)).isoformat()
        cancelled, failed, skipped, completed = runs.outcomes
        hooks = () if self.hooks is None else self.hooks.figures()
        failed_hooks = tuple(each.hook for each in hooks if each.outcome == "failed")
        return CorrelatedSession(
            session_id=self.name,
            start_time=start.isoformat(),
            end_time=end,
            total_skill_duration=skills.seconds,
            total_workflow_duration=runs.seconds,
            skills_completed=skills.completed,
            workflow_nodes_completed=completed,
            workflow_nodes_failed=failed,
            workflow_nodes_skipped=skipped,
            workflow_nodes_cancelled=cancelled,
            node_attempts_completed=runs.attempts_completed,
            node_attempts_failed=runs.attempts_failed,
            skills=skills.seen,
            skills_ended=skills.ended,
            workflows=runs.seen,
            workflows_ended=runs.ended,
            records_dropped=skills.dropped + runs.dropped,
            skills_failed=skills.failed,
            skills_cancelled=skills.ended - skills.completed - skills.failed,
            skills_open=len(skills.open_invocations),
            skills_detached=skills.detached if skills.is_open else 0,
            workflows_open=len(runs.open_runs),
            workflows_succeeded=runs.ended - runs.failed - runs.cancelled,
            workflows_failed=runs.failed,
            workflows_cancelled=runs.cancelled,
            workflow_nodes_not_run=runs.not_run,
            node_attempts_open=runs.open_attempts if runs.is_open else 0,
            node_attempts_unfinished=runs.left_open,
            skill_duration_in_workflows=overlap(skills.intervals, runs.intervals),
            skill_names=names_in_order(skills.names),
            workflow_ids=names_in_order(runs.workflows),
            failed_nodes=_names_of(runs.failed_nodes) if runs.failed_nodes else (),
            exit_code=None if runs.exit is None else runs.exit[2],
            error_type=None if runs.error is None else runs.error[1],
            hooks=hooks,
            hooks_failed=len(failed_hooks),
            failed_hooks=failed_hooks,
        )

    def open_items(self) -> OpenItems:
        """Return what it began or planned and did not end."""
        runs = self.runs
        invocations = self.skills.open_invocations
        return OpenItems(invocations, runs.open_runs, runs.attempts_without_end(), runs.nodes_not_run())

    def capture(self) -> Callable[[], CorrelatedSession]:
        """Return a function that builds the session as it stands now, with its records.

        Capturing is quick and building is not: only capturing needs a lock.
        """
        figures = self.figures()
        if self.runs.records is None:
            return lambda: figures
        return partial(_with_records, figures, self.skills.captured(), list(self.runs.records))


def new_session_fold(name: str, limit: int | None, *, keeps_records: bool) -> SessionFold:
    """Return the fold of a session without events.

    Args:
        name: The name under which the session is returned.
        limit: How many skill invocations, runs, and attempts at nodes are remembered, and how many
            records are kept of each kind, the newest; None for all. The figures count all of them.
        keeps_records: False to keep figures only.
    """
    records: deque[WorkflowEvent] | None = deque(maxlen=limit) if keeps_records else None
    return SessionFold(
        name, SkillFold(limit, keeps_records, Span(limit)), RunFold(limit, records, Span(limit))
    )


def _with_records(
    session: CorrelatedSession,
    invocations: list[Captured],
    workflow_events: Sequence[WorkflowEvent],
) -> CorrelatedSession:
    session.skill_invocations = skill_records(invocations)
    session.workflow_events = workflow_event_records(workflow_events)
    return session


def _names_of(nodes: dict[tuple[RunKey, str], datetime]) -> tuple[str, ...]:
    names: dict[str, datetime] = {}
    for (_, node_id), time in nodes.items():
        add_name(names, node_id, time)
    return names_in_order(names)


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)
