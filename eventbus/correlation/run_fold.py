"""Fold the runs of one session, and the attempts at their nodes, into counts and records."""

from __future__ import annotations

from collections import deque
from functools import partial
from sys import intern

import msgspec
from msgspec import field

from eventbus.correlation.bounded_memory import BoundedMap, evict_first
from eventbus.correlation.inferred_runs import AttemptKey, InferredRuns, RunKey
from eventbus.correlation.span import Span, finite_seconds
from eventbus.events import (
    NodeCompleted,
    NodeStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)

__all__ = ["RunFold"]

_STARTED, _ENDED = 1, 2
_FLAGS = _STARTED | _ENDED
_RANK_SHIFT = 2  # the bits above the flags hold the rank of a node's best outcome, from 1

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
        self._keep(event)
        self._put(run_key, run)
        return True

    # Most events are of nodes: these two write out what the span and the methods above do.

    def node_started(self, event: NodeStarted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the start of an attempt at a node."""
        run = self._runs.open_items.get(run_key) or self._run(run_key)
        key = event.node_id if attempt == 1 else (event.node_id, attempt)
        flags = run.attempts.get(key, 0)
        if flags & _STARTED:
            return False
        if not flags:
            key = self._remember_attempt(key)
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
            if not run.started:
                self._put(run_key, run)
        return True

    def node_completed(self, event: NodeCompleted, run_key: RunKey, attempt: AttemptKey) -> bool:
        """Fold the end of an attempt at a node."""
        run = self._runs.open_items.get(run_key) or self._run(run_key)
        node_id = event.node_id
        key = node_id if attempt == 1 else (node_id, attempt)
        flags = run.attempts.get(key, 0)
        if flags & _ENDED:
            return False
        span = self.span
        timestamp = event.timestamp
        if not flags & _STARTED:
            key = self._remember_attempt(key)
            seconds = finite_seconds(event.duration_seconds)
            span.compute_start((run_key, node_id, attempt), timestamp, seconds)
        run.attempts[key] = ended = flags | _ENDED
        node = ended if attempt == 1 else run.attempts.get(node_id, 0)
        run.attempts[node_id] = self._count_outcome(event, node)
        if timestamp > span.latest:  # noqa: PLR1730 - max() takes twice as long
            span.latest = timestamp
        if self.records is not None:
            self._keep(event)
        if flags & _STARTED:
            run.open_attempts -= 1
            if not run.started:
                self._put(run_key, run)
        return True

    def _keep(self, event: WorkflowEvent) -> None:
        kept = self.records
        if kept is not None:
            self.dropped += len(kept) == kept.maxlen
            kept.append(event)

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

    def _remember_attempt(self, key: str | tuple[str, AttemptKey]) -> str | tuple[str, AttemptKey]:
        """Make room for one more attempt; return its key, with a node id that all sessions share."""
        self._attempts_remembered += 1
        if self.limit is not None and self._attempts_remembered > self.limit:
            self._evict_attempts(1 + self.limit // 8)
        return intern(key) if type(key) is str else key

    def _evict_attempts(self, excess: int) -> None:
        runs = [*self._runs.closed_items.values(), *self._runs.open_items.values()]
        for run in runs:
            excess -= len(evict_first(run.attempts, excess))
        self._attempts_remembered = sum(len(run.attempts) for run in runs)

    def _count_outcome(self, event: NodeCompleted, node: int) -> int:
        """Count the outcome of an attempt; return the node's entry with its best rank so far."""
        status = event.status
        if status == "ok" and event.success:
            self.attempts_completed += 1
            rank = _OK
        else:
            rank = _RANKS.get(status, _FAILED)  # a status of a later version is not a success
            if rank > _FAILED and not event.success:  # a raw event may contradict itself
                rank = _FAILED
            self.attempts_failed += rank == _FAILED
        best = (node >> _RANK_SHIFT) - 1
        if rank <= best:
            return node
        if best >= 0:
            self.outcomes[best] -= 1
        self.outcomes[rank] += 1
        return node & _FLAGS | (rank + 1) << _RANK_SHIFT
