"""Fold events into spans: as they happen, and from a log.

Both describe an end in the same way. Only a log knows what else belongs to it: which skill a run was
begun in, and what never ended.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime

from eventbus.correlation import CorrelatedSession
from eventbus.correlation.hook_fold import is_hook_end
from eventbus.correlation.inferred_runs import AttemptKey, InferredRuns
from eventbus.correlation.span import finite_seconds
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
)
from eventbus.events.outcomes import is_detached
from eventbus.events.printable import printable
from eventbus.views.span_conventions import attributes_of
from eventbus.views.spans import (
    EndEvent,
    NodeSubject,
    RunSubject,
    SkillSubject,
    Span,
    SpanEvent,
    State,
    Subject,
    TraceParent,
    describe,
    nanoseconds,
    state_of,
)

__all__ = ["SpanFold", "matters_to_spans", "session_spans"]

MAX_SESSIONS = 1_024
MAX_RUNS = 1_024
MAX_NODES = 1_024
MAX_HOOKS = 128
"""How many hooks a span has: the first."""


def matters_to_spans(event: Event) -> bool:
    """Return False for an event that makes no difference to `SpanFold`."""
    if isinstance(event, SkillEvent):
        return isinstance(event, SkillCompleted)
    if not isinstance(event, WorkflowEvent):
        return False
    if isinstance(event, NodeCompleted | WorkflowCompleted) or not event.run_id:
        return True
    return isinstance(event, NodeProgress) and is_hook_end(event)


class SpanFold:
    """Turns the events of all sessions, as they happen, into the spans of what ended.

    It remembers no starts, so that what is lost with it is what has not ended. It remembers which runs
    without an id have begun, since their events do not say, and the hooks of nodes that have not ended.

    Args:
        root: The span of another program that began this one.
    """

    def __init__(self, root: TraceParent | None = None) -> None:
        self._root = root
        self._subjects = _Subjects(MAX_SESSIONS, MAX_RUNS)
        self._hooks = _Hooks(MAX_NODES)

    def add(self, event: Event) -> Span | None:
        """Fold an event; return a span if it ended something."""
        if not isinstance(event, SkillEvent | WorkflowEvent):
            return None
        subject = self._subjects.of(event)
        hooks = self._hooks.add(event, subject)
        if not isinstance(event, EndEvent):
            return None
        return describe(subject, state_of(event), root=self._root, events=hooks)


def session_spans(
    events: Iterable[Event], figures: CorrelatedSession, root: TraceParent | None = None
) -> Iterator[Span]:
    """Generate the spans of a session in a log, each once: of what ended, and of what did not.

    A run that began in a skill is the skill's child. What has not ended has a span, too, up to the last
    event: without it, what did end in it would have no parent.

    Args:
        events: The events of the session, in order.
        figures: Its figures, which say whether what has not ended still can.
        root: The span of another program that began this one.
    """
    events = list(events)
    fold = _SessionFold(root, _Skills(event for event in events if isinstance(event, SkillEvent)))
    for event in events:
        span = fold.add(event)
        if span is not None:
            yield span
    yield from fold.unended(figures)


class _SessionFold:
    def __init__(self, root: TraceParent | None, skills: _Skills) -> None:
        self._root = root
        self._skills = skills
        self._subjects = _Subjects(None, None)
        self._hooks = _Hooks(None)
        self._began: dict[Subject, datetime] = {}  # of what has not ended, in the order of the starts
        self._ended: set[Subject] = set()
        self._detached: set[Subject] = set()
        self._last: datetime | None = None

    def add(self, event: Event) -> Span | None:
        """Fold an event; return a span if it ended something for the first time."""
        if not isinstance(event, SkillEvent | WorkflowEvent):
            return None
        self._last = event.timestamp if self._last is None else max(self._last, event.timestamp)
        subject = self._subjects.of(event)
        hooks = self._hooks.add(event, subject)
        if isinstance(subject, NodeSubject):
            self._begin(subject.run, event)
        if subject in self._ended:
            return None
        self._begin(subject, event)
        return self._end(subject, event, hooks) if isinstance(event, EndEvent) else None

    def unended(self, figures: CorrelatedSession) -> Iterator[Span]:
        """Generate the spans of what has not ended."""
        for subject, began in self._began.items():
            is_open = self._is_open(subject, figures)
            state = State(began, self._last or began, "open" if is_open else "unfinished")
            yield self._describe(subject, state, began, self._hooks.of(subject))

    def _begin(self, subject: Subject, event: SkillEvent | WorkflowEvent) -> None:
        if subject in self._began or subject in self._ended:
            return
        self._began[subject] = _began(event)
        if isinstance(event, SkillStarted) and is_detached(event):
            self._detached.add(subject)

    def _end(self, subject: Subject, event: EndEvent, hooks: tuple[SpanEvent, ...]) -> Span:
        self._ended.add(subject)
        began = self._began.pop(subject)
        return self._describe(subject, state_of(event, began), began, hooks)

    def _describe(
        self, subject: Subject, state: State, began: datetime, hooks: tuple[SpanEvent, ...]
    ) -> Span:
        parent = self._skills.around(subject, began) if isinstance(subject, RunSubject) else None
        return describe(subject, state, root=self._root, parent=parent, events=hooks)

    def _is_open(self, subject: Subject, figures: CorrelatedSession) -> bool:
        if isinstance(subject, SkillSubject):
            may_be = not figures.skills_unfinished or subject in self._detached
            return bool(figures.skills_open) and may_be
        if isinstance(subject, NodeSubject) and subject.run in self._ended:
            return False
        return bool(figures.workflows_open)


class _Skills:
    """When the skills of a session began and ended: all of them, since the order of events says little."""

    def __init__(self, events: Iterable[SkillEvent]) -> None:
        self._began: dict[SkillSubject, datetime] = {}
        self._ended: dict[SkillSubject, datetime] = {}
        for event in events:
            subject = _skill_of(event)
            began = _began(event)
            self._began[subject] = min(self._began.get(subject, began), began)
            if isinstance(event, SkillCompleted):
                self._ended.setdefault(subject, event.timestamp)

    def around(self, run: RunSubject, began: datetime) -> SkillSubject | None:
        """Return the skill in which a run began; of several, the one that began last."""
        if not run.session:
            return None
        around = [
            (since, skill.invocation_id, skill)
            for skill, since in self._began.items()
            if skill.session == run.session and since <= began <= self._ended.get(skill, began)
        ]
        return max(around)[-1] if around else None


class _Subjects:
    """Finds out what events are about. Runs without an id are inferred as correlation infers them.

    Args:
        max_sessions: Of how many sessions the runs without an id are remembered; None for all.
        max_runs: How many of them are remembered of each session; None for all.
    """

    def __init__(self, max_sessions: int | None, max_runs: int | None) -> None:
        self._max_sessions = max_sessions
        self._max_runs = max_runs
        self._inferred: OrderedDict[str | None, InferredRuns] = OrderedDict()

    def of(self, event: SkillEvent | WorkflowEvent) -> Subject:
        """Return what an event is about."""
        session = event.session_id or None
        if isinstance(event, SkillEvent):
            return _skill_of(event)
        attempt: AttemptKey = event.attempt if isinstance(event, NodeEvent) else 0
        if event.run_id:
            run = RunSubject(session, event.workflow_id, event.run_id)
        else:
            key, attempt = self._inferred_of(session).infer(event)
            # Without the key's number, which another process would count from 1 again.
            first_seen = key if isinstance(key, str) else key[2].isoformat()
            run = RunSubject(session, event.workflow_id, None, first_seen)
        return NodeSubject(run, event.node_id, attempt) if isinstance(event, NodeEvent) else run

    def _inferred_of(self, session: str | None) -> InferredRuns:
        runs = self._inferred.get(session)
        if runs is None:
            runs = self._inferred[session] = InferredRuns(self._max_runs, self._max_runs)
            if self._max_sessions is not None and len(self._inferred) > self._max_sessions:
                self._inferred.popitem(last=False)
        else:
            self._inferred.move_to_end(session)
        return runs


class _Hooks:
    """The hooks of nodes that have not ended.

    Args:
        max_nodes: Of how many nodes they are remembered; None for all.
    """

    def __init__(self, max_nodes: int | None) -> None:
        self._max_nodes = max_nodes
        self._of_node: OrderedDict[Subject, list[SpanEvent]] = OrderedDict()

    def add(self, event: Event, subject: Subject) -> tuple[SpanEvent, ...]:
        """Note a hook; if the event ends its node, forget and return all of that node's."""
        if isinstance(event, NodeCompleted):
            return tuple(self._of_node.pop(subject, ()))
        if isinstance(event, NodeProgress) and is_hook_end(event):
            hooks = self._of_node.setdefault(subject, [])
            if len(hooks) < MAX_HOOKS:
                hooks.append(_hook(event))
            if self._max_nodes is not None and len(self._of_node) > self._max_nodes:
                self._of_node.popitem(last=False)
        return ()

    def of(self, subject: Subject) -> tuple[SpanEvent, ...]:
        """Return the hooks of a node that has not ended."""
        return tuple(self._of_node.get(subject, ()))


def _skill_of(event: SkillEvent) -> SkillSubject:
    return SkillSubject(event.session_id or None, event.skill_name, event.invocation_id)


def _began(event: Event) -> datetime:
    """Return when that began of which this is the first event; an end says how long it took."""
    return state_of(event).began if isinstance(event, EndEvent) else event.timestamp


def _hook(event: NodeProgress) -> SpanEvent:
    details = event.metadata
    name = printable(details["hook"], scrubbed=False)
    seconds = details.get("duration_seconds")
    facts = {
        "hook": name,
        "status": printable(details["status"], scrubbed=False),
        "duration_seconds": finite_seconds(seconds) if isinstance(seconds, int | float) else None,
    }
    return SpanEvent(f"hook {name}", nanoseconds(event.timestamp), attributes_of("hook", facts))
