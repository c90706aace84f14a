"""What agents ask of a log, and the answers: typed, small, and scrubbed like everything that is shown.

An agent's context is precious, so what succeeded is counted, and what did not is described. The answers
are dataclasses, of which the protocol's package makes schemas; of msgspec's structs it cannot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from statistics import median
from typing import TypeVar

from eventbus.cli.exit_codes import NOT_FOUND, CommandError
from eventbus.cli.session_access import chosen_session, find_session
from eventbus.cli.session_screen import Look, verdict
from eventbus.correlation import CorrelatedSession
from eventbus.events import NodeCompleted, encode
from eventbus.events.outcomes import outcome_of
from eventbus.events.printable import printable
from eventbus.ground.session_names import spell
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
from eventbus.views import NodeView, RunView, SessionView, SkillView

__all__ = ["Failure", "LogAnswers", "NodeAnswer", "RunAnswer", "SessionAnswer", "SessionLine", "SlowNode"]

MAX_LISTED = 100
_MAX_NODES = 50
_MAX_EVENTS = 1_000
_MAX_MESSAGE = 500
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class SessionLine:
    """A session in a list."""

    session_id: str
    outcome: str
    began: str
    ended: str | None
    workflows: list[str]
    skills: list[str]
    failed_nodes: list[str]
    exit_code: int | None


@dataclass(frozen=True, kw_only=True)
class NodeAnswer:
    """An attempt at a node that did not succeed."""

    node: str
    attempt: int
    outcome: str
    seconds: float | None
    error_type: str | None
    error_message: str | None
    failed_hooks: list[str]


@dataclass(frozen=True, kw_only=True)
class RunAnswer:
    """A run, with the nodes that did not succeed."""

    workflow: str
    run_id: str | None
    outcome: str
    seconds: float | None
    exit_code: int | None
    error_type: str | None
    nodes_succeeded: int
    nodes: list[NodeAnswer]
    nodes_left_out: int
    not_run: list[str]


@dataclass(frozen=True, kw_only=True)
class SkillAnswer:
    """A use of a skill."""

    skill: str
    path: str | None
    outcome: str
    seconds: float | None
    follow_up_actions: list[str]
    error_type: str | None


@dataclass(frozen=True, kw_only=True)
class SessionAnswer:
    """What a session did."""

    session_id: str
    outcome: str
    verdict: str
    began: str
    ended: str | None
    skills: list[SkillAnswer]
    runs: list[RunAnswer]
    events_lost: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An attempt at a node that failed."""

    session_id: str | None
    when: str
    workflow: str
    node: str
    seconds: float | None
    error_type: str | None
    error_message: str | None


@dataclass(frozen=True, kw_only=True)
class SlowNode:
    """The attempts at a node, over all runs of a workflow."""

    workflow: str
    node: str
    attempts: int
    median_seconds: float
    longest_seconds: float


class LogAnswers:
    """Answers questions about a log; each answer is of the moment it is asked for.

    Args:
        log: The log.
    """

    def __init__(self, log: EventLog) -> None:
        self.log: EventLog = log

    def sessions(self, limit: int, *, failed: bool, since: datetime | None) -> list[SessionLine]:
        """Return the latest sessions, the newest first."""
        return self._ask(lambda history: list(islice(_lines(history, failed, since), limit)))

    def session(self, name: str | None) -> SessionAnswer:
        """Return what a session did: the named one, or the latest.

        Raises:
            CommandError: There is none, or there are several that begin so.
        """
        return self._ask(lambda history: _session(history, name))

    def name_of(self, name: str) -> str:
        """Return the id of the session that begins so; the name itself, if there is none yet.

        Raises:
            CommandError: There are several.
        """
        try:
            return self._ask(lambda history: find_session(history, name))
        except CommandError as error:
            if error.exit_code != NOT_FOUND:
                raise
            return name

    def events(self, name: str) -> str:
        """Return the latest events of a session, one JSON object a line.

        Raises:
            CommandError: There is none, or there are several that begin so.
        """
        found = self._ask(lambda history: history.events(find_session(history, name)))
        return "".join(f"{encode(event).decode()}\n" for event in found[-_MAX_EVENTS:])

    def failures(self, limit: int, since: datetime) -> list[Failure]:
        """Return the failed attempts at nodes, the newest first."""
        found = [each for each in self._ends(since) if outcome_of(each) == "failed"]
        return [_failure(each) for each in reversed(found[-limit:])]

    def slowest(self, limit: int, since: datetime) -> list[SlowNode]:
        """Return the nodes by the median of their durations, the slowest first."""
        seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for event in self._ends(since):
            if event.duration_seconds is not None:
                seconds[event.workflow_id, event.node_id].append(event.duration_seconds)
        found = [
            SlowNode(
                workflow=printable(workflow),
                node=printable(node),
                attempts=len(given),
                median_seconds=round(median(given), 3),
                longest_seconds=round(max(given), 3),
            )
            for (workflow, node), given in seconds.items()
        ]
        return sorted(found, key=lambda each: -each.median_seconds)[:limit]

    def _ends(self, since: datetime) -> Iterator[NodeCompleted]:
        return self.log.events(types=NodeCompleted, since=since)

    def _ask(self, question: Callable[[SessionHistory], _T]) -> _T:
        with SessionHistory(self.log) as history:
            return question(history)


