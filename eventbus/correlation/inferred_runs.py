"""Infer the run of an event that carries no `run_id`.

Legacy records, and producers that never have two runs of a workflow at once, give no run id. The
order of the events replaces it: a start begins a run, an end ends the latest open run, and a node
event belongs to the latest run. Attempts are inferred in the same way, because such producers do not
number them either. A repeated event, with the same time to the microsecond, gets the same run again.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime

from eventbus.correlation.bounded_memory import evict_oldest
from eventbus.events import (
    NodeCompleted,
    NodeEvent,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)

__all__ = ["AttemptKey", "InferredRuns", "RunKey"]

RunKey = str | tuple[str, int, datetime]
"""A run's id; for an inferred run its workflow, its number and the time it was first seen. These are
not joined into one string, which a producer might use as an id."""
AttemptKey = int | tuple[int, int]
"""An attempt's number; in an inferred run, that number and a count of the attempts with it."""

_MAX_STARTLESS = 64


class InferredRuns:
    """The inferred runs of one session, or of all events without a session.

    Args:
        limit: How many events, open runs and nodes are remembered per workflow; None for all.
        max_workflows: How many workflows are remembered; None for all.
    """

    __slots__ = ("_by_workflow", "_limit", "_max_workflows")

    def __init__(self, limit: int | None, max_workflows: int | None) -> None:
        self._limit = limit
        self._max_workflows = max_workflows
        self._by_workflow: dict[str, _WorkflowRuns] = {}

    def infer(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        """Return the run of an event and, for a node event, its attempt."""
        runs = self._by_workflow.get(event.workflow_id)
        if runs is None:
            runs = self._by_workflow[event.workflow_id] = _WorkflowRuns(event.workflow_id, self._limit)
            evict_oldest(self._by_workflow, self._max_workflows)
        return runs.infer(event)


class _WorkflowRuns:
    """The inferred runs of one workflow."""

    __slots__ = (
        "_attempts",
        "_count",
        "_inferred",
        "_latest",
        "_limit",
        "_open",
        "_startless",
        "_workflow_id",
    )

    def __init__(self, workflow_id: str, limit: int | None) -> None:
        self._workflow_id = workflow_id
        self._limit = limit
        self._count = 0
        self._latest: RunKey | None = None
        self._open: dict[RunKey, None] = {}
        self._startless: dict[RunKey, datetime] = {}
        self._inferred: dict[Hashable, tuple[RunKey, AttemptKey]] = {}
        self._attempts: dict[Hashable, _Attempts] = {}

    def infer(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        identity = _identity(event)
        inferred = self._inferred.get(identity)
        if inferred is None:
            inferred = self._inferred[identity] = self._infer_new(event)
            evict_oldest(self._inferred, self._limit)
        return inferred

    def _infer_new(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        if isinstance(event, WorkflowStarted):
            return self._start(event.timestamp), 0
        if isinstance(event, WorkflowCompleted):
            return self._end(event.timestamp), 0
        run = next(reversed(self._open), self._latest) or self._begin_startless(event.timestamp)
        return run, self._infer_attempt(run, event) if isinstance(event, NodeEvent) else 0

    def _start(self, timestamp: datetime) -> RunKey:
        # The start of a run whose later events arrived first, or else of a new run.
        for run, first_seen in self._startless.items():
            if timestamp <= first_seen:
                del self._startless[run]
                return run
        return self._begin(timestamp)

    def _end(self, timestamp: datetime) -> RunKey:
        run = next(reversed(self._open), None) or self._begin_startless(timestamp)
        self._open.pop(run, None)
        return run

    def _begin(self, timestamp: datetime) -> RunKey:
        self._count += 1
        self._latest = run = (self._workflow_id, self._count, timestamp)
        self._open[run] = None
        evict_oldest(self._open, self._limit)
        return run

    def _begin_startless(self, timestamp: datetime) -> RunKey:
        run = self._begin(timestamp)
        self._startless[run] = timestamp
        evict_oldest(self._startless, _MAX_STARTLESS)
        return run

    def _infer_attempt(self, run: RunKey, event: NodeEvent) -> AttemptKey:
        attempts = self._attempts.setdefault((run, event.node_id, event.attempt), _Attempts())
        evict_oldest(self._attempts, self._limit)
        return event.attempt, attempts.end() if isinstance(event, NodeCompleted) else attempts.start()


class _Attempts:
    """The attempts at one node under one number: their count, and whether the last one is open."""

    __slots__ = ("last", "last_is_open")

    def __init__(self) -> None:
        self.last = 0
        self.last_is_open = False

    def start(self) -> int:
        self.last += 1
        self.last_is_open = True
        return self.last

    def end(self) -> int:
        if not self.last_is_open:
            self.last += 1
        self.last_is_open = False
        return self.last


def _identity(event: WorkflowEvent) -> Hashable:
    if isinstance(event, NodeEvent):
        return event.__class__, event.timestamp, event.node_id, event.attempt
    return event.__class__, event.timestamp
