"""The lines of ``eventbus show --events``: one session event by event, worded like the live progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from eventbus.cli.humanize import duration, elapsed, local_time, of_attempt
from eventbus.cli.left_behind import left_behind
from eventbus.correlation import CorrelatedSession
from eventbus.correlation.session_report import hooks_text, outcome_text, shortcomings
from eventbus.events import (
    Event,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    PatternDetected,
    SessionCorrelated,
    SessionLinked,
    SkillCompleted,
    SkillEvent,
    SkillFollowedUp,
    SkillStarted,
    SubscriberFailed,
    UnknownEvent,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.events.outcomes import outcome_of
from eventbus.events.own_words import own_words
from eventbus.events.printable import printable
from eventbus.events.words import OUTCOME_VERBS, Word
from eventbus.ground.session_names import spell

__all__ = ["EventLines", "describe", "timeline"]

_MAX_MESSAGE = 500
_NO_PROBLEM = ("running", "passed", "skipped")
"""The statuses of crackerjack's hooks that need no line."""


def timeline(figures: CorrelatedSession, events: Sequence[Event]) -> Iterator[str]:
    """Generate the lines of a session, event by event."""
    yield from _summary(figures)
    lines = EventLines()
    yield from filter(None, map(lines.line, events))
    yield from _left_behind(figures, events)


class EventLines:
    """Makes a line of each event that reports a change, with the time since the first."""

    def __init__(self) -> None:
        self._zero: datetime | None = None

    def line(self, event: Event) -> str | None:
        """Return the line of an event; None for one that adds nothing to the others."""
        described = describe(event)
        if described is None:
            return None
        self._zero = self._zero or event.timestamp
        since = f"+{max(0.0, (event.timestamp - self._zero).total_seconds()):.1f}s"
        return f"{since:>9} {described[0]:<6} {described[1]}"


def _summary(session: CorrelatedSession) -> Iterator[str]:
    state = "unfinished" if session.is_unfinished else elapsed(session.start_time, session.end_time)
    yield f"session {printable(spell(session.session_id))}  began {local_time(session.start_time)}  {state}"
    nodes = [
        f"{count} {word}"
        for count, word in (
            (session.workflow_nodes_completed, "succeeded"),
            (session.workflow_nodes_failed, "failed"),
            (session.workflow_nodes_skipped, "skipped"),
            (session.workflow_nodes_cancelled, "cancelled"),
        )
        if count
    ]
    skills = f"skills {session.skills_completed}/{session.skills} completed"
    runs = f"runs {session.workflows_ended}/{session.workflows} ended"
    yield (
        f"{skills} ({duration(session.total_skill_duration)}), "
        f"{runs} ({duration(session.total_workflow_duration)}), nodes {', '.join(nodes) or '0'}"
    )
    yield f"outcome {outcome_text(session)}"
    parts = [f"{title.lower()} {text}" for title, text in shortcomings(session)]
    if parts:
        yield ", ".join(parts)
    if session.hooks:
        yield f"hooks {hooks_text(session)}"
    yield ""


def _left_behind(session: CorrelatedSession, events: Sequence[Event]) -> Iterator[str]:
    left = left_behind(session.session_id, events)
    word = "open" if session.is_open else "unfinished"
    for name in left.begun:
        yield f"{'-':>9} {word:<6} {name}"
    for name in left.not_run:
        yield f"{'-':>9} {'not run':<6} {name}"


def describe(event: Event) -> tuple[str, str] | None:
    """Return the verb and the rest of an event's line; None for an event that adds nothing to the others."""
    match event:
        case SessionCorrelated():
            return None
        case EventsLost():
            return Word.LOST, f"{event.count} events"
        case SkillEvent():
            return _describe_skill(event)
        case WorkflowEvent():
            return _describe_workflow(event)
        case _:
            return _describe_other(event)


def _describe_other(event: Event) -> tuple[str, str]:
    match event:
        case SessionLinked():
            return Word.LINKED, f"session {printable(event.other)}"
        case PatternDetected():
            return Word.NOTE, printable(event.message)
        case SubscriberFailed():
            end = f"{printable(event.error_type)}{' (quarantined)' if event.quarantined else ''}"
            return Word.WARNING, f"subscriber {printable(event.subscriber)} {end}"
        case _:
            kind = event.unknown_type if isinstance(event, UnknownEvent) else event.__struct_config__.tag
            return Word.OTHER, own_words(event) or printable(kind)


def _describe_skill(event: SkillEvent) -> tuple[str, str]:
    name = f"skill {printable(event.skill_name)}"
    match event:
        case SkillStarted():
            return Word.STARTED, f"{name} ({printable(event.workflow_path)})" if event.workflow_path else name
        case SkillCompleted():
            ending = _ending(event.duration_seconds, event.error_type)
            if event.follow_up_actions:
                ending += f", then {', '.join(map(printable, event.follow_up_actions))}"
            return OUTCOME_VERBS[outcome_of(event)], name + ending
        case SkillFollowedUp():
            return Word.FOLLOWED, f"{printable(event.action)}, after {name}"
        case _:
            return Word.OTHER, own_words(event) or f"{printable(event.__struct_config__.tag)} {name}"


def _describe_workflow(event: WorkflowEvent) -> tuple[str, str] | None:
    match event:
        case NodeProgress():
            return _describe_hook(event)
        case WorkflowStarted():
            return Word.STARTED, f"workflow {printable(event.workflow_id)}"
        case WorkflowCompleted():
            outcome = "ok" if event.success else event.status.upper()
            ending = _ending(event.duration_seconds, event.error_type)
            return Word.ENDED, f"workflow {printable(event.workflow_id)} {outcome}{ending}{_exit_code(event)}"
        case NodeStarted():
            return Word.STARTED, of_attempt(event.node_id, event.attempt)
        case NodeCompleted():
            message = f": {printable(event.error_message, _MAX_MESSAGE)}" if event.error_message else ""
            ending = _ending(event.duration_seconds, event.error_type)
            name = of_attempt(event.node_id, event.attempt)
            return OUTCOME_VERBS[outcome_of(event)], name + ending + message
        case _:
            kind = printable(event.__struct_config__.tag)
            return Word.OTHER, own_words(event) or f"{kind} {printable(event.workflow_id)}"


def _describe_hook(event: NodeProgress) -> tuple[str, str] | None:
    """Describe a hook that did not pass; other progress adds nothing."""
    hook, status = event.metadata.get("hook"), event.metadata.get("status")
    if hook is None or status in _NO_PROBLEM:
        return None
    seconds = event.metadata.get("duration_seconds")
    taken = _ending(seconds if isinstance(seconds, int | float) else None, None)
    reason = "" if status == "failed" else f" {printable(status)}"
    name = f"{of_attempt(event.node_id, event.attempt)}: {printable(hook)}"
    return OUTCOME_VERBS["failed"], name + taken + reason


def _exit_code(event: WorkflowCompleted) -> str:
    code = event.metadata.get("exit_code")
    return f" exit code {code}" if code and type(code) is int else ""


def _ending(seconds: float | None, error_type: str | None) -> str:
    taken = "" if seconds is None else f" ({duration(seconds)})"
    return taken if error_type is None else f"{taken} {printable(error_type)}"
