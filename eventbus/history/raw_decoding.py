"""Read what is needed to correlate, and skip what building an event costs.

An event copies its metadata, brings its time to UTC, and makes its status and success agree: half of
what decoding a long history takes. A mirror has an event's fields and does none of this. It takes
only what an event would take as it stands; for anything else there are the events themselves.
"""

from __future__ import annotations

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
    SkillStarted,
    SubscriberFailed,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.events.codec import decoders
from eventbus.history.reading import _is_utf8

__all__ = ["decode_mirrors", "mirrored"]

_MIRRORED: tuple[type[Event], ...] = (
    NodeCompleted,
    NodeStarted,
    NodeProgress,
    SkillStarted,
    SkillCompleted,
    WorkflowStarted,
    WorkflowCompleted,
    SessionCorrelated,
    PatternDetected,
    EventsLost,
    SubscriberFailed,
)
_NAMES = {str(cls.__struct_config__.tag): cls for cls in _MIRRORED}
_Named = Annotated[str, msgspec.Meta(min_length=1)]
_AsWritten: dict[str, Any] = {  # what is not there, an event would make up
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)],
    "invocation_id": _Named,
    "run_id": _Named,
}


@cache
def mirrored() -> dict[type[Any], type[Event]]:
    """Return the mirrors, each with the class it mirrors."""
    return {_mirror(cls): cls for cls in _MIRRORED}


def decode_mirrors(lines: bytes) -> list[Any] | None:
    """Return mirrors of the events in these lines; None where one of them needs a closer look."""
    known = decoders()  # by wire name; gathered once, not for each block as event_types() would
    if not _is_utf8(lines) or any(known[name].type is not cls for name, cls in _NAMES.items()):
        return None  # where a class of somebody's own stands for one of these names, too
    try:
        events: list[Any] = _decoder().decode_lines(lines)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    return events if len(events) == lines.count(b"\n") else None


@cache
def _decoder() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(Union[tuple(mirrored())])  # noqa: UP007 - made at run time


def _mirror(cls: type[Event]) -> type[Any]:
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
    if info.name in _AsWritten:
        return info.name, _AsWritten[info.name]
    if info.name == "session_id":
        return info.name, str | None, None
    if info.name == "metadata":
        return info.name, dict[str, Any], msgspec.field(default_factory=dict[str, Any])
    if info.default is not msgspec.NODEFAULT:
        return info.name, info.type, info.default
    return info.name, info.type
