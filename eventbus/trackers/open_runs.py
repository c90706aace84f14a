"""A tracker's open runs: which run, and which attempt at a node, a call means.

Bounded, indexed, and safe to use from any thread. No foreign code runs under the lock.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import ContextVar
from typing import TypeVar

from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.session import current_session_id, new_id
from eventbus.trackers.workflow_runs import Attempts, NodeKey, Run

__all__ = ["MAX_DURATIONS", "MAX_ENDED_RUNS", "MAX_OPEN_RUNS", "UNKNOWN_WORKFLOW", "OpenRuns"]

UNKNOWN_WORKFLOW = "unknown"
"""The workflow of a run without a start."""
MAX_OPEN_RUNS = 1_024
"""If more runs are open, the oldest one is overdue."""
MAX_ENDED_RUNS = 256
"""How many ended runs are remembered, to ignore late calls and to continue the numbers of resumed runs."""
MAX_DURATIONS = 4_096
"""How many durations of nodes are remembered."""

_MAX_ENDED_NODES = 1_024
_MAX_BEGUN_HERE = 32

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")

# What was begun in this context, the innermost last. Ids, not runs: a context may live for ever and
# must not keep runs alive. All trackers share the two variables and ignore ids that they do not know.
_runs_here: ContextVar[tuple[str, ...]] = ContextVar("eventbus_runs_here", default=())
_nodes_here: ContextVar[tuple[NodeKey, ...]] = ContextVar("eventbus_nodes_here", default=())


class OpenRuns:
    """The runs of one tracker.

    Args:
        session_id: The session of all runs. None: each run has the session it begins in.
    """

    def __init__(self, session_id: str | None) -> None:
        self._session_id = session_id
        self._lock = ForkSafeLock()
        self._open: dict[str, Run] = {}
        self._implicit: str | None = None
        # Ordered, since a plain `dict` takes ever longer to find its first entry while it loses them.
        self._ended: OrderedDict[str, dict[str, Attempts]] = OrderedDict()
        self._last_start_seen = False
        self._durations: OrderedDict[tuple[str | None, str], float | None] = OrderedDict()

    def begin(self, workflow_id: str, run_id: str, now: float) -> tuple[Run, bool]:
        """Begin a run; return it, and whether it is new (False: it is open already)."""
        with self._lock:
            run = self._open.get(run_id)
            if run is None:
                self._drop_idle_implicit()
                run = self._add(workflow_id, run_id)
            new = run.began is None
            if new:
                run.workflow_id = workflow_id
                run.begin(now)
        _push(_runs_here, run_id)
        return run, new

    def start_node(
        self, node_id: str, run_id: str | None, attempt: int | None, now: float
    ) -> tuple[Run | None, int, bool]:
        """Begin an attempt; return its run (None: it has ended), its number, and whether it is new."""
        with self._lock:
            run = self._run(run_id)
            if run is None:
                return None, attempt or 1, False
            number, new = run.attempts(node_id).start(attempt, now)
        _push(_nodes_here, (run.run_id, node_id, number))
        return run, number, new

    def end_node(
        self, node_id: str, run_id: str | None, attempt: int | None, now: float
    ) -> tuple[Run, int, float | None] | None:
        """End an attempt; return its run, number and seconds. None: the attempt or its run has ended."""
        with self._lock:
            run, attempt = self._locate(node_id, run_id, attempt)
            ended = None if run is None else run.attempts(node_id).end(attempt, now)
            if run is None or ended is None:
                return None
            number, duration = ended
            self._remember_duration(run, node_id, duration)
        _drop(_nodes_here, (run.run_id, node_id, number))
        return run, number, duration

    def current_attempt(
        self, node_id: str, run_id: str | None, attempt: int | None
    ) -> tuple[Run | None, int]:
        """Return the run that a call means (None: it has ended), and the number of the attempt."""
        with self._lock:
            run, attempt = self._locate(node_id, run_id, attempt)
            if run is None:
                return None, 0
            return run, attempt or run.attempts(node_id).current()

    def take(self, run_id: str | None) -> Run | None:
        """Remove and return the open run that a call means; None if it has ended already."""
        with self._lock:
            # Without an id and with no open run, the call repeats an end; but the ends of a producer
            # without start events mean a new run each.
            repeated = run_id is None and not self._open and self._last_start_seen
            run = None if repeated or self._is_late(run_id) else self._run(run_id)
            return None if run is None else self._remove(run)

    def take_overdue(self) -> Run | None:
        """Remove and return the oldest run if more than `MAX_OPEN_RUNS` are open."""
        with self._lock:
            if len(self._open) <= MAX_OPEN_RUNS:
                return None
            return self._remove(next(iter(self._open.values())))

    def end_open_nodes(self, run: Run, now: float) -> list[tuple[str, int, float | None]]:
        """End the open attempts of a run that was taken; return node, number and seconds of each."""
        ended: list[tuple[str, int, float | None]] = []
        with self._lock:
            for node_id, number in run.open_nodes():
                end = run.attempts(node_id).end(number, now)
                duration = None if end is None else end[1]
                self._remember_duration(run, node_id, duration)
                ended.append((node_id, number, duration))
        return ended

    def duration(self, node_id: str, run_id: str | None) -> float | None:
        """Return the seconds of a node's latest ended attempt, in any run or in one."""
        with self._lock:
            return self._durations.get((run_id, node_id))

    def _add(self, workflow_id: str, run_id: str) -> Run:
        session_id = self._session_id if self._session_id is not None else current_session_id()
        run = self._open[run_id] = Run(workflow_id, run_id, session_id)
        run.nodes = self._ended.pop(run_id, {})
        return run

    def _run(self, run_id: str | None) -> Run | None:
        """Return the run that a call means, a new implicit one if necessary; None for an ended run."""
        if run_id is not None:
            if run_id in self._ended:
                return None
            return self._open.get(run_id) or self._add(UNKNOWN_WORKFLOW, run_id)
        for begun in reversed(_runs_here.get()):
            if begun in self._open:
                return self._open[begun]
        if self._open:
            return self._open[next(reversed(self._open))]
        self._implicit = new_id()
        return self._add(UNKNOWN_WORKFLOW, self._implicit)

    def _locate(self, node_id: str, run_id: str | None, attempt: int | None) -> tuple[Run | None, int | None]:
        """Return the run and the attempt at a node that a call means, preferably an open one."""
        if run_id is None:
            for begun_in, node, number in reversed(_nodes_here.get()):
                run = self._open.get(begun_in)
                if node == node_id and attempt in (None, number) and run and run.has_open(node_id, number):
                    return run, number
            if self._is_late(run_id):
                return None, attempt
        run = self._run(run_id)
        if run_id is None and run is not None and not run.has_open(node_id, attempt):
            # The node began in a thread without this context, and a later run has begun since.
            others = (other for other in reversed(self._open.values()) if other.has_open(node_id, attempt))
            run = next(others, run)
        return run, attempt

    def _is_late(self, run_id: str | None) -> bool:
        """Return True if this context began only runs that have ended: the call comes after the end."""
        here = _runs_here.get() if run_id is None else ()
        return any(begun in self._ended for begun in here) and not any(begun in self._open for begun in here)

    def _remove(self, run: Run) -> Run:
        del self._open[run.run_id]
        nodes = run.nodes if len(run.nodes) <= _MAX_ENDED_NODES else {}
        _put(self._ended, run.run_id, nodes, MAX_ENDED_RUNS)
        self._last_start_seen = run.began is not None
        _drop(_runs_here, run.run_id)
        return run

    def _drop_idle_implicit(self) -> None:
        """Forget an implicit run without open nodes: from now on, calls mean a real run."""
        run = self._open.get(self._implicit or "")
        if run is not None and run.began is None and not run.open_nodes():
            del self._open[run.run_id]

    def _remember_duration(self, run: Run, node_id: str, duration: float | None) -> None:
        for key in ((None, node_id), (run.run_id, node_id)):
            _put(self._durations, key, duration, 2 * MAX_DURATIONS)


def _put(table: OrderedDict[_K, _V], key: _K, value: _V, limit: int) -> None:
    """Store as the newest entry, and forget the oldest one beyond the limit."""
    table.pop(key, None)
    table[key] = value
    if len(table) > limit:
        table.popitem(last=False)


def _push(here: ContextVar[tuple[_T, ...]], item: _T) -> None:
    here.set((*here.get(), item)[-_MAX_BEGUN_HERE:])


def _drop(here: ContextVar[tuple[_T, ...]], item: _T) -> None:
    begun = here.get()
    if item in begun:
        here.set(tuple(other for other in begun if other != item))
