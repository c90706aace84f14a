"""Fold the events of one session, each in constant time, into its figures and records.

Everything is remembered under the id of what it is about: an invocation, a run, or an attempt at a
node of a run. So a repeated event changes nothing, and one that comes before its start is put right
when the start arrives. What is remembered is bounded; a repeat of what was forgotten counts again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from eventbus.correlated_session import CorrelatedSession
from eventbus.events import (
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.records import skill_invocation, skill_invocation_record, workflow_event_record
from eventbus.remembered import Remembered, forget_oldest
from eventbus.unnamed_runs import AttemptKey, RunKey, UnnamedRuns

__all__ = ["SessionFold"]

_FAR_FUTURE = datetime.max.replace(tzinfo=UTC)
_FAR_PAST = datetime.min.replace(tzinfo=UTC)
_OUTCOMES = ("cancelled", "failed", "skipped", "ok")  # the better ones later: the best one holds
_RANKS = {status: rank for rank, status in enumerate(_OUTCOMES)}
_MAX_ATTEMPTS = 64
_MAX_SECONDS = timedelta.max.total_seconds()  # sums of these stay finite
_STARTED, _ENDED = 1, 2


class _Invocation:
    __slots__ = ("ended", "number", "started")

    def __init__(self, number: int) -> None:
        self.number = number
        self.started: SkillStarted | None = None
        self.ended: SkillCompleted | None = None


class _Run:
    __slots__ = ("ended", "open_attempts", "started")

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self.open_attempts = 0

    @property
    def is_open(self) -> bool:
        return not self.ended and (self.started or self.open_attempts > 0)


class _Node:
    __slots__ = ("attempts", "rank")

    def __init__(self) -> None:
        self.attempts: dict[AttemptKey, int] = {}
        self.rank = -1

    def note(self, attempt: AttemptKey, seen: int) -> None:
        self.attempts[attempt] = seen
        if len(self.attempts) > _MAX_ATTEMPTS:
            forget_oldest(self.attempts, _MAX_ATTEMPTS)


class SessionFold:
    """One session's figures so far.

    Args:
        name: What the session is called in what comes out.
        limit: How many skill invocations, runs and nodes are remembered, and how many records of
            workflow events are kept, the newest; None for all. The figures count all in any case.

    Attributes:
        dropped: Records counted but no longer kept.
    """

    __slots__ = (
        "_attempts_completed",
        "_attempts_failed",
        "_earliest",
        "_latest",
        "_limit",
        "_nodes",
        "_outcomes",
        "_runs",
        "_skill_seconds",
        "_skills",
        "_skills_completed",
        "_skills_ended",
        "_skills_seen",
        "_startless",
        "_unnamed",
        "_workflow_events",
        "_workflow_seconds",
        "_workflows_ended",
        "_workflows_seen",
        "dropped",
        "name",
    )

    def __init__(self, name: str, limit: int | None) -> None:
        self.name: str = name
        self.dropped: int = 0
        self._limit = limit
        self._earliest, self._latest = _FAR_FUTURE, _FAR_PAST
        self._startless: dict[Hashable, datetime] = {}
        self._skills = Remembered[_Invocation](limit)
        self._skills_seen = self._skills_ended = self._skills_completed = 0
        self._skill_seconds = self._workflow_seconds = 0.0
        self._runs = Remembered[_Run](limit)
        self._unnamed: dict[str, UnnamedRuns] = {}
        self._workflows_seen = self._workflows_ended = 0
        self._nodes: dict[tuple[RunKey, str], _Node] = {}
        self._outcomes = [0] * len(_OUTCOMES)
        self._attempts_completed = self._attempts_failed = 0
        self._workflow_events: deque[WorkflowEvent] = deque(maxlen=limit)

    @property
    def is_open(self) -> bool:
        """Whether a skill, a run, or a node of a run whose start was not seen is still going."""
        return bool(self._skills.still_open or self._runs.still_open)

    # Skills. Each method answers whether the event told something new.

    def skill_started(self, event: SkillStarted) -> bool:
        """Fold the start of an invocation."""
        invocation = self._invocation(event.invocation_id)
        if invocation.started is not None:
            return False
        invocation.started = event
        self._begin(event.invocation_id, event.timestamp)
        self._put_skill(event.invocation_id, invocation)
        return True

    def skill_completed(self, event: SkillCompleted) -> bool:
        """Fold the end of an invocation, completed or abandoned."""
        invocation = self._invocation(event.invocation_id)
        if invocation.ended is not None:
            return False
        invocation.ended = event
        self._skills_ended += 1
        self._skills_completed += bool(event.completed)
        seconds = _seconds(event.duration_seconds)
        self._skill_seconds += seconds
        self._end(event.invocation_id, event.timestamp, None if invocation.started else seconds)
        self._put_skill(event.invocation_id, invocation)
        return True

    def _invocation(self, invocation_id: str) -> _Invocation:
        invocation = self._skills.get(invocation_id)
        if invocation is None:
            self._skills_seen += 1
            invocation = _Invocation(self._skills_seen)
        return invocation

    def _put_skill(self, invocation_id: str, invocation: _Invocation) -> None:
        self.dropped += self._skills.put(invocation_id, invocation, is_open=invocation.ended is None)

    # Workflows.

    def place_unnamed(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        """Return the run, and the attempt, that an event without a `run_id` belongs to."""
        runs = self._unnamed.get(event.workflow_id)
        if runs is None:
            runs = self._unnamed[event.workflow_id] = UnnamedRuns(event.workflow_id, self._limit)
            forget_oldest(self._unnamed, self._limit)
        return runs.place(event)

    def workflow_started(self, event: WorkflowStarted, run_key: RunKey, _: AttemptKey) -> bool:
        """Fold the start of a run."""
        run = self._run(run_key)
        if run.started:
            return False
        run.started = True
        self._begin(run_key, event.timestamp)
        self._keep(event)
        self._runs.put(run_key, run, is_open=run.is_open)
        return True

    def workflow_completed(self, event: WorkflowCompleted, run_key: RunKey, _: AttemptKey) -> bool:
        """Fold the end of a run; its nodes that are still open are no longer waited for."""
        run = self._run(run_key)
        if run.ended:
            return False
        run.ended = True
        self._workflows_ended += 1
        seconds = _seconds(event.duration_seconds)
        self._workflow_seconds += seconds
        self._end(run_key, event.timestamp, None if run.started else seconds)
        self._keep(event)
        self._runs.put(run_key, run, is_open=False)
        return True

    def node_started(self, event: NodeStarted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the start of an attempt at a node."""
        run, node = self._run(run_key), self._node(run_key, event.node_id)
        seen = node.attempts.get(attempt, 0)
        if seen & _STARTED:
            return False
        node.note(attempt, seen | _STARTED)
        self._begin((run_key, event.node_id, attempt), event.timestamp)
        self._keep(event)
        if not seen:
            self._count_open(run_key, run, 1)
        return True

    def node_completed(self, event: NodeCompleted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the end of an attempt at a node."""
        run, node = self._run(run_key), self._node(run_key, event.node_id)
        seen = node.attempts.get(attempt, 0)
        if seen & _ENDED:
            return False
        node.note(attempt, seen | _ENDED)
        self._count_outcome(node, event.status)
        seconds = None if seen else _seconds(event.duration_seconds)
        self._end((run_key, event.node_id, attempt), event.timestamp, seconds)
        self._keep(event)
        if seen:
            self._count_open(run_key, run, -1)
        return True

    def _run(self, run_key: RunKey) -> _Run:
        run = self._runs.get(run_key)
        if run is None:
            self._workflows_seen += 1
            run = _Run()
            self._runs.put(run_key, run, is_open=False)
        return run

    def _node(self, run_key: RunKey, node_id: str) -> _Node:
        key = (run_key, node_id)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = _Node()
            forget_oldest(self._nodes, self._limit)
        return node

    def _count_open(self, run_key: RunKey, run: _Run, change: int) -> None:
        was_open = run.is_open
        run.open_attempts += change
        if run.is_open != was_open:
            self._runs.put(run_key, run, is_open=run.is_open)

    def _count_outcome(self, node: _Node, status: str) -> None:
        rank = _RANKS.get(status, _RANKS["failed"])  # a status of a later version is no success
        self._attempts_completed += status == "ok"
        self._attempts_failed += status == "failed"
        if rank > node.rank:
            if node.rank >= 0:
                self._outcomes[node.rank] -= 1
            self._outcomes[rank] += 1
            node.rank = rank

    def _keep(self, event: WorkflowEvent) -> None:
        kept = self._workflow_events
        self.dropped += len(kept) == kept.maxlen
        kept.append(event)

    # When it was.

    def _begin(self, key: Hashable, timestamp: datetime) -> None:
        self._earliest = min(self._earliest, timestamp)
        if self._startless:
            self._startless.pop(key, None)

    def _end(self, key: Hashable, timestamp: datetime, seconds_without_start: float | None) -> None:
        self._latest = max(self._latest, timestamp)
        if seconds_without_start is not None:
            # Its start may still come, and knows better: until then this stands in for it.
            self._startless[key] = _before(timestamp, seconds_without_start)
            self._earliest = min(self._earliest, *forget_oldest(self._startless, self._limit), _FAR_FUTURE)

    # What comes out.

    def figures(self) -> CorrelatedSession:
        """Return the session as it stands, without its records."""
        cancelled, failed, skipped, completed = self._outcomes
        start = min(self._earliest, min(self._startless.values(), default=_FAR_FUTURE))
        # Never before the start: the wall clock may have been set back meanwhile.
        end = None if self.is_open else max(start, self._latest).isoformat()
        return CorrelatedSession(
            session_id=self.name,
            start_time=start.isoformat(),
            end_time=end,
            total_skill_duration=self._skill_seconds,
            total_workflow_duration=self._workflow_seconds,
            skills_completed=self._skills_completed,
            workflow_nodes_completed=completed,
            workflow_nodes_failed=failed,
            workflow_nodes_skipped=skipped,
            workflow_nodes_cancelled=cancelled,
            node_attempts_completed=self._attempts_completed,
            node_attempts_failed=self._attempts_failed,
            skills=self._skills_seen,
            skills_ended=self._skills_ended,
            workflows=self._workflows_seen,
            workflows_ended=self._workflows_ended,
            records_dropped=self.dropped,
        )

    def capture(self) -> Callable[[], CorrelatedSession]:
        """Return what makes the session as it stands now, with its records, whenever it is called.

        Capturing is quick and making is not: only the first has to be done under a lock.
        """
        skills = [*self._skills.others.values(), *self._skills.still_open.values()]
        ids = [(skill.number, skill.started, skill.ended) for skill in skills]
        return partial(_with_records, self.figures(), ids, list(self._workflow_events))


def _with_records(
    session: CorrelatedSession,
    invocations: list[tuple[int, SkillStarted | None, SkillCompleted | None]],
    workflow_events: Iterable[WorkflowEvent],
) -> CorrelatedSession:
    invocations.sort(key=lambda each: each[0])
    session.skill_invocations = [_skill_record(started, ended) for _, started, ended in invocations]
    session.workflow_events = [workflow_event_record(event) for event in workflow_events]
    return session


def _skill_record(started: SkillStarted | None, ended: SkillCompleted | None) -> dict[str, Any]:
    event = ended or started
    assert event is not None  # noqa: S101 - an invocation is made for one of them
    began = _before(event.timestamp, _seconds(ended.duration_seconds)) if ended else event.timestamp
    record = skill_invocation_record(skill_invocation(event, started.timestamp if started else began))
    if record["workflow_path"] is None and started is not None:
        record["workflow_path"] = started.workflow_path
    return record


def _seconds(duration: float | None) -> float:
    """Return a duration that can be added up: what is unknown, no number or negative is 0."""
    try:
        seconds = float(duration or 0)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(seconds, _MAX_SECONDS) if seconds > 0 else 0.0  # NaN is not


def _before(timestamp: datetime, seconds: float) -> datetime:
    try:
        return timestamp - timedelta(seconds=seconds)
    except OverflowError:  # a file can claim a duration of 1e300 s
        return timestamp
