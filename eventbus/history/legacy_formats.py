"""The shapes in which others keep skills, workflows and sessions: read them, and write them.

Four files are known:

    skill_metrics.json      invocations of exactly seven keys, and what they add up to per skill
    workflow_events.json    a list of events of six keys, everything else in their metadata
    correlation export      sessions by id, with their records and figures
    session-buddy import    the first, with the session of each invocation: never under its name

What makes a file's content is pure, and gives it in parts, so that a history of any length can be
written; `write_atomically` puts it in place whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from eventbus.atomic_file import write_atomically
from eventbus.correlation import CorrelatedSession
from eventbus.errors import DecodeError
from eventbus.events import WorkflowEvent
from eventbus.events.json_safe import json_safe, safe_text
from eventbus.events.legacy_records import invocation_of_record, workflow_events
from eventbus.events.records import SkillInvocation, skill_invocation_record, workflow_event_record
from eventbus.history.grouping import lane_of_name, session_of_lane
from eventbus.trackers.skill_metrics import SkillMetrics

__all__ = [
    "SKILL_METRICS_NAME",
    "WORKFLOW_EVENTS_NAME",
    "correlation_parts",
    "invocations_of",
    "read_skill_metrics",
    "read_workflow_events",
    "session_buddy_parts",
    "skill_metrics_parts",
    "workflow_events_parts",
    "write_correlation",
    "write_session_buddy",
    "write_skill_metrics",
    "write_workflow_events",
]

SKILL_METRICS_NAME = "skill_metrics.json"
WORKFLOW_EVENTS_NAME = "workflow_events.json"

_Record = Mapping[str, Any]


# Reading.


def read_skill_metrics(path: Path | str) -> list[SkillInvocation]:
    """Return the invocations in a ``skill_metrics.json``; none where there is no such file.

    Missing and unknown keys are tolerated, and so is a file that is a mere list. Times are left as
    they are: a naive one is local.

    Raises:
        DecodeError: The file is damaged, or a value is of the wrong type; it says where.
        OSError: The file is there and cannot be read.
    """
    records = _read_list(Path(path), "invocations")
    try:
        return [_invocation(each, place) for place, each in enumerate(records)]
    except DecodeError as error:
        raise _damaged(Path(path), error) from error


def read_workflow_events(path: Path | str) -> list[WorkflowEvent]:
    """Return the events in a ``workflow_events.json``; none where there is no such file.

    Events of a type that is not correlated are left out.

    Raises:
        DecodeError: The file is damaged, or a value is of the wrong type; it says where.
        OSError: The file is there and cannot be read.
    """
    records = _read_list(Path(path), None)
    try:
        return list(workflow_events(records))
    except DecodeError as error:
        raise _damaged(Path(path), error) from error


def _read_list(path: Path, key: str | None) -> list[Any]:
    """Return the list in a JSON file, itself or under a key."""
    try:
        content: Any = msgspec.json.decode(path.read_bytes())
        if key is not None and isinstance(content, dict):
            content = cast("dict[str, Any]", content).get(key) or []
        return msgspec.convert(content, list[Any])
    except FileNotFoundError:
        return []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DecodeError:
    return DecodeError(f"{path} is damaged: {error}. Repair it, or move it away")


def _invocation(item: Any, place: int) -> SkillInvocation:
    if not isinstance(item, dict):
        raise DecodeError(f"item {place} is not a skill invocation: {type(item).__name__}")
    return invocation_of_record(cast("dict[str, Any]", item), place)


# Writing.


def write_skill_metrics(path: Path | str, invocations: Iterable[SkillInvocation]) -> None:
    """Write a ``skill_metrics.json`` that the historic readers accept, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there is untouched.
    """
    write_atomically(Path(path), skill_metrics_parts(invocations))


def write_workflow_events(path: Path | str, events: Iterable[WorkflowEvent | _Record]) -> None:
    """Write a ``workflow_events.json``, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there is untouched.
    """
    write_atomically(Path(path), workflow_events_parts(events))


def write_correlation(path: Path | str, sessions: Iterable[CorrelatedSession]) -> None:
    """Write sessions with their records, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there is untouched.
    """
    write_atomically(Path(path), correlation_parts(sessions))


def write_session_buddy(path: Path | str, invocations: Iterable[SkillInvocation]) -> None:
    """Write a file that session-buddy's ``import_from_json`` takes, whole or not at all.

    Raises:
        ValueError: It would be called ``skill_metrics.json``, whose readers take it for their own,
            load nothing, and overwrite it.
        OSError: It cannot be written; what was there is untouched.
    """
    if Path(path).name == SKILL_METRICS_NAME:
        raise ValueError(f"{SKILL_METRICS_NAME} is the name of another format. Give this file another one")
    write_atomically(Path(path), session_buddy_parts(invocations))


# What is written.


def skill_metrics_parts(invocations: Iterable[SkillInvocation]) -> Iterator[bytes]:
    """Return the content of a ``skill_metrics.json``: exactly seven keys an invocation.

    Times are naive and local, as its readers compare them. One more key, and they load nothing.
    """
    return _metrics(invocations, skill_invocation_record)


def session_buddy_parts(invocations: Iterable[SkillInvocation]) -> Iterator[bytes]:
    """Return the content of a file for session-buddy: where an invocation has a session, it is said.

    Invocations are known by name and time, told as in ``skill_metrics.json``: one that was imported
    from there is not imported again.
    """
    return _metrics(invocations, _with_session)


def workflow_events_parts(events: Iterable[WorkflowEvent | _Record]) -> Iterator[bytes]:
    """Return the content of a ``workflow_events.json``; what is given as a record is taken as it is."""
    yield from _listed((_workflow_record(event) for event in events), 0)
    yield b"\n"


def correlation_parts(sessions: Iterable[CorrelatedSession]) -> Iterator[bytes]:
    """Return the content of a correlation export."""
    yield b'{\n  "sessions": {'
    end = b""
    for session in sessions:
        name = msgspec.json.encode(safe_text(session.session_id))
        yield (b"," if end else b"") + b"\n    " + name + b": " + _indented(_session(session), 2)
        end = b"\n  "
    now = msgspec.json.encode(datetime.now(UTC).isoformat())
    yield end + b'},\n  "exported_at": ' + now + b"\n}\n"


def invocations_of(sessions: Iterable[CorrelatedSession]) -> Iterator[SkillInvocation]:
    """Return the skill invocations in sessions, each with its session."""
    for session in sessions:
        session_id = session_of_lane(lane_of_name(session.session_id))
        for record in session.skill_invocations:
            yield SkillInvocation(**record, session_id=session_id)


def _metrics(
    invocations: Iterable[SkillInvocation], record_of: Callable[[SkillInvocation], dict[str, Any]]
) -> Iterator[bytes]:
    skills: dict[str, SkillMetrics] = {}
    records = (record_of(each) for each in _counted(invocations, skills))
    yield b'{\n  "invocations": '
    yield from _listed(map(json_safe, records), 1)
    summed = {safe_text(name): json_safe(metrics.to_dict()) for name, metrics in skills.items()}
    yield b',\n  "skills": ' + _indented(summed, 1)
    yield b',\n  "last_updated": ' + msgspec.json.encode(_local(datetime.now(UTC))) + b"\n}\n"


def _counted(
    invocations: Iterable[SkillInvocation], skills: dict[str, SkillMetrics]
) -> Iterator[SkillInvocation]:
    """Yield invocations with local times, and count those that have ended."""
    for each in invocations:
        invocation = replace(each, invoked_at=_as_local(each.invoked_at))
        if each.completed or each.duration_seconds is not None or each.error_type is not None:
            skills.setdefault(each.skill_name, SkillMetrics(each.skill_name)).add(invocation)
        yield invocation


def _with_session(invocation: SkillInvocation) -> dict[str, Any]:
    record = skill_invocation_record(invocation)
    return record if invocation.session_id is None else {**record, "session_id": invocation.session_id}


def _as_local(text: str) -> str:
    try:
        return _local(datetime.fromisoformat(text))
    except (ValueError, OverflowError, OSError):
        return text


def _local(time: datetime) -> str:
    return time.astimezone().replace(tzinfo=None).isoformat()


def _workflow_record(event: WorkflowEvent | _Record) -> _Record:
    return workflow_event_record(event) if isinstance(event, WorkflowEvent) else event


def _session(session: CorrelatedSession) -> dict[str, Any]:
    # Workflow records are JSON-safe; what a tracker was told of a skill may hold anything.
    invocations = [json_safe(invocation) for invocation in session.skill_invocations]
    return {
        **session.to_dict(),
        "session_id": safe_text(session.session_id),
        "skill_invocations": invocations,
    }


def _listed(items: Iterable[Any], depth: int) -> Iterator[bytes]:
    """Yield a list, one item after the other."""
    indent = b"\n" + b"  " * depth
    end = b""
    yield b"["
    for item in items:
        yield (b"," if end else b"") + indent + b"  " + _indented(item, depth + 1)
        end = indent
    yield end + b"]"


def _indented(value: Any, depth: int) -> bytes:
    lines = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return lines.replace(b"\n", b"\n" + b"  " * depth)  # which stands in no text of JSON
