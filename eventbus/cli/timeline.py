"""``eventbus show``: one session, event by event, in the words of the live progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import began, duration, took
from eventbus.cli.session_access import AsJson, LogDirectory, find_session, opened_history
from eventbus.correlation import CorrelatedSession
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    PatternDetected,
    SessionCorrelated,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    UnknownEvent,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
    encode,
)
from eventbus.events.printable import printable

__all__ = ["show", "show_session", "timeline"]

_VERBS = {"ok": "done", "failed": "FAIL", "skipped": "skip", "cancelled": "stop"}
_MAX_MESSAGE = 500


def show(
    session: Annotated[str, typer.Argument(help="A session, or the beginning of its name.")],
    directory: LogDirectory = None,
    as_json: AsJson = False,
) -> Callable[[], int]:
    """Show a session, event by event."""
    return partial(show_session, directory, session, as_json)


def show_session(directory: Path | None, name: str, as_json: bool) -> int:
    """Print one session; return the exit code.

    Args:
        directory: Where the log lives; by default where the settings say.
        name: The session, or the beginning of its name.
        as_json: Its events as they are stored, one JSON object a line.

    Raises:
        CommandError: There is no log, or no such session, or there are several.
    """
    with opened_history(directory) as history:
        name = find_session(history, name)
        session, events = history.figures_of(name), history.events(name)
    if as_json:
        for event in events:
            print(encode(event).decode())
    elif session is not None:
        for line in (*_summary(session), *timeline(events)):
            print(line)
    return OK


def timeline(events: Sequence[Event]) -> Iterator[str]:
    """Return a line for each event that tells of a change, with the time since the first."""
    zero: datetime | None = None
    for event in events:
        told = _told(event)
        if told is not None:
            zero = zero or event.timestamp
            since = f"+{max(0.0, (event.timestamp - zero).total_seconds()):.1f}s"
            yield f"{since:>9} {told[0]:<6} {told[1]}"


def _summary(session: CorrelatedSession) -> Iterator[str]:
    state = took(session.start_time, session.end_time)
    yield f"session {printable(session.session_id)}  began {began(session.start_time)}  {state}"
    nodes = [
        f"{count} {word}"
        for count, word in (
            (session.workflow_nodes_completed, "ok"),
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
    yield ""


def _told(event: Event) -> tuple[str, str] | None:
    """Return the verb and the rest of an event's line; None for what the other lines tell, too."""
    match event:
        case NodeProgress() | SessionCorrelated():
            return None
        case SkillEvent():
            return _of_skill(event)
        case WorkflowEvent():
            return _of_workflow(event)
        case PatternDetected():
            return "note", printable(event.message)
        case UnknownEvent():
            return "event", printable(event.unknown_type)
        case _:
            return "event", printable(event.__struct_config__.tag)


def _of_skill(event: SkillEvent) -> tuple[str, str]:
    name = f"skill {printable(event.skill_name)}"
    match event:
        case SkillStarted():
            return "start", f"{name} ({printable(event.workflow_path)})" if event.workflow_path else name
        case SkillCompleted():
            ending = _ending(event.duration_seconds, event.error_type)
            if event.follow_up_actions:
                ending += f", then {', '.join(map(printable, event.follow_up_actions))}"
            return ("end" if event.completed else "left"), name + ending
        case _:
            return "event", f"{printable(event.__struct_config__.tag)} {name}"


def _of_workflow(event: WorkflowEvent) -> tuple[str, str]:
    match event:
        case WorkflowStarted():
            return "start", f"workflow {printable(event.workflow_id)}"
        case WorkflowCompleted():
            outcome = "" if event.success else f" {event.status.upper()}"
            ending = _ending(event.duration_seconds, event.error_type)
            return "end", f"workflow {printable(event.workflow_id)}{outcome}{ending}"
        case NodeStarted():
            return "start", _node(event.node_id, event.attempt)
        case NodeCompleted():
            message = f": {printable(event.error_message, _MAX_MESSAGE)}" if event.error_message else ""
            ending = _ending(event.duration_seconds, event.error_type)
            return _VERBS.get(event.status, event.status), _node(
                event.node_id, event.attempt
            ) + ending + message
        case _:
            return "event", f"{printable(event.__struct_config__.tag)} {printable(event.workflow_id)}"


def _node(node_id: str, attempt: int) -> str:
    return printable(node_id) if attempt == 1 else f"{printable(node_id)}, attempt {attempt}"


def _ending(seconds: float | None, error_type: str | None) -> str:
    taken = "" if seconds is None else f" ({duration(seconds)})"
    return taken if error_type is None else f"{taken} {printable(error_type)}"
