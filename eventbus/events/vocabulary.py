"""The built-in event classes.

An event is a frozen fact, named in the past tense. A subscription to a class receives its
subclasses too, so `NodeEvent` covers every event of a node, and `Event` every event.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from msgspec import field
from msgspec.structs import force_setattr

from eventbus.events.event import Event
from eventbus.session import new_id

__all__ = [
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
]

NodeStatus = Literal["ok", "failed", "skipped", "cancelled"]
"""How an attempt at a node ended. A skipped node had nothing left to do, which is a success."""
WorkflowStatus = Literal["ok", "failed", "cancelled"]
"""How a run ended."""


class SkillEvent(Event, kw_only=True):
    """An event of a skill invocation.

    Attributes:
        skill_name: The skill's name, such as ``crackerjack-run``.
        invocation_id: The id of this use of the skill.
        workflow_path: The path the user chose through it, such as ``comprehensive``.
    """

    skill_name: str
    invocation_id: str = field(default_factory=new_id)
    workflow_path: str | None = None


class SkillStarted(SkillEvent, kw_only=True):
    """A skill was invoked."""


class SkillCompleted(SkillEvent, kw_only=True):
    """A skill invocation ended, completed or abandoned.

    Attributes:
        completed: False if it was abandoned.
        duration_seconds: Measured on the monotonic clock; None if unknown.
        follow_up_actions: The user's next actions, in order.
        error_type: The type of the exception that ended it, if one did.
    """

    completed: bool = True
    duration_seconds: float | None = None
    follow_up_actions: tuple[str, ...] = ()
    error_type: str | None = None


class SkillFollowedUp(SkillEvent, kw_only=True):
    """A skill invocation had a follow-up action, before or after its end.

    The processes of a shell or an agent publish it. A tracker publishes the actions with the end.

    Attributes:
        action: The user's action, such as ``git commit``.
    """

    action: str


class WorkflowEvent(Event, kw_only=True):
    """An event of a run of a workflow, or of a node in it.

    Attributes:
        workflow_id: The workflow's name, such as ``crackerjack``.
        run_id: The id of this execution of it; None if the producer gave none.
    """

    workflow_id: str
    run_id: str | None = None


class WorkflowStarted(WorkflowEvent, kw_only=True):
    """A run began.

    Attributes:
        nodes: The ids of the planned nodes, in order, as far as they are known.
    """

    nodes: tuple[str, ...] = ()


class WorkflowCompleted(WorkflowEvent, kw_only=True):
    """A run ended.

    `status` and `success` say the same, for readers of either. If only one is given, or they
    contradict each other, the worse one holds.

    Attributes:
        status: How it ended.
        success: True if every node succeeded.
        duration_seconds: Measured on the monotonic clock; None if the start was not seen.
        error_type: The type of the exception that ended it, if one did.
    """

    status: WorkflowStatus = "ok"
    success: bool = True
    duration_seconds: float | None = None
    error_type: str | None = None

    def __post_init__(self) -> None:
        """Make `status` and `success` agree."""
        super().__post_init__()
        _agree(self, succeeded=("ok",))


class NodeEvent(WorkflowEvent, kw_only=True):
    """An event of one attempt at a node.

    Attributes:
        node_id: The node's name, such as ``fast_hooks``.
        attempt: The number of the attempt within the run, from 1.
    """

    node_id: str
    attempt: int = 1


class NodeStarted(NodeEvent, kw_only=True):
    """An attempt at a node began."""


class NodeProgress(NodeEvent, kw_only=True):
    """A node made progress.

    Attributes:
        completed: The amount done, in units of the producer's choice.
        total: The amount to do; None if unknown.
        message: The current step.
    """

    completed: float = 0
    total: float | None = None
    message: str | None = None


class NodeCompleted(NodeEvent, kw_only=True):
    """An attempt at a node ended.

    `status` and `success` say the same, for readers of either. If only one is given, or they
    contradict each other, the worse one holds.

    Attributes:
        status: How it ended.
        success: False if it failed or was cancelled.
        duration_seconds: Of the runner, on the monotonic clock; None if the start was not seen.
        error_type: The type of the exception that ended it, if one did.
        error_message: The exception's message. Only on request, since it may be private.
    """

    status: NodeStatus = "ok"
    success: bool = True
    duration_seconds: float | None = None
    error_type: str | None = None
    error_message: str | None = None

    def __post_init__(self) -> None:
        """Make `status` and `success` agree."""
        super().__post_init__()
        _agree(self, succeeded=("ok", "skipped"))


class SessionLinked(Event, kw_only=True):
    """Another session belongs to this one: they are correlated as one, under this one's id.

    A job that an agent has started on a server, for instance: the server's events have the job's id as
    their session, and only the agent knows both. The first link of a session counts.

    Attributes:
        other: The id of the session that belongs to this one.
    """

    other: str


class SessionCorrelated(Event, kw_only=True):
    """A session's current figures, published as its skills and runs begin and end.

    Attributes:
        skills: Skill invocations seen.
        skills_completed: Skill invocations that ended completed.
        workflows: Runs seen.
        nodes_completed: Node attempts that succeeded.
        nodes_failed: Node attempts that failed.
        total_skill_duration: Seconds in ended skill invocations.
        total_workflow_duration: Seconds in ended runs.
        open: True while a skill or a run is still going.
    """

    skills: int
    skills_completed: int
    workflows: int
    nodes_completed: int
    nodes_failed: int
    total_skill_duration: float
    total_workflow_duration: float
    open: bool


class PatternDetected(Event, kw_only=True):
    """A session shows a known pattern; published once per session and pattern.

    Attributes:
        pattern: Its short name, such as ``interactive_dominated``.
        message: Its meaning, for people.
    """

    pattern: str
    message: str


class EventsLost(Event, kw_only=True):
    """Events are missing here: this subscription's mailbox overflowed.

    Delivered to the one subscription concerned, in place of the missing events. It is not numbered,
    not kept in the history and not seen by taps.

    Attributes:
        count: How many of this subscription's events are missing.
        first_seq: The bus's number of the first missing event.
        last_seq: The bus's number of the last missing event.
    """

    count: int
    first_seq: int
    last_seq: int


class SubscriberFailed(Event, kw_only=True):
    """A subscriber's handler raised. A failure to handle this event publishes no further one.

    Attributes:
        subscriber: The name of its subscription.
        error_type: The type of the exception.
        quarantined: True if the subscription was ended for it, after too many failures in a row.
    """

    subscriber: str
    error_type: str
    quarantined: bool = False


class UnknownEvent(Event, kw_only=True):
    """An event of a type that this process does not know, kept whole: it encodes to the line it came from.

    Attributes:
        unknown_type: Its ``event_type``.
        fields: All further fields of the line.
    """

    unknown_type: str
    fields: dict[str, Any]

    @classmethod
    def kept_whole(
        cls,
        session_id: str | None,
        timestamp: datetime,
        metadata: dict[str, Any],
        unknown_type: str,
        fields: dict[str, Any],
    ) -> Self:
        """Return an event with this metadata itself, of which the constructor would keep a bounded copy."""
        event = cls(session_id=session_id, timestamp=timestamp, unknown_type=unknown_type, fields=fields)
        force_setattr(event, "metadata", metadata)
        return event

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle it whole."""
        values = (self.session_id, self.timestamp, self.metadata, self.unknown_type, self.fields)
        return self.kept_whole, values


def _agree(event: WorkflowCompleted | NodeCompleted, succeeded: tuple[str, ...]) -> None:
    if event.success and event.status not in succeeded:
        force_setattr(event, "success", False)
    elif not event.success and event.status in succeeded:
        force_setattr(event, "status", "failed")
