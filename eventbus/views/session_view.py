"""Fold a session's events into its skills, runs, nodes and hooks, as every screen shows them.

Pure: no I/O and no clock. The fold of `eventbus.correlation` counts, in bounded memory; this one keeps
names, times and errors of one session, for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import Literal, Self, TypeAlias

import msgspec

from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.correlation.inferred_runs import AttemptKey, InferredRuns, RunKey
from eventbus.correlation.span import before, finite_seconds
from eventbus.events import (
    Event,
    EventsLost,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    PatternDetected,
    SkillCompleted,
    SkillEvent,
    SkillFollowedUp,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.events.follow_ups import missing_actions
from eventbus.events.outcomes import Outcome, is_detached, outcome_of

__all__ = ["HookView", "NodeView", "RunView", "SessionView", "SkillView", "ViewOutcome"]

ViewOutcome: TypeAlias = Outcome | Literal["not run"]
"""An outcome, or ``not run`` for a planned node without an attempt."""

_HOOK_OUTCOMES: dict[str, Outcome] = {"running": "open", "passed": "succeeded", "skipped": "skipped"}
"""By crackerjack's statuses of hooks; any other one is a failure."""


class HookView(msgspec.Struct, kw_only=True):
    """A hook of a node, in its latest pass.

    Attributes:
        name: The hook's name.
        outcome: How it ended.
        status: The word of its producer.
        seconds: How long it took; None if unknown.
    """

    name: str
    outcome: Outcome
    status: str
    seconds: float | None = None


class NodeView(msgspec.Struct, kw_only=True):
    """An attempt at a node, or a planned node without one.

    Attributes:
        node_id: The node's name.
        attempt: The number of the attempt, from 1.
        outcome: How it ended.
        began: When it began; None if it did not.
        seconds: How long it took; None if it has not ended, or if that is unknown.
        error_type: The type of the exception that ended it.
        error_message: The exception's message.
        hooks: Its hooks by name, in the order of their first reports.
        passes: How often its progress began from the start.
        completed: The amount done, by the latest progress.
        total: The amount to do; None if unknown.
        message: The current step; None if unknown.
    """

    node_id: str
    attempt: int = 1
    outcome: ViewOutcome = "not run"
    began: datetime | None = None
    seconds: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    hooks: dict[str, HookView] = {}
    passes: int = 1
    completed: float = 0
    total: float | None = None
    message: str | None = None

    def hooks_that(self, outcome: Outcome) -> list[HookView]:
        """Return the hooks with this outcome in their latest pass."""
        return [hook for hook in self.hooks.values() if hook.outcome == outcome]


class RunView(msgspec.Struct, kw_only=True):
    """A run of a workflow.

    Attributes:
        workflow_id: The workflow's name.
        run_id: The run's id; None if its producer gave none.
        outcome: How it ended.
        began: When it began; of a run whose start was not seen, the time of its first event.
        seconds: How long it took; None if it has not ended.
        exit_code: The exit code of the command that it was; None if there is none.
        error_type: The type of the exception that ended it.
        attempts: The attempts at its nodes by node and number, in the order of the plan, then of their
            starts. A planned node without an attempt has one that is not run, under None.
    """

    workflow_id: str
    began: datetime
    run_id: str | None = None
    outcome: Outcome = "open"
    seconds: float | None = None
    exit_code: int | None = None
    error_type: str | None = None
    attempts: dict[str, dict[AttemptKey | None, NodeView]] = {}

    def nodes(self) -> Iterator[NodeView]:
        """Iterate over the attempts and the planned nodes."""
        return chain.from_iterable(attempts.values() for attempts in self.attempts.values())


class SkillView(msgspec.Struct, kw_only=True):
    """An invocation of a skill.

    Attributes:
        skill_name: The skill's name.
        invocation_id: The id of this use of it.
        began: When it began.
        path: The path the user chose through it; None if unknown.
        outcome: How it ended.
        seconds: How long it took; None if it has not ended, or if that is unknown.
        error_type: The type of the exception that ended it.
        is_detached: True if another process than the one that began it will end it.
        end_actions: The follow-up actions that its end has.
        separate_actions: Those with events of their own, by time.
    """

    skill_name: str
    invocation_id: str
    began: datetime
    path: str | None = None
    outcome: Outcome = "open"
    seconds: float | None = None
    error_type: str | None = None
    is_detached: bool = False
    end_actions: tuple[str, ...] = ()
    separate_actions: dict[tuple[datetime, str], None] = {}

    @property
    def follow_up_actions(self) -> tuple[str, ...]:
        """The user's next actions, in order; an end repeats those before it."""
        separate = [action for _, action in sorted(self.separate_actions)]
        return (*self.end_actions, *missing_actions(separate, self.end_actions))


