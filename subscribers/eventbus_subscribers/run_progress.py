"""What is known of an open run while it is shown, and what an event changed of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from eventbus import Outcome
from eventbus_subscribers.node_progress import Node

__all__ = ["MAX_FAILURES", "MAX_NODES", "Change", "Run"]

MAX_NODES = 10_000
"""The number of nodes of a run that are counted."""
MAX_FAILURES = 50
"""The number of failed nodes of a run that are kept for its summary."""


class Change(NamedTuple):
    """What an event changed.

    Attributes:
        word: The first word of its line.
        name: What changed.
        outcome: How it ended; None if it did not.
        seconds: How long it took; None if it has not ended, or if that is unknown.
        error: The type of the exception that ended it, or nothing.
        message: What else there is to say, in one line.
        kind: What changed.
        node: The node that ended, if its start was seen.
        run: The run that ended.
    """

    word: str
    name: str
    outcome: Outcome | None = None
    seconds: float | None = None
    error: str = ""
    message: str = ""
    kind: Literal["node", "skill", "run", "other"] = "other"
    node: Node | None = None
    run: Run | None = None


class Run:
    """A run of a workflow.

    Attributes:
        workflow_id: The workflow's name, printable.
        label: The name to show it by.
        began: The time of its first event.
        running: The attempts that are running.
        failures: The nodes whose last attempt failed.
        outcome: How it ended; None while it is open.
        seconds: How long it took.
        is_announced: True if its start was seen.
        events: Its events; counted when it ends.
        lost: How many of them are missing.
    """

    def __init__(self, workflow_id: str, now: float, events_before: int, lost_before: int) -> None:
        self.workflow_id = self.label = workflow_id
        self.began = now
        self.running: dict[tuple[object, object], Node] = {}
        self.failures: dict[object, Change] = {}
        self.outcome: Outcome | None = None
        self.seconds: float | None = None
        self.is_announced = False
        self.events = self.lost = 0
        self._events_before, self._lost_before = events_before, lost_before
        self._outcomes: dict[object, str | None] = {}  # None until an attempt has ended
        self._ended: set[tuple[object, object]] = set()

    def expect(self, node_id: object) -> None:
        """Count a node that is planned, or begins."""
        if len(self._outcomes) < MAX_NODES:
            self._outcomes.setdefault(node_id, None)

    def start(self, attempt: tuple[object, object], name: str, node_id: str, now: float) -> Node | None:
        """Return the running node of an attempt; None if there are too many."""
        self.expect(attempt[0])
        if attempt not in self.running and len(self.running) < MAX_NODES:
            self.running[attempt] = Node(name, now, self.workflow_id, node_id)
        return self.running.get(attempt)

    def end(self, attempt: tuple[object, object], outcome: str) -> bool:
        """Record the outcome of an attempt; return True if the attempt had not ended before."""
        self.expect(attempt[0])
        if attempt[0] in self._outcomes:
            self._outcomes[attempt[0]] = outcome
        is_news = attempt not in self._ended
        if len(self._ended) < MAX_NODES:
            self._ended.add(attempt)
        return is_news

    def remember(self, node_id: object, change: Change) -> None:
        """Keep a failure for the summary; forget it if a later attempt did not fail."""
        if change.outcome != "failed":
            self.failures.pop(node_id, None)
        elif len(self.failures) < MAX_FAILURES:
            self.failures[node_id] = change

    def count(self, events: int, lost: int) -> None:
        """Take the figures of its state."""
        self.events, self.lost = events - self._events_before, lost - self._lost_before

    def nodes(self, *statuses: str) -> int:
        """Return how many nodes ended with one of these statuses."""
        return sum(status in statuses for status in self._outcomes.values())

    def tally(self) -> str:
        """Return how many of its nodes succeeded."""
        skipped = self.nodes("skipped")
        suffix = f", {skipped} skipped" if skipped else ""
        return f"{self.nodes('ok')}/{len(self._outcomes)} nodes{suffix}"

    def counts(self) -> str:
        """Return how many of its nodes succeeded, its events, and how many are missing."""
        return f"{self.tally()}, {self.events} events, {self.lost} lost"
