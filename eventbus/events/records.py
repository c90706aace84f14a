"""The plain shapes in which skills and workflows are written down and handed out.

Older readers know an invocation by exactly seven keys, and a workflow event by exactly six, with
everything else in its metadata. Both are made here, from typed events, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from eventbus.events.codec import encode
from eventbus.events.vocabulary import SkillCompleted, SkillEvent, WorkflowEvent

__all__ = ["SkillInvocation", "skill_invocation", "skill_invocation_record", "workflow_event_record"]


@dataclass(slots=True)
class SkillInvocation:
    """One use of a skill.

    Attributes:
        skill_name: The skill's name, such as ``crackerjack-run``.
        invoked_at: When it began, in ISO 8601.
        workflow_path: The path the user chose through it, such as ``comprehensive``.
        completed: False while it goes on, and for one that was abandoned.
        duration_seconds: None while it goes on, or when it is not known; 0.0 is a duration.
        follow_up_actions: What the user went on to do, in order.
        error_type: The type of the exception that ended it, if one did.
        session_id: The session it belongs to; None when nothing says which.
        invocation_id: Which use of the skill; None where it was read from a file that has no ids.
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
        """Return `skill_invocation_record` of this invocation."""
        return skill_invocation_record(self)


def skill_invocation(event: SkillEvent, invoked_at: datetime | None = None) -> SkillInvocation:
    """Return the invocation an event tells of, as far as that event knows it.

    Args:
        event: A `SkillStarted` gives one that goes on, a `SkillCompleted` one that has ended.
        invoked_at: When it began: the timestamp of its `SkillStarted`. By default worked out from
            the event's own timestamp and duration.
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
    except (OverflowError, ValueError):  # a file can claim a duration of 1e300 s, or NaN
        return event.timestamp


def skill_invocation_record(invocation: SkillInvocation) -> dict[str, Any]:
    """Return an invocation under the seven keys of ``skill_metrics.json``, and no other.

    The historic reader refuses a whole file for one more key, and its next save then wipes it: that
    is why the session is not among them.
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


_HEADER = frozenset({"event_type", "workflow_id", "node_id", "timestamp", "session_id", "metadata"})


def workflow_event_record(event: WorkflowEvent) -> dict[str, Any]:
    """Return a workflow or node event under its six historic keys, JSON-safe, sharing nothing.

    What else the event's class has (``run_id``, ``attempt``, ``status``, ``success``,
    ``duration_seconds``, ``error_type``, ...) stands in ``metadata`` beside what the producer put
    there, and wins over a key of the same name. What is None or empty is left out; 0.0 is neither.
    """
    # Through the wire form, not attribute by attribute: only there is every value JSON-safe and a copy.
    wire: dict[str, Any] = msgspec.json.decode(encode(event))
    details = {name: value for name, value in wire.items() if name not in _HEADER and not _is_blank(value)}
    return {
        "event_type": wire["event_type"],
        "workflow_id": wire["workflow_id"],
        "node_id": wire.get("node_id"),
        "timestamp": event.timestamp.isoformat(),
        "session_id": wire["session_id"],
        "metadata": {**wire["metadata"], **details},
    }


def _is_blank(value: Any) -> bool:
    return value is None or value in ("", [], {})