class SessionView:
    """The state of one session, folded from its events.

    Attributes:
        session_id: The id of the first event that has one; None before.
        began: When the first began of what its events report; None before the first event.
        ended: The time of the latest event; None before the first.
        skills: The skill invocations by their ids, in the order of their starts.
        runs: The runs, in the order of their starts.
        notes: The messages of the patterns that were detected.
        events: How many events were added.
        lost: How many events are missing.
    """

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.began: datetime | None = None
        self.ended: datetime | None = None
        self.skills: dict[str, SkillView] = {}
        self.runs: dict[RunKey, RunView] = {}
        self.notes: list[str] = []
        self.events = 0
        self.lost = 0
        self._inferred = InferredRuns(None, None)

    @classmethod
    def of(cls, events: Iterable[Event], figures: CorrelatedSession | None = None) -> Self:
        """Return the view of these events.

        Args:
            events: The events of a session, in order.
            figures: Its figures; what is open by the events, and not by these, is unfinished.
        """
        view = cls()
        for event in events:
            view.add(event)
        if figures is not None:
            view.give_up(figures)
        return view

    def add(self, event: Event) -> None:
        """Fold one event. An event that is repeated changes nothing but the number of events."""
        self.events += 1
        self.session_id = self.session_id or event.session_id
        began = _began(event)
        self.began = began if self.began is None else min(self.began, began)
        self.ended = event.timestamp if self.ended is None else max(self.ended, event.timestamp)
        match event:
            case SkillEvent():
                self._add_skill(event)
            case WorkflowEvent():
                self._add_workflow(event)
            case EventsLost():
                self.lost += event.count
            case PatternDetected():
                if event.message not in self.notes:
                    self.notes.append(event.message)
            case _:
                pass

    def nodes(self) -> Iterator[NodeView]:
        """Iterate over the attempts and planned nodes of all runs."""
        return chain.from_iterable(run.nodes() for run in self.runs.values())

    def give_up(self, figures: CorrelatedSession) -> None:
        """Note as unfinished what is open here and not in the session's figures: its writers are gone.

        Args:
            figures: The figures of this session, as a log has them.
        """
        for skill in self.skills.values():
            if not figures.skills_open or (figures.skills_unfinished and not skill.is_detached):
                _give_up(skill)
        if not figures.workflows_open:
            for run in self.runs.values():
                _give_up(run)
            for node in self.nodes():
                _give_up(node)

    def _add_skill(self, event: SkillEvent) -> None:
        skill = self.skills.get(event.invocation_id)
        if skill is None:
            skill = SkillView(
                skill_name=event.skill_name, invocation_id=event.invocation_id, began=_began(event)
            )
            self.skills[event.invocation_id] = skill
        skill.path = event.workflow_path or skill.path
        match event:
            case SkillStarted():
                skill.is_detached = is_detached(event)
            case SkillCompleted() if skill.outcome == "open":
                skill.outcome = outcome_of(event)
                skill.seconds = _seconds(event.duration_seconds)
                skill.error_type = event.error_type
                skill.end_actions = event.follow_up_actions
            case SkillFollowedUp():
                skill.separate_actions[event.timestamp, event.action] = None
            case _:
                pass

    def _add_workflow(self, event: WorkflowEvent) -> None:
        key, attempt = self._place(event)
        run = self.runs.get(key)
        if run is None:
            run = RunView(workflow_id=event.workflow_id, run_id=event.run_id, began=_began(event))
            self.runs[key] = run
        match event:
            case NodeEvent():
                _add_node(run, event, attempt)
            case WorkflowStarted():
                run.began = min(run.began, event.timestamp)
                _plan(run, event.nodes)
            case WorkflowCompleted() if run.outcome == "open":
                _end_run(run, event)
            case _:
                pass

    def _place(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        if event.run_id is None:
            return self._inferred.infer(event)
        return event.run_id, event.attempt if isinstance(event, NodeEvent) else 0


def _plan(run: RunView, nodes: Iterable[str]) -> None:
    """Put the planned nodes first, in their order; what has begun keeps its state."""
    begun = run.attempts
    run.attempts = {node_id: begun.get(node_id) or {None: NodeView(node_id=node_id)} for node_id in nodes}
    run.attempts |= begun


def _end_run(run: RunView, event: WorkflowCompleted) -> None:
    run.outcome = outcome_of(event)
    run.seconds = _seconds(event.duration_seconds)
    if run.seconds is None:
        run.seconds = max(0.0, (event.timestamp - run.began).total_seconds())
    code = event.metadata.get("exit_code")
    run.exit_code = code if type(code) is int else None
    run.error_type = event.error_type
    for node in run.nodes():
        _give_up(node)


def _add_node(run: RunView, event: NodeEvent, key: AttemptKey) -> None:
    attempts = run.attempts.setdefault(event.node_id, {})
    attempts.pop(None, None)  # it is no longer only planned
    node = attempts.get(key)
    if node is None:
        outcome: Outcome = "open" if run.outcome == "open" else "unfinished"
        node = NodeView(node_id=event.node_id, attempt=event.attempt, began=_began(event), outcome=outcome)
        attempts[key] = node
    if isinstance(event, NodeProgress):
        _progress(node, event)
    elif isinstance(event, NodeCompleted) and node.outcome in ("open", "unfinished"):
        node.outcome = outcome_of(event)
        node.seconds = _seconds(event.duration_seconds)
        node.error_type, node.error_message = event.error_type, event.error_message


def _progress(node: NodeView, event: NodeProgress) -> None:
    if event.completed < node.completed:
        node.passes += 1
    node.completed, node.total, node.message = event.completed, event.total, event.message
    name = event.metadata.get("hook")
    if not isinstance(name, str):
        return
    status = str(event.metadata.get("status", "running"))
    seconds = event.metadata.get("duration_seconds")
    node.hooks[name] = HookView(
        name=name,
        outcome=_HOOK_OUTCOMES.get(status, "failed"),
        status=status,
        seconds=_seconds(seconds if isinstance(seconds, int | float) else None),
    )


def _give_up(each: SkillView | RunView | NodeView) -> None:
    if each.outcome == "open":
        each.outcome = "unfinished"


def _began(event: Event) -> datetime:
    """Return when that began of which this is the first event seen; an end tells how long it took."""
    return before(event.timestamp, finite_seconds(getattr(event, "duration_seconds", None)))


def _seconds(value: float | None) -> float | None:
    """Return a duration that can be shown; None for one that is unknown or impossible."""
    return None if value is None else finite_seconds(value)
