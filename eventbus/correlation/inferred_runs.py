"""Tell the runs of one workflow apart where their events carry no `run_id`.

Historic records, and producers that never have two runs at once, do not say which run an event
belongs to. Then the order tells: a start begins a run, an end ends the latest one that is open, and
what happens to nodes happens in the latest one. Attempts are told apart in the same way, for such
producers do not number them either. The same event seen again, to the microsecond, is put where it
was put at first.
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
"""A run's id, or for a run without one its workflow, its number in it, and when it was first seen.
Not a text made of these: a producer might use that very text as an id."""
AttemptKey = int | tuple[int, int]
"""An attempt's number, or in a run without an id that and which attempt of that number."""

_MAX_STARTLESS = 64


class InferredRuns:
    """The runs of one workflow that have no id, in one session.

    Args:
        workflow_id: The workflow.
        limit: How many events, open runs and nodes are remembered; None for all.
    """

    __slots__ = ("_attempts", "_count", "_latest", "_limit", "_open", "_placed", "_startless", "_workflow_id")

    def __init__(self, workflow_id: str, limit: int | None) -> None:
        self._workflow_id = workflow_id
        self._limit = limit
        self._count = 0
        self._latest: RunKey | None = None
        self._open: dict[RunKey, None] = {}
        self._startless: dict[RunKey, datetime] = {}
        self._placed: dict[Hashable, tuple[RunKey, AttemptKey]] = {}
        self._attempts: dict[Hashable, _Attempts] = {}

    def place(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        """Return the run an event belongs to, and for a node event the attempt."""
        seen_as = _identity(event)
        placed = self._placed.get(seen_as)
        if placed is None:
            placed = self._placed[seen_as] = self._place(event)
            evict_oldest(self._placed, self._limit)
        return placed

    def _place(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        if isinstance(event, WorkflowStarted):
            return self._start(event.timestamp), 0
        if isinstance(event, WorkflowCompleted):
            return self._end(event.timestamp), 0
        run = next(reversed(self._open), self._latest) or self._begin_startless(event.timestamp)
        return run, self._attempt(run, event) if isinstance(event, NodeEvent) else 0

    def _start(self, timestamp: datetime) -> RunKey:
        # A run whose later events overtook its start; else a new one.
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

    def _attempt(self, run: RunKey, event: NodeEvent) -> AttemptKey:
        attempts = self._attempts.setdefault((run, event.node_id, event.attempt), _Attempts())
        evict_oldest(self._attempts, self._limit)
        return event.attempt, attempts.end() if isinstance(event, NodeCompleted) else attempts.start()


class _Attempts:
    """What was told of one node, under one attempt number: how often, and whether the last is open."""

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
