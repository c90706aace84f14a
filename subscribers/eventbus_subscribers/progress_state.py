"""Fold events into the state of open runs and skills, and return what each event changed.

Pure: events and times go in, and changes come out; memory is bounded. What is shown of it is decided by
`plain_progress` for lines, and by `live_screen` for a terminal. While several runs are open, nodes are named
``workflow/node``, and ``workflow#run/node`` if two of the runs are of one workflow.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import TypeVar

from eventbus import (
    OUTCOME_VERBS,
    Event,
    EventsLost,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    Outcome,
    PatternDetected,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    SubscriberFailed,
    Word,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
    outcome_of,
    printable,
)
from eventbus_subscribers.node_progress import Node
from eventbus_subscribers.run_progress import MAX_NODES, Change, Run

__all__ = ["MAX_REMEMBERED", "ProgressState", "header_line"]

MAX_REMEMBERED = 256
"""The number of open runs, of ended runs, and of changes not to be repeated that are remembered."""
MAX_MESSAGE = 500
"""Longer messages of exceptions are cut."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class ProgressState:
    """Folds events into the state of open runs and skills.

    Attributes:
        session: The session of the first event.
        events: How many events were added.
        lost: How many events are missing.
        open: The open runs.
        skills: The names and times of the open skills.
    """

    def __init__(self) -> None:
        self.session: str | None = None
        self.events = 0
        self.lost = 0
        self.open: OrderedDict[tuple[object, ...], Run] = OrderedDict()
        self.skills: OrderedDict[tuple[object, ...], tuple[str, float]] = OrderedDict()
        self._began = False
        self._ended: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._shown_once: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def add(self, event: Event, now: float) -> Change | None:
        """Fold one event; return what it changed.

        Args:
            event: The event.
            now: The time in seconds on a monotonic clock.
        """
        change = self._change(event, now)
        if change is not None and not self._began:
            self._began, self.session = True, event.session_id
        return change

    def running(self) -> Iterator[Node]:
        """Iterate over the nodes that are running."""
        return (node for run in self.open.values() for node in run.running.values())

    def give_up(self) -> list[Run]:
        """End the runs that are open, because no more events come; return them."""
        runs = list(self.open.values())
        for run in runs:
            run.count(self.events, self.lost)
        self.open.clear()
        self.skills.clear()
        return runs

    def _change(self, event: Event, now: float) -> Change | None:
        if isinstance(event, EventsLost):
            self.lost += event.count
            return Change(Word.LOST, f"{printable(event.count)} events")
        self.events += 1
        if isinstance(event, NodeEvent):
            return self._node(event, now)
        if isinstance(event, WorkflowEvent):
            return self._workflow(event, now)
        return self._skill(event, now) if isinstance(event, SkillEvent) else self._other(event)

    def _other(self, event: Event) -> Change | None:
        if isinstance(event, SubscriberFailed):
            return self._failed_subscriber(event)
        if isinstance(event, PatternDetected):
            return Change(Word.NOTE, f"{printable(event.pattern)}: {printable(event.message)}")
        return None

    def _workflow(self, event: WorkflowEvent, now: float) -> Change | None:
        key = _run_key(event)
        if isinstance(event, WorkflowStarted):
            return self._started(event, now)
        if not isinstance(event, WorkflowCompleted) or key in self._ended:
            return None
        run = self._run(event, now)
        run.label = self._label(event)
        run.outcome, run.seconds = outcome_of(event), _seconds_of(event.duration_seconds)
        run.count(self.events, self.lost)
        del self.open[key]
        if event.run_id is not None:
            _remember(self._ended, key, None)
        status = "ok" if event.status == "ok" else printable(event.status).upper()
        name = f"workflow {run.label} {status} {run.counts()}"
        return Change(Word.ENDED, name, run.outcome, None, _error(event.error_type), kind="run", run=run)

    def _started(self, event: WorkflowStarted, now: float) -> Change | None:
        key = _run_key(event)
        self._ended.pop(key, None)  # a run may be resumed
        if event.run_id is None:
            self.open.pop(key, None)  # without an id, each start is another run
        run = self._run(event, now)
        for node_id in event.nodes[:MAX_NODES]:
            run.expect(_hashable(node_id))
        if run.is_announced:
            return None
        run.is_announced = True
        run.label = self._label(event)
        return Change(Word.STARTED, f"workflow {run.label}{self._other_session(event)}", kind="run")

    def _node(self, event: NodeEvent, now: float) -> Change | None:
        run = self._run(event, now)
        attempt = (_hashable(event.node_id), _hashable(event.attempt))
        name = self._node_name(event)
        if isinstance(event, NodeCompleted):
            node = run.running.pop(attempt, None)
            if not run.end(attempt, event.status) and event.run_id is not None:
                return None
            change = _end(event, outcome_of(event), name, node)
            run.remember(attempt[0], change)
            return change
        started = run.start(attempt, name, printable(event.node_id), now)
        if isinstance(event, NodeProgress) and started is not None:
            started.advance(event)
        return None

    def _skill(self, event: SkillEvent, now: float) -> Change | None:
        name = f"skill {printable(event.skill_name)}"
        key = ("skill", _hashable(event.session_id), _hashable(event.invocation_id))
        if isinstance(event, SkillStarted):
            path = f" ({printable(event.workflow_path)})" if event.workflow_path is not None else ""
            _remember(self.skills, key, (name, now))
            return Change(Word.STARTED, name + path + self._other_session(event), kind="skill")
        if not isinstance(event, SkillCompleted) or key in self._shown_once:
            return None
        self.skills.pop(key, None)
        _remember(self._shown_once, key, None)
        return _end(event, outcome_of(event), name)

    def _failed_subscriber(self, event: SubscriberFailed) -> Change | None:
        key = ("subscriber", event.subscriber, event.error_type, event.quarantined)
        if key in self._shown_once:
            return None
        _remember(self._shown_once, key, None)
        end = f"{_error(event.error_type)}{' (quarantined)' if event.quarantined else ''}"
        return Change(Word.WARNING, f"subscriber {printable(event.subscriber)} {end}")

    def _run(self, event: WorkflowEvent, now: float) -> Run:
        """Return the event's run; its first event opens it, of whatever type."""
        key = _run_key(event)
        run = self.open.get(key)
        if run is None:
            run = Run(printable(event.workflow_id), now, self.events - 1, self.lost)
            if key not in self._ended:  # a late event does not open an ended run again
                _remember(self.open, key, run)
        return run

    def _node_name(self, event: NodeEvent) -> str:
        name = printable(event.node_id)
        if len(self.open) > 1:
            name = f"{self._label(event)}/{name}"
        return name if event.attempt == 1 else f"{name} attempt {printable(event.attempt)}"

    def _label(self, event: WorkflowEvent) -> str:
        """Return the workflow's name, with the run's id if another run of it is open."""
        name = printable(event.workflow_id)
        namesakes = sum(run.workflow_id == name for run in self.open.values())
        return name if namesakes < 2 or event.run_id is None else f"{name}#{printable(event.run_id)}"  # noqa: PLR2004

    def _other_session(self, event: Event) -> str:
        """Return the session's name, if it is not that of the first event."""
        if not self._began or event.session_id == self.session:
            return ""
        return f" session={_session_name(event.session_id)}"


