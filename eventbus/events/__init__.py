"""The event classes, their wire form, and what makes them safe to store."""

from eventbus.events.codec import decode, encode, encode_lines
from eventbus.events.event import Event, event_types
from eventbus.events.size import MAX_EVENT_BYTES
from eventbus.events.vocabulary import (
    EventsLost,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    NodeStarted,
    NodeStatus,
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
    WorkflowStatus,
)

__all__ = [
    "MAX_EVENT_BYTES",
    "Event",
    "EventsLost",
    "NodeCompleted",
    "NodeEvent",
    "NodeProgress",
    "NodeStarted",
    "NodeStatus",
    "PatternDetected",
    "SessionCorrelated",
    "SessionLinked",
    "SkillCompleted",
    "SkillEvent",
    "SkillFollowedUp",
    "SkillStarted",
    "SubscriberFailed",
    "UnknownEvent",
    "WorkflowCompleted",
    "WorkflowEvent",
    "WorkflowStarted",
    "WorkflowStatus",
    "decode",
    "encode",
    "encode_lines",
    "event_types",
]
