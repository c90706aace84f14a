"""Fold events into the state of open runs, and return a line for each change.

Pure: events and times go in, and lines without line feeds come out. For example

    +28.7s FAIL   tests (22.4s) AssertionError

names the seconds since the first event shown, the change, and its subject. One event makes at most
one line; a header precedes the first. While several runs are open, nodes are named ``workflow/node``,
and ``workflow#run/node`` if two of the runs are of one workflow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any, TypeVar

from eventbus import (
    OUTCOME_VERBS,
    Event,
    EventsLost,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    PatternDetected,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    SubscriberFailed,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
    outcome_of,
    printable,
)

__all__ = ["PlainProgress"]

MAX_REMEMBERED = 256
"""The number of open runs, of ended runs, and of lines not to be repeated that are remembered."""
MAX_NODES = 10_000
"""The number of nodes of a run that are counted."""
MAX_STILL_LINES = 8
"""The number of nodes that one heartbeat names."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class _Node:
    __slots__ = ("name", "progress", "shown_at", "started_at")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.started_at = self.shown_at = now
        self.progress = ""


class _Run:
    __slots__ = (
        "ended",
        "events_before",
        "is_announced",
        "lost_before",
        "outcomes",
        "running",
        "workflow_id",
    )

    def __init__(self, workflow_id: str, events_before: int, lost_before: int) -> None:
        self.workflow_id = workflow_id
        self.events_before = events_before
        self.lost_before = lost_before
        self.outcomes: dict[object, str | None] = {}  # None until an attempt has ended
        self.running: dict[tuple[object, object], _Node] = {}
        self.ended: set[tuple[object, object]] = set()
        self.is_announced = False

    def expect(self, node_id: object) -> None:
        if len(self.outcomes) < MAX_NODES:
            self.outcomes.setdefault(node_id, None)

    def end(self, attempt: tuple[object, object], outcome: str) -> bool:
        """Record the outcome of an attempt; return True if the attempt had not ended before."""
        self.running.pop(attempt, None)
        self.expect(attempt[0])
        if attempt[0] in self.outcomes:
            self.outcomes[attempt[0]] = outcome
        is_news = attempt not in self.ended
        if len(self.ended) < MAX_NODES:
            self.ended.add(attempt)
        return is_news

    def tally(self) -> str:
        outcomes = list(self.outcomes.values())
        skipped = outcomes.count("skipped")
        suffix = f", {skipped} skipped" if skipped else ""
        return f"{outcomes.count('ok')}/{len(outcomes)} nodes{suffix}"


