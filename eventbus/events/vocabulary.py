"""The vocabulary: what can be said on the bus, and how it looks on the wire.

An event is a frozen fact, named in the past tense. Its wire name, ``event_type``, is its class
name in snake case. Subclass `Event` to add your own; nothing has to be registered:

    class DeployFinished(Event):
        target: str

A subscription to a class receives its subclasses too, so `NodeEvent` stands for all that happens
to nodes, and `Event` for everything.

On the wire an event is one JSON object on one line. Reading back keeps what it does not know:
unknown fields are ignored, and an event of an unknown type is kept whole, as an `UnknownEvent`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from io import BytesIO
from itertools import chain, islice
from typing import Any, Literal, Self, cast, dataclass_transform

import msgspec
from msgspec import field
from msgspec.structs import force_setattr

from eventbus.errors import DecodeError
from eventbus.events.json_safe import MAX_DEPTH, json_safe, json_safe_mapping, safe_text
from eventbus.session import current_session_id, new_id

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
    "SkillCompleted",
    "SkillEvent",
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
    "encode_lines_of_small",
    "event_types",
    "is_oversized",
]

NodeStatus = Literal["ok", "failed", "skipped", "cancelled"]
"""How an attempt at a node ended. A skipped one had nothing left to do: that is a success."""
WorkflowStatus = Literal["ok", "failed", "cancelled"]
"""How a run ended."""

MAX_EVENT_BYTES = 65_536
"""An event that encodes to more than this is truncated, and its metadata says so."""

_MAX_FIELDS = 64  # of a truncated event, and of its metadata
_MAX_NAME = 256
_MIN_EVENT_BYTES = len('{"event_type":"","session_id":null,"timestamp":"2000-01-01T00:00:00Z","metadata":{}}')
_TELLING = MAX_EVENT_BYTES // 2 + 1  # so many values do not fit, with their commas
_PLAIN = {bool, int, float, datetime, type(None)}
_utc_now = partial(datetime.now, UTC)
_encoder = msgspec.json.Encoder()


def _wire_name(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()


class _NoMetadata(dict[str, Any]):
    """The empty metadata that most events share: a dict of its own would be a third of an event."""

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("an event is a frozen fact: give it its metadata when it is built")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Refuse, as setting an item does; plain `dict.setdefault` would not ask it."""
        self[key] = default

    def update(self, *others: Any, **items: Any) -> None:
        """Refuse, as setting an item does; plain `dict.update` would not ask it."""
        self["update"] = (others, items)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self


_NO_METADATA = _NoMetadata()


def _no_metadata() -> dict[str, Any]:
    return _NO_METADATA


@cache
def _decoders() -> dict[str, msgspec.json.Decoder[Event]]:
    types = event_types()
    del types[str(UnknownEvent.__struct_config__.tag)]
    return {wire_name: msgspec.json.Decoder(cls) for wire_name, cls in types.items()}


# gc=False: events wait by the thousand in mailboxes, where the garbage collector would walk over
# them again and again (a burst of 200,000 was published five times slower). In exchange an event
# must not be part of a reference cycle, which a frozen fact has no business to be.
# The decorator tells type checkers what msgspec hands on to subclasses: frozen, keyword-only.
@dataclass_transform(field_specifiers=(field,), kw_only_default=True, frozen_default=True)
class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event_type", tag=_wire_name):
    """The base of every event: who it belongs to, when it happened, and what else was said.

    A subclass's fields must not lead back to the event itself: the garbage collector does not look
    into events, so such a cycle would never be freed.

    Attributes:
        session_id: What joins events of different producers. By default the session the event was
            built in (see `eventbus.session`); None when there is none.
        timestamp: When it happened, aware, in UTC (ISO 8601 on the wire). A naive one is read as
            local time. For people and for joining processes: order is the bus's numbering.
        metadata: Anything else, JSON-safe: a bounded copy of the mapping given. What cannot be
            written as JSON is replaced, never refused.
    """

    session_id: str | None = field(default_factory=current_session_id)
    timestamp: datetime = field(default_factory=_utc_now)
    metadata: dict[str, Any] = field(default_factory=_no_metadata)

    def __init_subclass__(cls) -> None:
        """Let `decode` know that there is one more class."""
        _decoders.cache_clear()

    def __post_init__(self) -> None:
        """Copy the metadata, and bring the timestamp to UTC."""
        if self.metadata is not _NO_METADATA:
            force_setattr(
                self, "metadata", json_safe_mapping(self.metadata) if self.metadata else _NO_METADATA
            )
        if self.timestamp.tzinfo is not UTC:
            force_setattr(self, "timestamp", self.timestamp.astimezone(UTC))