def _session_name(session_id: str | None) -> str:
    """Return the name to show a session by."""
    return "-" if session_id is None else printable(session_id, scrubbed=False)


def header_line(event: Event, directory: str) -> str:
    """Return the line before all others: the session of the first event, and the directory of its log."""
    return f"eventbus: session={_session_name(event.session_id)} dir={printable(directory)}"


def _seconds_of(value: object) -> float | None:
    """Return a duration that can be shown: the types of an event's fields are not checked."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _end(
    event: NodeCompleted | SkillCompleted, outcome: Outcome, name: str, node: Node | None = None
) -> Change:
    message = getattr(event, "error_message", None)
    return Change(
        OUTCOME_VERBS[outcome],
        name,
        outcome,
        _seconds_of(event.duration_seconds),
        _error(event.error_type),
        printable(message, MAX_MESSAGE) if message else "",
        "skill" if isinstance(event, SkillCompleted) else "node",
        node,
    )


def _remember(memory: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    memory[key] = value
    while len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)


def _run_key(event: WorkflowEvent) -> tuple[object, ...]:
    return _hashable(event.session_id), _hashable(event.workflow_id), _hashable(event.run_id)


def _hashable(value: object) -> object:
    """Return a value that can be a key: the types of an event's fields are not checked."""
    return value if value is None or isinstance(value, str | int) else printable(value)


def _error(error_type: str | None) -> str:
    return "" if error_type is None else printable(error_type)