class PlainProgress:
    """Folds events into the state of open runs.

    Args:
        directory: The directory of the log, for the header.
        quiet: Return lines only for problems and the ends of workflows.
        heartbeat: After this many seconds without a line a running node gets one; 0 or less: never.
    """

    def __init__(self, directory: str, *, quiet: bool = False, heartbeat: float = 10.0) -> None:
        self._directory = directory
        self._quiet = quiet
        self._heartbeat = heartbeat
        self._began: float | None = None
        self._session: str | None = None
        self._events = 0
        self._lost = 0
        self._open: OrderedDict[tuple[object, ...], _Run] = OrderedDict()
        self._ended: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._shown_once: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def lines(self, event: Event, now: float) -> list[str]:
        """Fold one event; return its line, if it changed something, and the header before the first.

        Args:
            event: The event.
            now: The time in seconds on a monotonic clock.
        """
        if isinstance(event, EventsLost):
            self._lost += event.count
            return [*self._header(event), self._line(now, "lost", f"{printable(event.count)} events")]
        self._events += 1
        change = self._change(event, now)
        if change is None or (self._quiet and not _is_worth_a_quiet_line(event)):
            return []
        return [*self._header(event), self._line(now, *change)]

    def heartbeat_lines(self, now: float) -> list[str]:
        """Return a line for each node that has been running without one for the heartbeat's time."""
        due = [node for node in self._running() if now - node.shown_at >= self._heartbeat > 0]
        for node in due:
            node.shown_at = now
        if self._quiet:
            return []
        shown = [
            self._line(now, "still", f"{node.name} ({now - node.started_at:.1f}s){node.progress}")
            for node in due[:MAX_STILL_LINES]
        ]
        more = len(due) - MAX_STILL_LINES
        return [*shown, self._line(now, "still", f"{more} more nodes")] if more > 0 else shown

    def seconds_to_heartbeat(self, now: float) -> float | None:
        """Return after how many seconds a heartbeat is due; None while no node runs."""
        if self._quiet or self._heartbeat <= 0:
            return None
        first = min((node.shown_at for node in self._running()), default=None)
        return None if first is None else max(0.0, first + self._heartbeat - now)

    def _running(self) -> Iterator[_Node]:
        return (node for run in self._open.values() for node in run.running.values())

    def _line(self, now: float, word: str, rest: str) -> str:
        if self._began is None:
            self._began = now
        return f"{f'+{now - self._began:.1f}s':<6} {word:<6} {rest}"

    def _header(self, event: Event) -> list[str]:
        """Return the header before the first line, whose session it names."""
        if self._began is not None:
            return []
        self._session = event.session_id
        return [f"eventbus: session={_session_name(event.session_id)} dir={printable(self._directory)}"]

    def _other_session(self, event: Event) -> str:
        """Return the session's name, if it is not the one in the header."""
        is_known = self._began is None or event.session_id == self._session
        return "" if is_known else f" session={_session_name(event.session_id)}"

    def _change(self, event: Event, now: float) -> tuple[str, str] | None:
        """Fold one event; return the word for the change and its subject."""
        if isinstance(event, NodeEvent):
            return self._node(event, now)
        if isinstance(event, WorkflowEvent):
            return self._workflow(event)
        if isinstance(event, SkillEvent):
            return self._skill(event)
        if isinstance(event, SubscriberFailed):
            return self._failed_subscriber(event)
        if isinstance(event, PatternDetected):
            return "note", f"{printable(event.pattern)}: {printable(event.message)}"
        return None

    def _workflow(self, event: WorkflowEvent) -> tuple[str, str] | None:
        key = _run_key(event)
        if isinstance(event, WorkflowStarted):
            return self._started(event)
        if not isinstance(event, WorkflowCompleted) or key in self._ended:
            return None
        run = self._run(event)
        label = self._label(event)
        del self._open[key]
        if event.run_id is not None:
            _remember(self._ended, key, None)
        outcome = "ok" if event.status == "ok" else printable(event.status).upper()
        counts = f"{self._events - run.events_before} events, {self._lost - run.lost_before} lost"
        return "end", f"workflow {label} {outcome} {run.tally()}, {counts}{_error(event.error_type)}"

    def _started(self, event: WorkflowStarted) -> tuple[str, str] | None:
        key = _run_key(event)
        self._ended.pop(key, None)  # a run may be resumed
        if event.run_id is None:
            self._open.pop(key, None)  # without an id, each start is another run
        run = self._run(event)
        for node_id in event.nodes[:MAX_NODES]:
            run.expect(_hashable(node_id))
        if run.is_announced:
            return None
        run.is_announced = True
        return "start", f"workflow {self._label(event)}{self._other_session(event)}"

    def _node(self, event: NodeEvent, now: float) -> tuple[str, str] | None:
        run = self._run(event)
        attempt = (_hashable(event.node_id), _hashable(event.attempt))
        if isinstance(event, NodeCompleted):
            if not run.end(attempt, event.status) and event.run_id is not None:
                return None
            end = _seconds(event.duration_seconds) + _error(event.error_type)
            return OUTCOME_VERBS[outcome_of(event)], self._node_name(event) + end
        run.expect(attempt[0])
        if attempt not in run.running and len(run.running) < MAX_NODES:
            run.running[attempt] = _Node(self._node_name(event), now)
        if isinstance(event, NodeProgress) and attempt in run.running:
            run.running[attempt].progress = _progress(event)
        return None

    def _skill(self, event: SkillEvent) -> tuple[str, str] | None:
        name = f"skill {printable(event.skill_name)}"
        path = f" ({printable(event.workflow_path)})" if event.workflow_path is not None else ""
        if isinstance(event, SkillStarted):
            return "start", name + path + self._other_session(event)
        key = ("skill", _hashable(event.session_id), _hashable(event.invocation_id))
        if not isinstance(event, SkillCompleted) or key in self._shown_once:
            return None
        _remember(self._shown_once, key, None)
        end = _seconds(event.duration_seconds) + _error(event.error_type)
        return OUTCOME_VERBS[outcome_of(event)], name + end

    def _failed_subscriber(self, event: SubscriberFailed) -> tuple[str, str] | None:
        key = ("subscriber", event.subscriber, event.error_type, event.quarantined)
        if key in self._shown_once:
            return None
        _remember(self._shown_once, key, None)
        end = " (quarantined)" if event.quarantined else ""
        return "warn", f"subscriber {printable(event.subscriber)}{_error(event.error_type)}{end}"

    def _run(self, event: WorkflowEvent) -> _Run:
        """Return the event's run; its first event opens it, of whatever type."""
        key = _run_key(event)
        run = self._open.get(key)
        if run is None:
            run = _Run(printable(event.workflow_id), self._events - 1, self._lost)
            if key not in self._ended:  # a late event does not open an ended run again
                _remember(self._open, key, run)
        return run

    def _node_name(self, event: NodeEvent) -> str:
        name = printable(event.node_id)
        if len(self._open) > 1:
            name = f"{self._label(event)}/{name}"
        return name if event.attempt == 1 else f"{name} attempt {printable(event.attempt)}"

    def _label(self, event: WorkflowEvent) -> str:
        """Return the workflow's name, with the run's id if another run of it is open."""
        name = printable(event.workflow_id)
        namesakes = sum(run.workflow_id == name for run in self._open.values())
        return name if namesakes < 2 or event.run_id is None else f"{name}#{printable(event.run_id)}"  # noqa: PLR2004


def _session_name(session_id: str | None) -> str:
    return "-" if session_id is None else printable(session_id, scrubbed=False)


def _remember(memory: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    memory[key] = value
    while len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)


def _is_worth_a_quiet_line(event: Event) -> bool:
    if isinstance(event, SkillCompleted):
        return not event.completed
    is_problem = getattr(event, "success", True) is False
    return is_problem or isinstance(event, WorkflowCompleted | SubscriberFailed)


def _run_key(event: WorkflowEvent) -> tuple[object, ...]:
    return _hashable(event.session_id), _hashable(event.workflow_id), _hashable(event.run_id)


def _hashable(value: object) -> object:
    """Return a value that can be a key: the types of an event's fields are not checked."""
    return value if value is None or isinstance(value, str | int) else printable(value)


def _seconds(duration: float | None) -> str:
    return f" ({duration:.1f}s)" if isinstance(duration, int | float) else ""


def _error(error_type: str | None) -> str:
    return "" if error_type is None else f" {printable(error_type)}"


def _progress(event: NodeProgress) -> str:
    total = "" if event.total is None else f"/{_number(event.total)}"
    message = "" if event.message is None else f" {printable(event.message)}"
    return f" {_number(event.completed)}{total}{message}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else printable(value)