class SkillEvent(Event, kw_only=True):
    """Something that happened to one use of a skill.

    Attributes:
        skill_name: The skill's name, such as ``crackerjack-run``.
        invocation_id: Which use of it.
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
        completed: False when it was abandoned.
        duration_seconds: Measured on the monotonic clock; None when it is not known.
        follow_up_actions: What the user went on to do, in order.
        error_type: The type of the exception that ended it, if one did.
    """

    completed: bool = True
    duration_seconds: float | None = None
    follow_up_actions: tuple[str, ...] = ()
    error_type: str | None = None


class WorkflowEvent(Event, kw_only=True):
    """Something that happened to one run of a workflow, or to a node of it.

    Attributes:
        workflow_id: The workflow's name, such as ``crackerjack``.
        run_id: Which execution of it; None when the producer did not say.
    """

    workflow_id: str
    run_id: str | None = None


class WorkflowStarted(WorkflowEvent, kw_only=True):
    """A run began.

    Attributes:
        nodes: The ids of the nodes it plans to execute, in order, as far as they are known.
    """

    nodes: tuple[str, ...] = ()


class WorkflowCompleted(WorkflowEvent, kw_only=True):
    """A run ended.

    `status` and `success` say one thing twice, for readers of either; where a producer gives only
    one of them, or they contradict each other, the worse one holds.

    Attributes:
        status: How it ended.
        success: Whether every node succeeded.
        duration_seconds: Measured on the monotonic clock; None when the start was not seen.
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
    """Something that happened to one attempt at a node.

    Attributes:
        node_id: The node's name, such as ``fast_hooks``.
        attempt: Which attempt at it within the run, from 1.
    """

    node_id: str
    attempt: int = 1


class NodeStarted(NodeEvent, kw_only=True):
    """An attempt at a node began."""


class NodeProgress(NodeEvent, kw_only=True):
    """A node got some way.

    Attributes:
        completed: How much is done, in units of the producer's choice.
        total: How much there is to do; None when it is not known.
        message: What is being done now.
    """

    completed: float = 0
    total: float | None = None
    message: str | None = None


class NodeCompleted(NodeEvent, kw_only=True):
    """An attempt at a node ended.

    `status` and `success` say one thing twice, for readers of either; where a producer gives only
    one of them, or they contradict each other, the worse one holds.

    Attributes:
        status: How it ended.
        success: False when it failed or was cancelled.
        duration_seconds: Of the runner, on the monotonic clock; None when the start was not seen.
        error_type: The type of the exception that ended it, if one did.
        error_message: Its text; only where a producer was asked for it, for it may be private.
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


