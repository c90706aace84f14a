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
from sys import intern
from typing import Any

import msgspec
from msgspec import field

from eventbus.correlation.bounded_memory import BoundedMap, evict_first, evict_oldest
from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.correlation.inferred_runs import AttemptKey, InferredRuns, RunKey
from eventbus.events import (
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.events.records import skill_invocation, skill_invocation_record, workflow_event_record

__all__ = ["SessionFold"]

_FAR_FUTURE = datetime.max.replace(tzinfo=UTC)
_FAR_PAST = datetime.min.replace(tzinfo=UTC)
_OUTCOMES = ("cancelled", "failed", "skipped", "ok")  # the better ones later: the best one holds
_RANKS = {status: rank for rank, status in enumerate(_OUTCOMES)}
_NONE_YET = (0,) * len(_OUTCOMES)
_FAILED, _OK = _RANKS["failed"], _RANKS["ok"]
_MAX_SECONDS = timedelta.max.total_seconds()  # sums of these stay finite
_STARTED, _ENDED, _SEEN = 1, 2, 3
_RANK = 2  # by how many bits a node's rank, counted from 1, stands left of what was seen of it


# Structs that the garbage collector does not look at: a long history has hundreds of thousands of
# them, none is part of a cycle, and a collector that walks over them takes longer than the fold.
class _Invocation(msgspec.Struct, gc=False):
    number: int
    # Without records only whether there was one.
    started: SkillStarted | bool | None = None
    ended: SkillCompleted | bool | None = None


class _Run(msgspec.Struct, gc=False):
    """One run.

    Attributes:
        seen: Which of start and end were seen of each attempt at a node, and of each node the rank
            of its best outcome: small numbers, for there is one for each node of a long history.
            The first attempt shares its entry with its node; others have the attempt in their key.
    """

    started: bool = False
    ended: bool = False
    open_attempts: int = 0
    seen: dict[str | tuple[str, AttemptKey], int] = {}

    @property
    def is_open(self) -> bool:
        return not self.ended and (self.started or self.open_attempts > 0)


class _Skills(BoundedMap[str, _Invocation], gc=False):
    """Invocations by id."""


class _Runs(BoundedMap[RunKey, _Run], gc=False):
    """Runs by id."""


class SessionFold(msgspec.Struct, gc=False):
    """One session's figures so far.

    Attributes:
        name: What the session is called in what comes out.
        limit: How many skill invocations, runs, and attempts at nodes are remembered, and how many
            records of workflow events are kept, the newest; None for all. The figures count all in
            any case.
        records: The records of workflow events, at most `limit`; None to keep none, of skills neither.
        dropped: Records counted but no longer kept.
        is_open: Whether a skill, a run, or a node of a run whose start was not seen is still going.
        is_filed_open: For whoever holds it: what `is_open` was when it was last put somewhere.
    """

    name: str
    limit: int | None
    records: deque[WorkflowEvent] | None
    dropped: int = 0
    is_open: bool = False
    is_filed_open: bool = False
    _earliest: datetime = _FAR_FUTURE
    _latest: datetime = _FAR_PAST
    _startless: dict[Hashable, datetime] | None = None
    _skills: _Skills = field(default_factory=_Skills)
    _skills_seen: int = 0
    _skills_ended: int = 0
    _skills_completed: int = 0
    _skill_seconds: float = 0.0
    _runs: _Runs = field(default_factory=_Runs)
    _unnamed: dict[str, InferredRuns] | None = None
    _workflows_seen: int = 0
    _workflows_ended: int = 0
    _workflow_seconds: float = 0.0
    _attempts_seen: int = 0
    _attempts_completed: int = 0
    _attempts_failed: int = 0
    _outcomes: list[int] = field(default_factory=partial(list, _NONE_YET))

    # Skills. Each method answers whether the event told something new.

    def skill_started(self, event: SkillStarted) -> bool:
        """Fold the start of an invocation."""
        invocation = self._invocation(event.invocation_id)
        if invocation.started is not None:
            return False
        invocation.started = event if self.records is not None else True
        self._begin(event.timestamp)
        if self._startless:
            self._startless.pop(event.invocation_id, None)
        self._put_skill(event.invocation_id, invocation)
        return True

    def skill_completed(self, event: SkillCompleted) -> bool:
        """Fold the end of an invocation, completed or abandoned."""
        invocation = self._invocation(event.invocation_id)
        if invocation.ended is not None:
            return False
        invocation.ended = event if self.records is not None else True
        self._skills_ended += 1
        self._skills_completed += bool(event.completed)
        seconds = _seconds(event.duration_seconds)
        self._skill_seconds += seconds
        self._end(event.timestamp)
        if not invocation.started:
            self._end_startless(event.invocation_id, event.timestamp, seconds)
        self._put_skill(event.invocation_id, invocation)
        return True

    def _invocation(self, invocation_id: str) -> _Invocation:
        invocation = self._skills.get(invocation_id)
        if invocation is None:
            self._skills_seen += 1
            invocation = _Invocation(self._skills_seen)
        return invocation

    def _put_skill(self, invocation_id: str, invocation: _Invocation) -> None:
        forgotten = self._skills.put(
            invocation_id, invocation, is_open=invocation.ended is None, limit=self.limit
        )
        if self.records is not None:
            self.dropped += len(forgotten)
        self.is_open = bool(self._skills.still_open or self._runs.still_open)

    # Workflows.

    def place_unnamed(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        """Return the run, and the attempt, that an event without a `run_id` belongs to."""
        if self._unnamed is None:
            self._unnamed = {}
        runs = self._unnamed.get(event.workflow_id)
        if runs is None:
            runs = self._unnamed[event.workflow_id] = InferredRuns(event.workflow_id, self.limit)
            evict_oldest(self._unnamed, self.limit)
        return runs.place(event)

    def workflow_started(self, event: WorkflowStarted, run_key: RunKey, _: AttemptKey) -> bool:
        """Fold the start of a run."""
        run = self._run(run_key)
        if run.started:
            return False
        run.started = True
        self._begin(event.timestamp)
        if self._startless:
            self._startless.pop(run_key, None)
        self._keep(event)
        self._put_run(run_key, run)
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
        self._end(event.timestamp)
        if not run.started:
            self._end_startless(run_key, event.timestamp, seconds)
        self._keep(event)
        self._put_run(run_key, run)
        return True

    # Most events are of nodes: these two, and what they always do, are written out in a row.

    def node_started(self, event: NodeStarted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the start of an attempt at a node."""
        run = self._runs.still_open.get(run_key) or self._run(run_key)
        key = event.node_id if attempt == 1 else (event.node_id, attempt)
        seen = run.seen.get(key, 0)
        if seen & _STARTED:
            return False
        if not seen:
            key = self._note_attempt(key)
        run.seen[key] = seen | _STARTED
        timestamp = event.timestamp
        if timestamp < self._earliest:  # noqa: PLR1730 - min() takes twice as long
            self._earliest = timestamp
        if self._startless:
            self._startless.pop((run_key, event.node_id, attempt), None)
        if self.records is not None:
            self._keep(event)
        if not seen & _ENDED:
            run.open_attempts += 1
            if not run.started:
                self._put_run(run_key, run)
        return True

    def node_completed(self, event: NodeCompleted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the end of an attempt at a node."""
        run = self._runs.still_open.get(run_key) or self._run(run_key)
        node_id = event.node_id
        key = node_id if attempt == 1 else (node_id, attempt)
        seen = run.seen.get(key, 0)
        if seen & _ENDED:
            return False
        if not seen & _STARTED:
            key = self._note_attempt(key)
            self._end_startless(
                (run_key, node_id, attempt), event.timestamp, _seconds(event.duration_seconds)
            )
        run.seen[key] = seen = seen | _ENDED
        run.seen[node_id] = self._count_outcome(event, seen if attempt == 1 else run.seen.get(node_id, 0))
        timestamp = event.timestamp
        if timestamp > self._latest:  # noqa: PLR1730 - max() takes twice as long
            self._latest = timestamp
        if self.records is not None:
            self._keep(event)
        if seen & _STARTED:
            run.open_attempts -= 1
            if not run.started:
                self._put_run(run_key, run)
        return True

    def _run(self, run_key: RunKey) -> _Run:
        run = self._runs.get(run_key)
        if run is None:
            self._workflows_seen += 1
            run = _Run()
            self._put_run(run_key, run)
        return run

    def _put_run(self, run_key: RunKey, run: _Run) -> None:
        for forgotten in self._runs.put(run_key, run, is_open=run.is_open, limit=self.limit):
            self._attempts_seen -= len(forgotten.seen)
        self.is_open = bool(self._skills.still_open or self._runs.still_open)

    def _note_attempt(self, key: str | tuple[str, AttemptKey]) -> str | tuple[str, AttemptKey]:
        """Make room for one more; return the key, one and the same text in all sessions."""
        self._attempts_seen += 1
        if self.limit is not None and self._attempts_seen > self.limit:
            self._forget_attempts(1 + self.limit // 8)
        return intern(key) if type(key) is str else key

    def _forget_attempts(self, excess: int) -> None:
        runs = [*self._runs.others.values(), *self._runs.still_open.values()]
        for run in runs:
            excess -= len(evict_first(run.seen, excess))
        self._attempts_seen = sum(len(run.seen) for run in runs)

    def _count_outcome(self, event: NodeCompleted, seen: int) -> int:
        """Count how an attempt ended; return what is known of its node, with the best rank so far."""
        status = event.status
        if status == "ok" and event.success:
            self._attempts_completed += 1
            rank = _OK
        else:
            rank = _RANKS.get(status, _FAILED)  # a status of a later version is no success
            if rank > _FAILED and not event.success:  # as others may have written it down
                rank = _FAILED
            self._attempts_failed += rank == _FAILED
        best = (seen >> _RANK) - 1
        if rank <= best:
            return seen
        if best >= 0:
            self._outcomes[best] -= 1
        self._outcomes[rank] += 1
        return seen & _SEEN | (rank + 1) << _RANK

    def _keep(self, event: WorkflowEvent) -> None:
        kept = self.records
        if kept is not None:
            self.dropped += len(kept) == kept.maxlen
            kept.append(event)

    # When it was.

    def _begin(self, timestamp: datetime) -> None:
        self._earliest = min(self._earliest, timestamp)

    def _end(self, timestamp: datetime) -> None:
        self._latest = max(self._latest, timestamp)

    def _end_startless(self, key: Hashable, timestamp: datetime, seconds: float) -> None:
        # Its start may still come, and knows better: until then this stands in for it.
        if self._startless is None:
            self._startless = {}
        self._startless[key] = _before(timestamp, seconds)
        self._earliest = min(self._earliest, *evict_oldest(self._startless, self.limit), _FAR_FUTURE)

    # What comes out.

    @property
    def start(self) -> datetime:
        """The earliest start seen, or worked out where none was seen."""
        if not self._startless:
            return _in_utc(self._earliest)
        return _in_utc(min(self._earliest, *self._startless.values()))

    def figures(self) -> CorrelatedSession:
        """Return the session as it stands, without its records."""
        cancelled, failed, skipped, completed = self._outcomes
        start = self.start
        # Never before the start: the wall clock may have been set back meanwhile.
        end = None if self.is_open else _in_utc(max(start, self._latest)).isoformat()
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
        if self.records is None:
            figures = self.figures()
            return lambda: figures
        return partial(_with_records, self.figures(), ids, list(self.records))


def _with_records(
    session: CorrelatedSession,
    invocations: list[tuple[int, Any, Any]],
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


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)


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
