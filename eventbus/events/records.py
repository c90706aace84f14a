"""Records: the plain dictionaries that legacy readers expect of skills and workflows.

They expect exactly seven keys of a skill invocation, and exactly six of a workflow event, with
everything else in its metadata. Both are built here only, from typed events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from eventbus.events.codec import encode, encode_lines_of_small
from eventbus.events.size import is_oversized
from eventbus.events.vocabulary import SkillCompleted, SkillEvent, WorkflowEvent

__all__ = [
    "SkillInvocation",
    "skill_invocation",
    "skill_invocation_record",
    "workflow_event_record",
    "workflow_event_records",
]


@dataclass(slots=True)
class SkillInvocation:
    """One use of a skill.

    Attributes:
        skill_name: The skill's name, such as ``crackerjack-run``.
        invoked_at: When it began, in ISO 8601.
        workflow_path: The path the user chose through it, such as ``comprehensive``.
        completed: False while it is going on, and if it was abandoned.
        duration_seconds: None while it is going on, or if unknown; 0.0 is a duration.
        follow_up_actions: The user's next actions, in order.
        error_type: The type of the exception that ended it, if one did.
        session_id: The session it belongs to; None if unknown.
        invocation_id: The id of this use of the skill; None if read from a file without ids.
    """

    skill_name: str
    invoked_at: str
    workflow_path: str | None = None
    completed: bool = False
    duration_seconds: float | None = None
    follow_up_actions: list[str] = field(default_factory=list[str])
    error_type: str | None = None
    session_id: str | None = None
    invocation_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return this invocation as a `skill_invocation_record`."""
        return skill_invocation_record(self)


def skill_invocation(event: SkillEvent, invoked_at: datetime | None = None) -> SkillInvocation:
    """Return the invocation that an event belongs to, with the values known from that event.

    Args:
        event: A `SkillStarted` gives an invocation that is going on, a `SkillCompleted` an ended one.
        invoked_at: When it began: the timestamp of its `SkillStarted`. By default computed from the
            event's own timestamp and duration.
    """
    invocation = SkillInvocation(
        event.skill_name,
        (invoked_at or _began(event)).isoformat(),
        event.workflow_path,
        session_id=event.session_id,
        invocation_id=event.invocation_id,
    )
    if isinstance(event, SkillCompleted):
        invocation.completed = event.completed
        invocation.duration_seconds = event.duration_seconds
        invocation.follow_up_actions = list(event.follow_up_actions)
        invocation.error_type = event.error_type
    return invocation


def _began(event: SkillEvent) -> datetime:
    duration = event.duration_seconds if isinstance(event, SkillCompleted) else None
    try:
        return event.timestamp - timedelta(seconds=duration or 0)
    except (OverflowError, ValueError):  # a file can claim a duration of 1e300 s or NaN
        return event.timestamp


def skill_invocation_record(invocation: SkillInvocation) -> dict[str, Any]:
    """Return an invocation under exactly the seven keys of ``skill_metrics.json``.

    The session is not among them: for one more key the legacy reader refuses the whole file, and its
    next save overwrites it.
    """
    return {
        "skill_name": invocation.skill_name,
        "invoked_at": invocation.invoked_at,
        "workflow_path": invocation.workflow_path,
        "completed": invocation.completed,
        "duration_seconds": invocation.duration_seconds,
        "follow_up_actions": list(invocation.follow_up_actions),
        "error_type": invocation.error_type,
    }


_BLANKS: tuple[Any, ...] = (None, "", [], {})
_AT_ONCE = 256
_wire_decoder = msgspec.json.Decoder(dict[str, Any])


def workflow_event_record(event: WorkflowEvent) -> dict[str, Any]:
    """Return a workflow or node event under exactly the six legacy keys, as a JSON-safe copy.

    The other fields of the event (``run_id``, ``attempt``, ``status``, ``success``,
    ``duration_seconds``, ``error_type``, ...) are added to its ``metadata``, and win over a key of the
    same name. None and empty values are left out; 0.0 is kept.
    """
    wire: dict[str, Any] = msgspec.json.decode(encode(event))
    return _record(wire)


def workflow_event_records(events: Sequence[WorkflowEvent]) -> list[dict[str, Any]]:
    """Return the `workflow_event_record` of each event, in half of the time."""
    records: list[dict[str, Any]] = []
    for start in range(0, len(events), _AT_ONCE):
        some = events[start : start + _AT_ONCE]
        if any(map(is_oversized, some)):
            records.extend(map(workflow_event_record, some))
        else:
            records.extend(map(_record, _wire_decoder.decode_lines(encode_lines_of_small(some))))
    return records


def _record(wire: dict[str, Any]) -> dict[str, Any]:
    # From the wire form, in which every value is JSON-safe and a copy.
    take = wire.pop
    record = {
        "event_type": take("event_type"),
        "workflow_id": take("workflow_id"),
        "node_id": take("node_id", None),
        "timestamp": take("timestamp").replace("Z", "+00:00"),
        "session_id": take("session_id"),
        "metadata": take("metadata"),
    }
    details = {name: value for name, value in wire.items() if value not in _BLANKS}
    record["metadata"] = {**record["metadata"], **details}
    return record