class SessionCorrelated(Event, kw_only=True):
    """What is known of a session now, published as its skills and runs begin and end.

    Attributes:
        skills: Skill invocations seen.
        skills_completed: Those that ended completed.
        workflows: Runs seen.
        nodes_completed: Node attempts that succeeded.
        nodes_failed: Node attempts that failed.
        total_skill_duration: Seconds in ended skill invocations.
        total_workflow_duration: Seconds in ended runs.
        open: Whether a skill or a run of it is still going.
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
    """A session shows a known pattern, told once per session and pattern.

    Attributes:
        pattern: Its short name, such as ``interactive_dominated``.
        message: What it means, for people.
    """

    pattern: str
    message: str


class EventsLost(Event, kw_only=True):
    """Events are missing here: this subscription's mailbox overflowed.

    It stands in one subscription's stream, exactly where events are missing, and is nobody else's:
    it is not numbered, kept in the history or seen by taps.

    Attributes:
        count: How many of this subscription's events are missing.
        first_seq: The bus's number of the first of them.
        last_seq: The bus's number of the last of them.
    """

    count: int
    first_seq: int
    last_seq: int


class SubscriberFailed(Event, kw_only=True):
    """A subscriber's handler raised. A failure to consume this event makes no new one.

    Attributes:
        subscriber: The name of its subscription.
        error_type: The type of the exception.
        quarantined: Whether the subscription was ended for it, after too many in a row.
    """

    subscriber: str
    error_type: str
    quarantined: bool = False


class UnknownEvent(Event, kw_only=True):
    """An event of a type this process does not know, kept whole; it encodes back to what it was.

    Attributes:
        unknown_type: Its ``event_type``.
        fields: Everything else that was on the wire.
    """

    unknown_type: str
    fields: dict[str, Any]


def _agree(event: WorkflowCompleted | NodeCompleted, succeeded: tuple[str, ...]) -> None:
    if event.success and event.status not in succeeded:
        force_setattr(event, "success", False)
    elif not event.success and event.status in succeeded:
        force_setattr(event, "status", "failed")


def encode(event: Event) -> bytes:
    """Return an event as one line of JSON, without its line feed.

    Never raises for what an event holds: fields that JSON cannot say are replaced. An event of more
    than `MAX_EVENT_BYTES`, or nested deeper than 32, is truncated, with ``"truncated": true`` in its
    metadata; that takes no longer the larger it is.
    """
    if is_oversized(event):
        return _encode_truncated(event)
    try:
        line = _encoder.encode(_as_it_was(event) if isinstance(event, UnknownEvent) else event)
    except (TypeError, ValueError, OverflowError, RecursionError):
        line = _encoder.encode(_fields(event))
    return line if len(line) <= MAX_EVENT_BYTES else _encode_truncated(event)


def encode_lines(events: Iterable[Event]) -> bytes:
    """Return events as lines of JSON, each as `encode` has it and ended by one line feed."""
    return b"".join([encode(event) + b"\n" for event in events])


def encode_lines_of_small(events: Sequence[Event]) -> bytes:
    """Do what `encode_lines` does in a third of the time.

    Args:
        events: None of them `is_oversized`, nor an `UnknownEvent`.
    """
    try:
        lines = _encoder.encode_lines(events)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return encode_lines(events)
    # No line can be too long that leaves the others room for what the least of events takes.
    room = MAX_EVENT_BYTES + _MIN_EVENT_BYTES * (len(events) - 1)
    if len(lines) <= room or max(map(len, BytesIO(lines))) <= MAX_EVENT_BYTES + 1:
        return lines
    return encode_lines(events)


def is_oversized(event: Event) -> bool:
    """Whether an event is certain to be truncated, told without going through more than what fits.

    Encoding a text of a gigabyte to find that out would take seconds, in which no other thread runs.
    """
    size = 0
    for value in msgspec.structs.astuple(event):
        kind = type(value)
        if kind is str:
            size += len(value)
        elif kind not in _PLAIN and value is not _NO_METADATA:
            return _is_deep_or_oversized(event)
    return size > MAX_EVENT_BYTES


def _is_deep_or_oversized(event: Event) -> bool:
    try:
        return _exceeds(msgspec.structs.astuple(event))
    except Exception:  # noqa: BLE001 - a hostile collection: it is not encoded as it is, either way
        return True


def _exceeds(contents: tuple[Any, ...]) -> bool:
    size, level = 0, [contents]
    for _ in range(MAX_DEPTH + 2):
        inner: list[tuple[Any, ...]] = []
        for value in chain.from_iterable(level):
            if isinstance(value, str | bytes):
                size += str.__len__(value) if isinstance(value, str) else len(value)
            elif type(value) not in _PLAIN and value is not _NO_METADATA:
                inner.append(_contents(value))
                size += 2 * len(inner[-1])  # each takes a character at least, and a comma
            if size > MAX_EVENT_BYTES:
                return True
        if not inner:
            return False
        level = inner
    return True


def _contents(value: Any) -> tuple[Any, ...]:
    """Return what a collection holds; of a large one as much as shows that it is."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.astuple(value)
    if isinstance(value, dict):
        return tuple(chain.from_iterable(islice(value.items(), _TELLING)))
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(islice(cast("Iterable[Any]", value), _TELLING))
    return ()


