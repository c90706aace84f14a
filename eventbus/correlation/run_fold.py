"""Fold the runs of one session, and the attempts at their nodes, into counts and records."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from functools import partial
from sys import intern

import msgspec
from msgspec import field

from eventbus.correlation.bounded_memory import BoundedMap, add_name, evict_first, evict_oldest, remember
from eventbus.correlation.inferred_runs import AttemptKey, InferredRuns, RunKey
from eventbus.correlation.overlap import Interval
from eventbus.correlation.span import FAR_FUTURE, Span, finite_seconds
from eventbus.events import (
    NodeCompleted,
    NodeStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)

__all__ = ["RunFold"]

_STARTED, _ENDED, _PLANNED = 1, 2, 4  # planned: and no attempt was seen
_FLAGS = _STARTED | _ENDED | _PLANNED
_RANK_SHIFT = 3  # the bits above the flags hold the rank of a node's best outcome, from 1

_OUTCOMES = ("cancelled", "failed", "skipped", "ok")  # in rising order: a node counts by its best attempt
_RANKS = {status: rank for rank, status in enumerate(_OUTCOMES)}
_FAILED, _OK = _RANKS["failed"], _RANKS["ok"]
_NO_OUTCOMES = (0,) * len(_OUTCOMES)


class _Run(msgspec.Struct, gc=False):
    """One run.

    Attributes:
        attempts: The flags of each attempt, and with them the rank of each node: small integers,
            since a long history has one for each node. A first attempt shares the entry of its node;
            the key of a later one includes its number.
    """

    started: bool = False
    ended: bool = False
    open_attempts: int = 0
    attempts: dict[str | tuple[str, AttemptKey], int] = {}

    @property
    def is_open(self) -> bool:
        return not self.ended and (self.started or self.open_attempts > 0)


class _Runs(BoundedMap[RunKey, _Run], gc=False):
    """Runs by key."""


class RunFold(msgspec.Struct, gc=False):
    """The counts of one session's runs and nodes, and their events.

    The methods that fold an event return False for a repeat.

    Attributes:
        limit: How many runs, and attempts at nodes, are remembered; None for all.
        records: The events, as many as its length allows, the newest; None to keep none.
        span: From the first start to the last end.
        is_open: True while a run, or a node of a run whose start was not seen, is still going.
        dropped: How many records are counted but no longer kept.
        seen: How many runs were seen.
        ended: How many runs ended.
        seconds: The total duration of the ended ones.
        intervals: When the ended ones ran.
        failed: How many runs failed.
        cancelled: How many runs were cancelled.
        exit: Whether the exit code is 0, the time of its run's end, and the code. The smallest is kept:
            that of the first run that failed with one.
        error: The end of the first run with an error, and the error's type.
        workflows: The names of the first workflows, each with its first time.
        not_run: How many nodes are planned and had no attempt yet.
        left_open: How many attempts were open when their run ended.
        failed_nodes: The nodes that count as failed, with the times of the failures.
        attempts_completed: How many attempts succeeded.
        attempts_failed: How many attempts failed.
        outcomes: How many nodes were cancelled, failed, were skipped and succeeded, in this order.
    """

    limit: int | None
    records: deque[WorkflowEvent] | None
    span: Span
    is_open: bool = False
    dropped: int = 0
    seen: int = 0
    ended: int = 0
    seconds: float = 0.0
    intervals: list[Interval] | None = None
    failed: int = 0
    cancelled: int = 0
    exit: tuple[bool, datetime, int] | None = None
    error: tuple[datetime, str] | None = None
    workflows: dict[str, datetime] = {}
    not_run: int = 0
    left_open: int = 0
    failed_nodes: dict[tuple[RunKey, str], datetime] | None = None
    attempts_completed: int = 0
    attempts_failed: int = 0
    outcomes: list[int] = field(default_factory=partial(list, _NO_OUTCOMES))
    _runs: _Runs = field(default_factory=_Runs)
    _inferred_runs: InferredRuns | None = None
    _attempts_remembered: int = 0

    def infer_run(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        """Return the run and the attempt of an event without a `run_id`."""
        if self._inferred_runs is None:
            self._inferred_runs = InferredRuns(self.limit, self.limit)
        return self._inferred_runs.infer(event)

    def workflow_started(self, event: WorkflowStarted, run_key: RunKey, _: AttemptKey) -> bool:
        """Fold the start of a run."""
        run = self._run(run_key)
        if run.started:
            return False
        run.started = True
        self.span.begin(run_key, event.timestamp)
        add_name(self.workflows, event.workflow_id, event.timestamp)
        if event.nodes:
            self._plan(run, event.nodes)
        self._keep(event)
        self._put(run_key, run)
        return True

    def workflow_completed(self, event: WorkflowCompleted, run_key: RunKey, _: AttemptKey) -> bool:
        """Fold the end of a run; its open nodes are no longer waited for."""
        run = self._run(run_key)
        if run.ended:
            return False
        run.ended = True
        self.ended += 1
        seconds = finite_seconds(event.duration_seconds)
        self.seconds += seconds
        self.span.end(event.timestamp)
        if not run.started:
            self.span.compute_start(run_key, event.timestamp, seconds)
            add_name(self.workflows, event.workflow_id, FAR_FUTURE)
        self.left_open += run.open_attempts
        self.intervals = remember(self.intervals, (event.timestamp, seconds), self.limit)
        if event.metadata or event.status != "ok" or not event.success:
            self._count_end(event)
        self._keep(event)
        self._put(run_key, run)
        return True

    def _count_end(self, event: WorkflowCompleted) -> None:
        if event.status == "cancelled":
            self.cancelled += 1
        elif event.status != "ok" or not event.success:  # a raw event may contradict itself
            self.failed += 1
        code = event.metadata.get("exit_code") if event.metadata else None
        if type(code) is int:
            found = (code == 0, event.timestamp, code)
            self.exit = found if self.exit is None else min(self.exit, found)
        if event.error_type and not event.success:
            error = (event.timestamp, event.error_type)
            self.error = error if self.error is None else min(self.error, error)

    def _plan(self, run: _Run, nodes: Sequence[str]) -> None:
        seen = {key if isinstance(key, str) else key[0] for key in run.attempts}
        planned: dict[str | tuple[str, AttemptKey], int] = {
            intern(each): _PLANNED for each in nodes if each not in seen
        }
        run.attempts |= planned
        self.not_run += len(planned)
        self._attempts_remembered += len(planned)
        if self.limit is not None and self._attempts_remembered > self.limit:
            self._make_room(self.limit)

    # Most events are of nodes: these two write out what the span and the methods above do.

    def node_started(self, event: NodeStarted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the start of an attempt at a node."""
        run = self._runs.open_items.get(run_key) or self._run_of_node(run_key, event)
        key: str | tuple[str, AttemptKey] = event.node_id
        if attempt != 1:
            self._begin_planned(run, event.node_id)
            key = (event.node_id, attempt)
        flags = run.attempts.get(key, 0)
        if flags & _STARTED:
            return False
        if not flags:
            key = self._remember_attempt(key)
        elif flags & _PLANNED:
            self.not_run -= 1
            flags ^= _PLANNED
        run.attempts[key] = flags | _STARTED
        span = self.span
        timestamp = event.timestamp
        if timestamp < span.earliest:  # noqa: PLR1730 - min() takes twice as long
            span.earliest = timestamp
        if span.startless:
            span.startless.pop((run_key, event.node_id, attempt), None)
        if self.records is not None:
            self._keep(event)
        if not flags & _ENDED:
            run.open_attempts += 1
            if run.ended or not run.started:
                self._count_odd(run_key, run, 1)
        return True

    def node_completed(self, event: NodeCompleted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the end of an attempt at a node."""
        run = self._runs.open_items.get(run_key) or self._run_of_node(run_key, event)
        node_id = event.node_id
        key: str | tuple[str, AttemptKey] = node_id
        if attempt != 1:
            self._begin_planned(run, node_id)
            key = (node_id, attempt)
        flags = run.attempts.get(key, 0)
        if flags & _ENDED:
            return False
        span = self.span
        timestamp = event.timestamp
        if not flags & _STARTED:
            if flags & _PLANNED:
                self.not_run -= 1
                flags ^= _PLANNED
            else:
                key = self._remember_attempt(key)
            seconds = finite_seconds(event.duration_seconds)
            span.compute_start((run_key, node_id, attempt), timestamp, seconds)
        run.attempts[key] = ended = flags | _ENDED
        node = ended if attempt == 1 else run.attempts.get(node_id, 0)
        run.attempts[node_id] = self._count_outcome(event, node, run_key)
        if timestamp > span.latest:  # noqa: PLR1730 - max() takes twice as long
            span.latest = timestamp
        if self.records is not None:
            self._keep(event)
        if flags & _STARTED:
            run.open_attempts -= 1
            if run.ended or not run.started:
                self._count_odd(run_key, run, -1)
        return True

    def _keep(self, event: WorkflowEvent) -> None:
        kept = self.records
        if kept is not None:
            self.dropped += len(kept) == kept.maxlen
            kept.append(event)

    def _run_of_node(self, run_key: RunKey, event: WorkflowEvent) -> _Run:
        """Return a run that is not open, or was not seen before; a node's time is not the run's."""
        add_name(self.workflows, event.workflow_id, FAR_FUTURE)
        return self._run(run_key)

    def _run(self, run_key: RunKey) -> _Run:
        run = self._runs.get(run_key)
        if run is None:
            self.seen += 1
            run = _Run()
            self._put(run_key, run)
        return run

    def _put(self, run_key: RunKey, run: _Run) -> None:
        for evicted in self._runs.put(run_key, run, is_open=run.is_open, limit=self.limit):
            self._attempts_remembered -= len(evicted.attempts)
        self.is_open = bool(self._runs.open_items)

    @property
    def open_attempts(self) -> int:
        """How many attempts of open runs have begun and not ended."""
        return sum(run.open_attempts for run in self._runs.open_items.values())

    @property
    def open_runs(self) -> Collection[RunKey]:
        """The keys of the runs that are open."""
        return self._runs.open_items.keys()

    def attempts_without_end(self) -> Iterator[tuple[str, int]]:
        """Return the nodes and numbers of attempts that began and did not end, also in ended runs."""
        return ((node, number) for node, number, flags in self._each_attempt() if flags & _FLAGS == _STARTED)

    def nodes_not_run(self) -> Iterator[str]:
        """Return the planned nodes that had no attempt."""
        return (node for node, _, flags in self._each_attempt() if flags & _PLANNED)

    def _each_attempt(self) -> Iterator[tuple[str, int, int]]:
        for run in (self._runs.closed_items | self._runs.open_items).values():
            for key, flags in run.attempts.items():
                node, attempt = (key, 1) if isinstance(key, str) else key
                yield node, attempt if isinstance(attempt, int) else attempt[0], flags

    def _count_odd(self, run_key: RunKey, run: _Run, change: int) -> None:
        """Count an attempt that begins or ends in a run that has ended, or whose start was not seen."""
        if run.ended:
            self.left_open += change
        else:
            self._put(run_key, run)

    def _begin_planned(self, run: _Run, node_id: str) -> None:
        """Note that a node has an attempt, and is not only planned."""
        flags = run.attempts.get(node_id, 0)
        if flags & _PLANNED:
            self.not_run -= 1
            run.attempts[node_id] = flags ^ _PLANNED

    def _remember_attempt(self, key: str | tuple[str, AttemptKey]) -> str | tuple[str, AttemptKey]:
        """Make room for one more attempt; return its key, with a node id that all sessions share."""
        self._attempts_remembered += 1
        if self.limit is not None and self._attempts_remembered > self.limit:
            self._make_room(self.limit)
        return intern(key) if type(key) is str else key

    def _make_room(self, limit: int) -> None:
        excess = self._attempts_remembered - limit + limit // 8
        runs = [*self._runs.closed_items.values(), *self._runs.open_items.values()]
        for run in runs:
            excess -= len(evict_first(run.attempts, excess))
        self._attempts_remembered = sum(len(run.attempts) for run in runs)

    def _count_outcome(self, event: NodeCompleted, node: int, run_key: RunKey) -> int:
        """Count the outcome of an attempt; return the node's entry with its best rank so far."""
        best = (node >> _RANK_SHIFT) - 1
        status = event.status
        if status == "ok" and event.success:
            self.attempts_completed += 1
            rank = _OK
        else:
            rank = _RANKS.get(status, _FAILED)  # a status of a later version is not a success
            if rank > _FAILED and not event.success:  # a raw event may contradict itself
                rank = _FAILED
            if rank == _FAILED:
                self.attempts_failed += 1
                if best <= _FAILED:
                    self._note_failure((run_key, event.node_id), event.timestamp)
        if rank <= best:
            return node
        if best >= 0:
            self.outcomes[best] -= 1
            if best == _FAILED and self.failed_nodes:
                self.failed_nodes.pop((run_key, event.node_id), None)
        self.outcomes[rank] += 1
        return node & _FLAGS | (rank + 1) << _RANK_SHIFT

    def _note_failure(self, node: tuple[RunKey, str], time: datetime) -> None:
        """Note the first failure of a node that counts as failed."""
        if self.failed_nodes is None:
            self.failed_nodes = {}
        self.failed_nodes[node] = min(self.failed_nodes.get(node, time), time)
        evict_oldest(self.failed_nodes, self.limit)
