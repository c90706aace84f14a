"""Read and write the files in which other programs keep skills, workflows and sessions.

Four formats are known:

    skill_metrics.json      invocations of exactly seven keys, and their sums per skill
    workflow_events.json    a list of events of six keys, with everything else in their metadata
    correlation export      sessions by id, with their records and figures
    session-buddy import    the first, with the session of each invocation; it needs another file name

The functions named ``*_parts`` return a file's content in parts, so that a history of any length can
be written; `write_atomically` puts it in place whole or not at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from eventbus.correlation import CorrelatedSession
from eventbus.errors import DecodeError
from eventbus.events import WorkflowEvent
from eventbus.events.json_safe import json_safe, safe_text
from eventbus.events.legacy_records import invocation_of_record, workflow_events
from eventbus.events.records import SkillInvocation, skill_invocation_record, workflow_event_record
from eventbus.ground.atomic_file import write_atomically
from eventbus.ground.session_names import spell, unspell
from eventbus.history.grouping import partition_key_of_session, session_id_of
from eventbus.trackers.skill_metrics import SkillMetrics

__all__ = [
    "SKILL_METRICS_NAME",
    "correlation_parts",
    "invocations_of",
    "read_skill_metrics",
    "read_workflow_events",
    "session_buddy_parts",
    "skill_metrics_parts",
    "workflow_events_parts",
    "write_correlation",
]

SKILL_METRICS_NAME = "skill_metrics.json"

_Record = Mapping[str, Any]


# Reading.


def read_skill_metrics(path: Path | str) -> list[SkillInvocation]:
    """Return the invocations in a ``skill_metrics.json``; none without such a file.

    Missing and unknown keys are tolerated, and so is a file that contains only a list. Times are
    returned as they are; a naive time is local.

    Raises:
        DecodeError: The file is damaged, or a value is of the wrong type; the message says where.
        OSError: The file exists and cannot be read.
    """
    records = _read_list(Path(path), "invocations")
    try:
        return [_invocation(each, place) for place, each in enumerate(records)]
    except DecodeError as error:
        raise _damaged(Path(path), error) from error


def read_workflow_events(path: Path | str) -> list[WorkflowEvent]:
    """Return the events in a ``workflow_events.json``; none without such a file.

    Events of a type that is not correlated are left out.

    Raises:
        DecodeError: The file is damaged, or a value is of the wrong type; the message says where.
        OSError: The file exists and cannot be read.
    """
    records = _read_list(Path(path), None)
    try:
        return list(workflow_events(records))
    except DecodeError as error:
        raise _damaged(Path(path), error) from error


def _read_list(path: Path, key: str | None) -> list[Any]:
    """Return the list in a JSON file, itself or under a key."""
    try:
        content = _decode(path.read_bytes())
        if key is not None and isinstance(content, dict):
            content = cast("dict[str, Any]", content).get(key) or []
        return msgspec.convert(content, list[Any])
    except FileNotFoundError:
        return []
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError):
        # Python's own json wrote these files: NaN, half a surrogate pair. Editors add a BOM, or UTF-16.
        return _plain(json.loads(data))


def _plain(value: Any) -> Any:
    """Return a decoded value with text that encodes, and without NaN and Infinity."""
    match value:
        case str():
            return safe_text(value, 6 * len(value))  # an escape has six characters
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_plain(each) for each in value]
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {_plain(name): _plain(each) for name, each in items}
        case _:
            return value


def _damaged(path: Path, error: Exception) -> DecodeError:
    return DecodeError(f"{path} is damaged: {error}. Repair it, or move it away")


def _invocation(item: Any, place: int) -> SkillInvocation:
    if not isinstance(item, dict):
        raise DecodeError(f"item {place} is not a skill invocation: {type(item).__name__}")
    invocation = invocation_of_record(cast("dict[str, Any]", item), place)
    if invocation.session_id is not None:
        invocation.session_id = unspell(invocation.session_id)
    return invocation


# Writing.


def write_correlation(path: Path | str, sessions: Iterable[CorrelatedSession]) -> None:
    """Write a correlation export, whole or not at all.

    Raises:
        OSError: It cannot be written; an existing file is unchanged.
    """
    write_atomically(Path(path), correlation_parts(sessions))


def skill_metrics_parts(invocations: Iterable[SkillInvocation]) -> Iterator[bytes]:
    """Return the content of a ``skill_metrics.json``: exactly seven keys an invocation.

    Times are naive and local, as its readers expect. With another key, they would load nothing.
    """
    return _metrics(invocations, skill_invocation_record)


def session_buddy_parts(invocations: Iterable[SkillInvocation]) -> Iterator[bytes]:
    """Return the content of a file for session-buddy, with the sessions of the invocations.

    Its import identifies an invocation by name and time. The times are written as in
    ``skill_metrics.json``, so that an invocation that was imported from there is not imported again.
    """
    return _metrics(invocations, _with_session)


def workflow_events_parts(events: Iterable[WorkflowEvent | _Record]) -> Iterator[bytes]:
    """Return the content of a ``workflow_events.json``; records are written as they are."""
    yield from _listed((_workflow_record(event) for event in events), 0)
    yield b"\n"


def correlation_parts(sessions: Iterable[CorrelatedSession]) -> Iterator[bytes]:
    """Return the content of a correlation export."""
    yield b'{\n  "sessions": {'
    end = b""
    for session in sessions:
        name = msgspec.json.encode(spell(session.session_id))
        yield (b"," if end else b"") + b"\n    " + name + b": " + _indented(_session(session), 2)
        end = b"\n  "
    now = msgspec.json.encode(datetime.now(UTC).isoformat())
    yield end + b'},\n  "exported_at": ' + now + b"\n}\n"


def invocations_of(sessions: Iterable[CorrelatedSession]) -> Iterator[SkillInvocation]:
    """Return the skill invocations in sessions, each with its session."""
    for session in sessions:
        session_id = session_id_of(partition_key_of_session(session.session_id))
        for record in session.skill_invocations:
            yield SkillInvocation(**record, session_id=session_id)


def _metrics(
    invocations: Iterable[SkillInvocation], record_of: Callable[[SkillInvocation], dict[str, Any]]
) -> Iterator[bytes]:
    skills: dict[str, SkillMetrics] = {}
    records = (record_of(each) for each in _add_up(invocations, skills))
    yield b'{\n  "invocations": '
    yield from _listed(map(json_safe, records), 1)
    summed = {safe_text(name): json_safe(metrics.to_dict()) for name, metrics in skills.items()}
    yield b',\n  "skills": ' + _indented(summed, 1)
    yield b',\n  "last_updated": ' + msgspec.json.encode(_local(datetime.now(UTC))) + b"\n}\n"


def _add_up(
    invocations: Iterable[SkillInvocation], skills: dict[str, SkillMetrics]
) -> Iterator[SkillInvocation]:
    """Yield invocations with local times, and add those that have ended to the sums per skill."""
    for each in invocations:
        invocation = replace(each, invoked_at=_as_local(each.invoked_at))
        if each.completed or each.duration_seconds is not None or each.error_type is not None:
            skills.setdefault(each.skill_name, SkillMetrics(each.skill_name)).add(invocation)
        yield invocation


def _with_session(invocation: SkillInvocation) -> dict[str, Any]:
    record = skill_invocation_record(invocation)
    return record if invocation.session_id is None else {**record, "session_id": spell(invocation.session_id)}


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
    # Workflow records are JSON-safe already; a skill invocation may contain any object.
    invocations = [json_safe(invocation) for invocation in session.skill_invocations]
    return {
        **session.to_dict(),
        "session_id": spell(session.session_id),
        "skill_invocations": invocations,
    }


def _listed(items: Iterable[Any], depth: int) -> Iterator[bytes]:
    """Yield a list as JSON, one item at a time."""
    indent = b"\n" + b"  " * depth
    end = b""
    yield b"["
    for item in items:
        yield (b"," if end else b"") + indent + b"  " + _indented(item, depth + 1)
        end = indent
    yield end + b"]"


def _indented(value: Any, depth: int) -> bytes:
    lines = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return lines.replace(b"\n", b"\n" + b"  " * depth)  # a JSON text contains none
