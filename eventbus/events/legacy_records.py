"""Read what others hand us as events: historic records, invocations, and events themselves.

Pure. Tolerant of missing and of unknown keys, since there is no telling who wrote a record; what a
record does say has to be of the right type. A naive time is local.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import msgspec

from eventbus.errors import DecodeError
from eventbus.events.event import Event
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

__all__ = ["skill_events", "workflow_events"]

_EPOCH = datetime.fromtimestamp(0, UTC)
_UNKNOWN = "unknown"
_WORKFLOW_EVENTS: dict[str, type[WorkflowEvent]] = {
    "workflow_started": WorkflowStarted,
    "node_started": NodeStarted,
    "node_completed": NodeCompleted,
    "workflow_completed": WorkflowCompleted,
}


def skill_events(items: Iterable[Any]) -> Iterator[SkillEvent]:
    """Return the events that skill invocations tell of.

    Args:
        items: Skill events, `SkillInvocation` objects, or records with the seven keys of
            ``skill_metrics.json``, with or without ``session_id`` and ``invocation_id``. An
            invocation without an id is taken for one that no other item tells of; one that has not
            completed, and has neither a duration nor an error, is still going.

    Raises:
        DecodeError: An item is none of these, or has a value of the wrong type.
    """
    unnamed: dict[str, int] = {}
    for place, (item, timestamp) in enumerate(_with_times(items, "invoked_at")):
        if isinstance(item, SkillEvent):
            yield item
            continue
        invocation = _invocation(item, place)
        if invocation.invocation_id is None:
            name = f"{invocation.skill_name}@{timestamp.isoformat()}"
            unnamed[name] = count = unnamed.get(name, 0) + 1
            invocation.invocation_id = name if count == 1 else f"{name}#{count}"
        yield from _events_of(invocation, timestamp)


class _Invocation(msgspec.Struct):
    skill_name: str = _UNKNOWN
    workflow_path: str | None = None
    completed: bool = False
    duration_seconds: float | None = None
    follow_up_actions: tuple[str, ...] = ()
    error_type: str | None = None
    session_id: str | None = None
    invocation_id: str | None = None


def _invocation(item: Any, place: int) -> _Invocation:
    fields = {name: _value(item, name) for name in _Invocation.__struct_fields__}
    if all(value is None for value in fields.values()) and not isinstance(item, Mapping):
        raise DecodeError(f"item {place} is no skill invocation: {type(item).__name__}")
    return _converted(fields, _Invocation, place)


def _events_of(invocation: _Invocation, began: datetime) -> Iterator[SkillEvent]:
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
            timestamp=_after(began, duration or 0.0),
            completed=invocation.completed,
            duration_seconds=duration,
            follow_up_actions=invocation.follow_up_actions,
            error_type=invocation.error_type,
        )


def workflow_events(items: Iterable[Any]) -> Iterator[WorkflowEvent]:
    """Return the events that workflow records tell of; those of a type not correlated are left out.

    Args:
        items: Workflow events, records with the six historic keys and anything else in
            ``metadata``, events in their wire form, or objects whose ``to_dict()`` gives one of these.

    Raises:
        DecodeError: An item is none of these, or has a value of the wrong type.
    """
    for place, (item, timestamp) in enumerate(_with_times(map(_as_record, items), "timestamp")):
        if isinstance(item, WorkflowEvent):
            yield item
        elif not isinstance(item, Mapping):
            raise DecodeError(f"item {place} is no workflow event: {type(item).__name__}")
        else:
            event = _workflow_event(cast("Mapping[str, Any]", item), timestamp, place)
            if event is not None:
                yield event


def _as_record(item: Any) -> Any:
    to_dict = None if isinstance(item, Event) else getattr(item, "to_dict", None)
    return to_dict() if callable(to_dict) else item


def _workflow_event(record: Mapping[str, Any], timestamp: datetime, place: int) -> WorkflowEvent | None:
    cls = _WORKFLOW_EVENTS.get(str(record.get("event_type")))
    if cls is None:
        return None
    found = record.get("metadata")
    metadata: Mapping[str, Any] = cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}
    fields: dict[str, Any] = {"workflow_id": _UNKNOWN}
    if issubclass(cls, NodeStarted | NodeCompleted):
        fields["node_id"] = _UNKNOWN
    for name in cls.__struct_fields__:
        value = record.get(name)
        value = metadata.get(name) if value is None else value
        if value is not None:
            fields[name] = value
    # None has to be said: by default an event takes the session of whoever reads it.
    fields |= {"timestamp": timestamp, "metadata": metadata, "session_id": record.get("session_id")}
    return _converted(fields, cls, place)


_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def _value(item: Any, name: str) -> Any:
    if isinstance(item, Mapping):
        return cast("Mapping[str, Any]", item).get(name)
    return getattr(item, name, None)


def _converted(fields: Mapping[str, Any], cls: type[_Struct], place: int) -> _Struct:
    said = {name: value for name, value in fields.items() if value is not None or name == "session_id"}
    try:
        return msgspec.convert(said, cls, strict=False)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"item {place}: {error}") from error


def _with_times(items: Iterable[Any], key: str) -> Iterator[tuple[Any, datetime]]:
    """Pair items with their times; one without a readable time has that of the one before it."""
    listed = list(items)
    times = [_instant(_value(item, key)) for item in listed]
    last = next((time for time in times if time is not None), _EPOCH)
    for item, time in zip(listed, times, strict=True):
        last = time or last
        yield item, last


def _instant(value: Any) -> datetime | None:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _after(began: datetime, seconds: float) -> datetime:
    try:
        return began + timedelta(seconds=max(0.0, seconds))
    except (OverflowError, ValueError):  # a file can claim a duration of 1e300 s, or NaN
        return began
