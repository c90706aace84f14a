"""Convert legacy records, invocations and events of other programs to events.

Records come from many writers: missing and unknown keys are tolerated, but a value of the wrong type
is an error. A naive time is local.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import msgspec

from eventbus.errors import DecodeError
from eventbus.events.event import Event
from eventbus.events.records import SkillInvocation
from eventbus.events.vocabulary import (
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.ground.session_names import unspell

__all__ = ["invocation_of_record", "skill_events", "workflow_events"]

_T = TypeVar("_T")
_EPOCH = datetime.fromtimestamp(0, UTC)
_UNKNOWN = "unknown"
_INVOCATION_FIELDS = {field.name for field in dataclasses.fields(SkillInvocation)} - {"invoked_at"}
_WORKFLOW_EVENTS: dict[str, type[WorkflowEvent]] = {
    "workflow_started": WorkflowStarted,
    "node_started": NodeStarted,
    "node_completed": NodeCompleted,
    "workflow_completed": WorkflowCompleted,
}


def skill_events(items: Iterable[Any]) -> Iterator[SkillEvent]:
    """Convert skill invocations to events.

    An invocation without an id is taken for one that no other item describes. It is still going if it
    has not completed and has neither a duration nor an error.

    Args:
        items: Skill events, `SkillInvocation` objects, or records with the seven keys of
            ``skill_metrics.json``, with or without ``session_id`` and ``invocation_id``.

    Raises:
        DecodeError: An item is none of these, or has a value of the wrong type.
    """
    unnamed: dict[str, int] = {}
    for place, (item, timestamp) in enumerate(_with_times(items, "invoked_at")):
        if isinstance(item, SkillEvent):
            yield item
            continue
        invocation = _invocation(item, timestamp, place)
        if invocation.invocation_id is None:
            name = f"{invocation.skill_name}@{timestamp.isoformat()}"
            unnamed[name] = count = unnamed.get(name, 0) + 1
            invocation.invocation_id = name if count == 1 else f"{name}#{count}"
        yield from _events_of(invocation, timestamp)


def _invocation(item: Any, invoked_at: datetime, place: int) -> SkillInvocation:
    fields = {name: _value(item, name) for name in _INVOCATION_FIELDS}
    if isinstance(item, Mapping):
        fields["session_id"] = _unspelled(fields["session_id"])
    if all(value is None for value in fields.values()) and not isinstance(item, Mapping):
        raise DecodeError(f"item {place} is not a skill invocation: {type(item).__name__}")
    return invocation_of_record(fields | {"invoked_at": invoked_at.isoformat()}, place)


def invocation_of_record(record: Mapping[str, Any], place: int) -> SkillInvocation:
    """Return the invocation that a record describes; unknown keys, and None, are ignored.

    Args:
        record: A mapping with any of the fields of `SkillInvocation`.
        place: Its place among others, for the error.

    Raises:
        DecodeError: A value is of the wrong type.
    """
    return _converted({"skill_name": _UNKNOWN, "invoked_at": "", **_given(record)}, SkillInvocation, place)


def _events_of(invocation: SkillInvocation, began: datetime) -> Iterator[SkillEvent]:
    header: dict[str, Any] = {
        "session_id": invocation.session_id,
        "skill_name": invocation.skill_name,
        "invocation_id": invocation.invocation_id,
        "workflow_path": invocation.workflow_path,
    }
    yield SkillStarted(**header, timestamp=began)
    duration = invocation.duration_seconds
    if invocation.completed or duration is not None or invocation.error_type is not None:
        yield SkillCompleted(
            **header,
            timestamp=_later(began, duration or 0.0),
            completed=invocation.completed,
            duration_seconds=duration,
            follow_up_actions=tuple(invocation.follow_up_actions),
            error_type=invocation.error_type,
        )


def workflow_events(items: Iterable[Any]) -> Iterator[WorkflowEvent]:
    """Convert workflow records to events; records of other types are left out.

    Args:
        items: Workflow events, records with the six legacy keys and anything else in ``metadata``,
            events in their wire form, or objects whose ``to_dict()`` returns one of these.

    Raises:
        DecodeError: An item is none of these, or has a value of the wrong type.
    """
    for place, (item, timestamp) in enumerate(_with_times(map(_record_of, items), "timestamp")):
        if isinstance(item, WorkflowEvent):
            yield item
        elif not isinstance(item, Mapping):
            raise DecodeError(f"item {place} is not a workflow event: {type(item).__name__}")
        else:
            event = _workflow_event(cast("Mapping[str, Any]", item), timestamp, place)
            if event is not None:
                yield event


def _record_of(item: Any) -> Any:
    to_dict = None if isinstance(item, Event) else getattr(item, "to_dict", None)
    return to_dict() if callable(to_dict) else item


def _workflow_event(record: Mapping[str, Any], timestamp: datetime, place: int) -> WorkflowEvent | None:
    cls = _WORKFLOW_EVENTS.get(str(record.get("event_type")))
    if cls is None:
        return None
    value = record.get("metadata")
    metadata: Mapping[str, Any] = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
    fields: dict[str, Any] = {"workflow_id": _UNKNOWN}
    if issubclass(cls, NodeStarted | NodeCompleted):
        fields["node_id"] = _UNKNOWN
    for name in cls.__struct_fields__:
        value = record.get(name)
        value = metadata.get(name) if value is None else value
        if value is not None:
            fields[name] = value
    # The session is always given: by default an event takes the reader's session.
    fields |= {
        "timestamp": timestamp,
        "metadata": metadata,
        "session_id": _unspelled(record.get("session_id")),
    }
    return _converted({**_given(fields), "session_id": fields["session_id"]}, cls, place)


def _unspelled(session_id: Any) -> Any:
    return unspell(session_id) if isinstance(session_id, str) else session_id


def _value(item: Any, name: str) -> Any:
    if isinstance(item, Mapping):
        return cast("Mapping[str, Any]", item).get(name)
    return getattr(item, name, None)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _converted(fields: Mapping[str, Any], cls: type[_T], place: int) -> _T:
    try:
        return msgspec.convert(fields, cls, strict=False)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"item {place}: {error}") from error


def _with_times(items: Iterable[Any], key: str) -> Iterator[tuple[Any, datetime]]:
    """Pair items with their times; an item without a readable time gets the time of the one before it."""
    listed = list(items)
    times = [_time(_value(item, key)) for item in listed]
    latest = next((time for time in times if time is not None), _EPOCH)
    for item, time in zip(listed, times, strict=True):
        latest = time or latest
        yield item, latest


def _time(value: Any) -> datetime | None:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _later(began: datetime, seconds: float) -> datetime:
    try:
        return began + timedelta(seconds=max(0.0, seconds))
    except (OverflowError, ValueError):  # a file can claim a duration of 1e300 s or NaN
        return began
