"""Decode only what correlation needs, without the cost of building events.

An event copies its metadata, converts its time to UTC, and makes its status and success agree: half
of the time that decoding a long history takes. A raw struct has the fields of an event class and does
none of this. It accepts only lines that are already in the form an event would have; blocks with
other lines are decoded to events instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Union

import msgspec

from eventbus.events import (
    Event,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    PatternDetected,
    SessionCorrelated,
    SkillCompleted,
    SkillFollowedUp,
    SkillStarted,
    SubscriberFailed,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.events.codec import decoders
from eventbus.ground.session_names import may_be_spelled
from eventbus.history.record_lines import is_utf8
from eventbus.history.stored_lines import Block

__all__ = ["count_lost", "decode_raw", "raw_types"]

_EVENT_CLASSES: dict[str, type[Event]] = {
    str(cls.__struct_config__.tag): cls
    for cls in (
        NodeCompleted,
        NodeStarted,
        NodeProgress,
        SkillStarted,
        SkillCompleted,
        SkillFollowedUp,
        WorkflowStarted,
        WorkflowCompleted,
        SessionCorrelated,
        PatternDetected,
        EventsLost,
        SubscriberFailed,
    )
}
_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
_REQUIRED: dict[str, Any] = {  # an event would make these up if they are missing
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)],
    "invocation_id": _NonEmpty,
    "run_id": _NonEmpty,
}
_USUAL_YEARS = range(2, 9_999)  # in others the conversion to UTC, which an event does, may fail


@cache
def raw_types() -> dict[type[Any], type[Event]]:
    """Return the raw structs, each with its event class."""
    return {_raw_type(cls): cls for cls in _EVENT_CLASSES.values()}


def decode_raw(block: Block) -> list[Any] | None:
    """Return raw structs for the lines of a block; None if one of the lines needs an event."""
    data = block.data
    if block.is_tail or not is_utf8(data) or may_be_spelled(data) or _is_replaced():
        return None
    try:
        structs: list[Any] = _decoder().decode_lines(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    times = [each.timestamp for each in structs]
    if times and not (min(times).year in _USUAL_YEARS and max(times).year in _USUAL_YEARS):
        return None
    return structs if len(structs) == data.count(b"\n") else None


def count_lost(events: Sequence[Any]) -> int:
    """Return how many events are missing by the `EventsLost` among events or raw structs."""
    kinds = _kinds_of_losses()
    if kinds.isdisjoint(map(type, events)):  # in C: this runs over every event of a log
        return 0
    return sum(max(event.count, 0) for event in events if type(event) in kinds)


@cache
def _kinds_of_losses() -> frozenset[type[Any]]:
    return frozenset({EventsLost, *(raw for raw, cls in raw_types().items() if cls is EventsLost)})


def _is_replaced() -> bool:
    """Return True if a class defined elsewhere uses the wire name of one of ours."""
    known = decoders()  # cached, while event_types() would be a new copy for each block
    return any(len(known[name]) > 1 for name in _EVENT_CLASSES)


@cache
def _decoder() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(Union[tuple(raw_types())])  # noqa: UP007 - made at run time


def _raw_type(cls: type[Event]) -> type[Any]:
    fields = [_field(each) for each in msgspec.structs.fields(cls)]
    return msgspec.defstruct(
        cls.__name__,
        fields,
        tag=str(cls.__struct_config__.tag),
        tag_field="event_type",
        gc=False,
        kw_only=True,
    )


def _field(info: msgspec.structs.FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    if info.name in _REQUIRED:
        return info.name, _REQUIRED[info.name]
    if info.name == "session_id":
        return info.name, str | None, None
    if info.name == "metadata":
        return info.name, dict[str, Any], msgspec.field(default_factory=dict[str, Any])
    if info.default is not msgspec.NODEFAULT:
        return info.name, info.type, info.default
    return info.name, info.type