def _lines(history: SessionHistory, failed: bool, since: datetime | None) -> Iterator[SessionLine]:
    for each in history.figures():
        if since is not None and datetime.fromisoformat(each.start_time).astimezone(UTC) < since:
            continue
        if not failed or each.outcome in ("failed", "unfinished"):
            yield _line(each)


def _line(session: CorrelatedSession) -> SessionLine:
    return SessionLine(
        session_id=printable(spell(session.session_id), scrubbed=False),
        outcome=session.outcome,
        began=session.start_time,
        ended=session.end_time,
        workflows=list(map(printable, session.workflow_ids)),
        skills=list(map(printable, session.skill_names)),
        failed_nodes=list(map(printable, session.failed_nodes)),
        exit_code=session.exit_code,
    )


def _session(history: SessionHistory, name: str | None) -> SessionAnswer:
    figures = chosen_session(history, name)
    view = SessionView.of(history.events(figures.session_id), figures)
    return SessionAnswer(
        session_id=printable(spell(figures.session_id), scrubbed=False),
        outcome=figures.outcome,
        verdict=verdict(view, figures, Look()),
        began=figures.start_time,
        ended=figures.end_time,
        skills=[_skill(each) for each in view.skills.values()],
        runs=[_run(each) for each in view.runs.values()],
        events_lost=figures.events_lost,
    )


def _skill(skill: SkillView) -> SkillAnswer:
    return SkillAnswer(
        skill=printable(skill.skill_name),
        path=_text(skill.path),
        outcome=skill.outcome,
        seconds=skill.seconds,
        follow_up_actions=list(map(printable, skill.follow_up_actions)),
        error_type=_text(skill.error_type),
    )


def _run(run: RunView) -> RunAnswer:
    nodes = [each for each in run.nodes() if each.outcome not in ("succeeded", "not run")]
    planned = [printable(each.node_id) for each in run.nodes() if each.outcome == "not run"]
    return RunAnswer(
        workflow=printable(run.workflow_id),
        run_id=_text(run.run_id),
        outcome=run.outcome,
        seconds=run.seconds,
        exit_code=run.exit_code,
        error_type=_text(run.error_type),
        nodes_succeeded=sum(each.outcome == "succeeded" for each in run.nodes()),
        nodes=[_node(each) for each in nodes[:_MAX_NODES]],
        nodes_left_out=max(0, len(nodes) - _MAX_NODES),
        not_run=planned[:_MAX_NODES],
    )


def _node(node: NodeView) -> NodeAnswer:
    return NodeAnswer(
        node=printable(node.node_id),
        attempt=node.attempt,
        outcome=node.outcome,
        seconds=node.seconds,
        error_type=_text(node.error_type),
        error_message=_text(node.error_message),
        failed_hooks=[printable(each.name) for each in node.hooks_that("failed")],
    )


def _failure(event: NodeCompleted) -> Failure:
    return Failure(
        session_id=None if event.session_id is None else printable(spell(event.session_id), scrubbed=False),
        when=event.timestamp.isoformat(),
        workflow=printable(event.workflow_id),
        node=printable(event.node_id),
        seconds=event.duration_seconds,
        error_type=_text(event.error_type),
        error_message=_text(event.error_message),
    )


def _text(value: str | None) -> str | None:
    return None if value is None else printable(value, _MAX_MESSAGE)
