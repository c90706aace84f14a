"""One run of a workflow, and the attempts at its nodes. No events and no bus here.

Everything is keyed by run, node and attempt, because runs overlap and nodes are repeated and retried.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import finalize

from eventbus.session import mark_active, mark_inactive

__all__ = ["Attempts", "NodeKey", "Run"]

NodeKey = tuple[str, str, int]
"""Run, node and attempt."""


class Attempts:
    """The attempts at one node of one run, numbered from 1."""

    __slots__ = ("last", "open", "start_seen")

    def __init__(self) -> None:
        self.last: int = 0
        self.start_seen: bool = False
        self.open: dict[int, float] = {}

    def start(self, attempt: int | None, now: float) -> tuple[int, bool]:
        """Begin an attempt; return its number, and whether it is new (False: it is open already)."""
        number = self.last + 1 if attempt is None else attempt
        if number in self.open:
            return number, False
        self.open[number] = now
        self.last = max(self.last, number)
        self.start_seen = True
        return number, True

    def end(self, attempt: int | None, now: float) -> tuple[int, float | None] | None:
        """End an attempt; return its number and seconds, or None if it has ended already.

        Without a number, the latest open attempt ends. If none is open, the call repeats the end of
        the last attempt, unless its start was not seen either: the producer sends end events only.
        """
        number = attempt if attempt is not None else next(reversed(self.open), None)
        if number is not None and number in self.open:
            return number, max(0.0, now - self.open.pop(number))
        if number is None and not self.start_seen:
            number = self.last + 1
        if number is None or number <= self.last:
            return None
        self.last = number
        self.start_seen = False
        return number, None

    def current(self) -> int:
        """Return the number of the latest open attempt, or of the last one, or 1."""
        return next(reversed(self.open), self.last or 1)


class Run:
    """One execution of a workflow.

    Attributes:
        workflow_id: The workflow's name.
        run_id: The run's id.
        session_id: The session it began in.
        began: When it began, on the monotonic clock; None if its start was not seen.
        nodes: The attempts at each of its nodes.
    """

    __slots__ = ("__weakref__", "_unmark", "began", "nodes", "run_id", "session_id", "workflow_id")

    def __init__(self, workflow_id: str, run_id: str, session_id: str | None) -> None:
        self.workflow_id: str = workflow_id
        self.run_id: str = run_id
        self.session_id: str | None = session_id
        self.began: float | None = None
        self.nodes: dict[str, Attempts] = {}
        self._unmark: Callable[[], object] | None = None

    def begin(self, now: float) -> None:
        """Note that the start was seen, and mark the session as active until `end`.

        The mark also goes when the run is garbage-collected, since it may never be completed.
        """
        self.began = now
        if self.session_id is not None and self._unmark is None:
            mark = object()
            mark_active(mark, self.session_id)
            self._unmark = unmark = finalize(self, mark_inactive, mark)
            unmark.atexit = False

    def end(self, now: float) -> float | None:
        """Remove the session's mark; return the run's seconds, or None if its start was not seen."""
        if self._unmark is not None:
            self._unmark()
        return None if self.began is None else max(0.0, now - self.began)

    def attempts(self, node_id: str) -> Attempts:
        """Return the attempts at a node, which may be none."""
        return self.nodes.setdefault(node_id, Attempts())

    def has_open(self, node_id: str, attempt: int | None) -> bool:
        """Return True if this attempt at a node is open; with None, if any attempt is."""
        open_ = self.nodes[node_id].open if node_id in self.nodes else {}
        return bool(open_) if attempt is None else attempt in open_

    def open_nodes(self) -> list[tuple[str, int]]:
        """Return node and number of each open attempt, in the order of their starts."""
        began = [(at, node, n) for node, attempts in self.nodes.items() for n, at in attempts.open.items()]
        return [(node_id, number) for _, node_id, number in sorted(began)]