def decode(line: bytes | str) -> Event:
    """Read an event from one line of JSON.

    Fields that its class does not have are ignored. A type that no class in this process stands
    for gives an `UnknownEvent` that holds everything. Where two classes share a wire name, the one
    defined last stands for it.

    Args:
        line: One JSON object, with or without its line feed.

    Raises:
        DecodeError: The line is no JSON object, has no ``event_type``, or a field of the wrong type.
    """
    try:
        header = _header_decoder.decode(line)
        decoder = _decoders().get(header.event_type)
        event = _decode_unknown(line) if decoder is None else decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise DecodeError(f"not an event: {error}") from error
    if header.session_id is msgspec.UNSET:
        # Built just now, it took the session of whoever reads it, which is not its own.
        force_setattr(event, "session_id", None)
    return event


def event_types() -> dict[str, type[Event]]:
    """Return every event class this process knows, by its wire name."""
    found: dict[str, type[Event]] = {}
    waiting: list[type[Event]] = [Event]
    while waiting:
        cls = waiting.pop(0)
        waiting.extend(cls.__subclasses__())
        found[str(cls.__struct_config__.tag)] = cls
    return dict(sorted(found.items()))


class _Header(msgspec.Struct):
    event_type: str
    session_id: str | msgspec.UnsetType | None = msgspec.UNSET


_header_decoder = msgspec.json.Decoder(_Header)


def _decode_unknown(line: bytes | str) -> UnknownEvent:
    fields: dict[str, Any] = msgspec.json.decode(line)
    base = msgspec.convert({name: fields.pop(name) for name in _BASE_FIELDS if name in fields}, _BaseFields)
    wire_name = fields.pop("event_type")
    event = UnknownEvent(
        session_id=base.session_id, timestamp=base.timestamp, unknown_type=wire_name, fields=fields
    )
    force_setattr(event, "metadata", base.metadata)
    return event


class _BaseFields(msgspec.Struct):
    session_id: str | None = None
    timestamp: datetime = field(default_factory=_utc_now)
    metadata: dict[str, Any] = field(default_factory=_no_metadata)


_BASE_FIELDS = _BaseFields.__struct_fields__


def _as_it_was(event: UnknownEvent) -> dict[str, Any]:
    base = {name: getattr(event, name) for name in _BASE_FIELDS}
    return {"event_type": event.unknown_type, **base, **event.fields}


def _fields(event: Event) -> dict[str, Any]:
    """Return what goes on the wire, each field made JSON-safe on its own."""
    if isinstance(event, UnknownEvent):
        wire = _as_it_was(event)
    else:
        wire = {name: getattr(event, name) for name in event.__struct_fields__}
        wire = {"event_type": event.__struct_config__.tag, **wire}
    return {name: value if type(value) is datetime else json_safe(value) for name, value in wire.items()}


def _encode_truncated(event: Event) -> bytes:
    fields = {safe_text(name, _MAX_NAME): value for name, value in list(_fields(event).items())[:_MAX_FIELDS]}
    event_type = _shortened(fields.pop("event_type"), _MAX_NAME)
    kept = dict(list(event.metadata.items())[:_MAX_FIELDS])
    kept.pop("truncated", None)
    limit = MAX_EVENT_BYTES // 16
    while True:
        short = {name: _shortened(value, limit) for name, value in fields.items()}
        # The mark first: whoever reads this back makes a bounded copy, too.
        short["metadata"] = {"truncated": True, **_shortened(json_safe(kept), limit)}
        line = _encoder.encode({"event_type": event_type, **short})
        if len(line) <= MAX_EVENT_BYTES or not limit:
            return line
        limit //= 2


def _shortened(value: Any, limit: int) -> Any:
    """Return a copy in which every text and collection has at most `limit` characters or items."""
    if isinstance(value, str):
        return safe_text(value, limit)
    if isinstance(value, dict):
        items = list(cast("dict[str, Any]", value).items())[:limit]
        return {safe_text(key, limit): _shortened(item, limit) for key, item in items}
    if isinstance(value, list):
        return [_shortened(item, limit) for item in value[:limit]]
    return value
