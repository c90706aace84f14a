"""The event classes and their wire form."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventbus.events
from eventbus import (
    DecodeError,
    Event,
    EventsLost,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    NodeStarted,
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
    decode,
    encode,
    encode_lines,
    event_types,
    session_scope,
)
from eventbus.events import MAX_EVENT_BYTES

HAPPENED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
BASE: dict[str, Any] = {"session_id": "abc123", "timestamp": HAPPENED, "metadata": {"host": "ci"}}
NODE: dict[str, Any] = {**BASE, "workflow_id": "ci", "run_id": "r1", "node_id": "tests", "attempt": 2}
BASE_LINE = '"session_id":"abc123","timestamp":"2026-01-02T03:04:05.678901Z","metadata":{"host":"ci"}'
NODE_LINE = BASE_LINE + ',"workflow_id":"ci","run_id":"r1","node_id":"tests","attempt":2'

GOLDEN: list[tuple[Event, str, str]] = [
    (Event(**BASE), "event", BASE_LINE),
    (
        SkillEvent(**BASE, skill_name="run", invocation_id="i1", workflow_path="daily"),
        "skill_event",
        BASE_LINE + ',"skill_name":"run","invocation_id":"i1","workflow_path":"daily"',
    ),
    (
        SkillStarted(**BASE, skill_name="run", invocation_id="i1"),
        "skill_started",
        BASE_LINE + ',"skill_name":"run","invocation_id":"i1","workflow_path":null',
    ),
    (
        SkillFollowedUp(**BASE, skill_name="run", invocation_id="i1", action="git commit"),
        "skill_followed_up",
        BASE_LINE + ',"skill_name":"run","invocation_id":"i1","workflow_path":null,"action":"git commit"',
    ),
    (
        SkillCompleted(
            **BASE,
            skill_name="run",
            invocation_id="i1",
            completed=False,
            duration_seconds=0.0,
            follow_up_actions=("git commit",),
            error_type="OSError",
        ),
        "skill_completed",
        BASE_LINE + ',"skill_name":"run","invocation_id":"i1","workflow_path":null,"completed":false,'
        '"duration_seconds":0.0,"follow_up_actions":["git commit"],"error_type":"OSError"',
    ),
    (
        WorkflowEvent(**BASE, workflow_id="ci"),
        "workflow_event",
        BASE_LINE + ',"workflow_id":"ci","run_id":null',
    ),
    (
        WorkflowStarted(**BASE, workflow_id="ci", run_id="r1", nodes=("a", "b")),
        "workflow_started",
        BASE_LINE + ',"workflow_id":"ci","run_id":"r1","nodes":["a","b"]',
    ),
    (
        WorkflowCompleted(
            **BASE, workflow_id="ci", run_id="r1", status="failed", success=False, duration_seconds=1.5
        ),
        "workflow_completed",
        BASE_LINE + ',"workflow_id":"ci","run_id":"r1","status":"failed","success":false,'
        '"duration_seconds":1.5,"error_type":null',
    ),
    (NodeEvent(**NODE), "node_event", NODE_LINE),
    (NodeStarted(**NODE), "node_started", NODE_LINE),
    (
        NodeProgress(**NODE, completed=1, total=4, message="half"),
        "node_progress",
        NODE_LINE + ',"completed":1,"total":4,"message":"half"',
    ),
    (
        NodeCompleted(**NODE, status="skipped", duration_seconds=0.25),
        "node_completed",
        NODE_LINE + ',"status":"skipped","success":true,"duration_seconds":0.25,'
        '"error_type":null,"error_message":null',
    ),
    (
        SessionCorrelated(
            **BASE,
            skills=1,
            skills_completed=1,
            workflows=1,
            nodes_completed=2,
            nodes_failed=0,
            total_skill_duration=1.5,
            total_workflow_duration=2.5,
            open=False,
        ),
        "session_correlated",
        BASE_LINE + ',"skills":1,"skills_completed":1,"workflows":1,"nodes_completed":2,"nodes_failed":0,'
        '"total_skill_duration":1.5,"total_workflow_duration":2.5,"open":false',
    ),
    (
        PatternDetected(**BASE, pattern="p", message="m"),
        "pattern_detected",
        BASE_LINE + ',"pattern":"p","message":"m"',
    ),
    (SessionLinked(**BASE, other="job"), "session_linked", BASE_LINE + ',"other":"job"'),
    (
        EventsLost(**BASE, count=3, first_seq=4, last_seq=6),
        "events_lost",
        BASE_LINE + ',"count":3,"first_seq":4,"last_seq":6',
    ),
    (
        SubscriberFailed(**BASE, subscriber="s", error_type="E", quarantined=True),
        "subscriber_failed",
        BASE_LINE + ',"subscriber":"s","error_type":"E","quarantined":true',
    ),
    (
        UnknownEvent(**BASE, unknown_type="deploy_finished", fields={"target": "prod", "n": 1}),
        "deploy_finished",
        BASE_LINE + ',"target":"prod","n":1',
    ),
]


class _DeployFinished(Event, frozen=True, kw_only=True):
    target: str
    payload: Any = None


# Golden lines.


@pytest.mark.parametrize(("event", "wire_name", "rest"), GOLDEN, ids=[each[1] for each in GOLDEN])
def test_golden(event: Event, wire_name: str, rest: str) -> None:
    """An event's line never changes, byte for byte, and decodes to the event."""
    line = f'{{"event_type":"{wire_name}",{rest}}}'.encode()
    assert encode(event) == line
    assert decode(line) == decode(line.decode()) == decode(line + b"\n") == event
    assert type(decode(line)) is type(event)


def test_every_class_has_its_golden_line() -> None:
    """Every event class of the vocabulary has a golden line."""
    vocabulary = {
        cls
        for _, cls in inspect.getmembers(eventbus.events, inspect.isclass)
        if issubclass(cls, Event) and not cls.__name__.startswith("_")
    }
    assert {type(event) for event, _, _ in GOLDEN} == vocabulary
    assert {cls.__name__ for cls in vocabulary} <= set(eventbus.__all__)


def test_lines() -> None:
    """Each event is one JSON object on one line, ended by a line feed, whatever text it contains."""
    events = [PatternDetected(pattern="a\nb\r\n\u2028", message="\x1b[31m\x00"), Event()]
    lines = encode_lines(events)
    assert lines.count(b"\n") == 2
    assert lines.endswith(b"\n")
    assert [decode(line) for line in lines.splitlines()] == events
    assert encode_lines([]) == b""


def test_wire_names() -> None:
    """The wire name of a class is its name in snake case."""

    class HTTPServerStarted(Event, frozen=True):
        pass

    class Node2Done(Event, frozen=True):
        pass

    assert event_types()["http_server_started"] is HTTPServerStarted
    assert event_types()["node2_done"] is Node2Done
    assert b'"event_type":"http_server_started"' in encode(HTTPServerStarted())


def test_a_class_of_ones_own() -> None:
    """A subclass of `Event` is known to `decode` as soon as it is defined, without registration."""
    line = b'{"event_type":"made_just_now","n":1}'
    assert isinstance(decode(line), UnknownEvent)

    class MadeJustNow(Event, frozen=True):
        n: int

    event = decode(line)
    assert isinstance(event, MadeJustNow)
    assert event.n == 1


def _add_in_place(metadata: dict[str, Any]) -> None:
    metadata |= {"a": 1}


def test_events_are_frozen() -> None:
    """Neither an event's fields nor the empty metadata that events share can be changed."""
    event = NodeStarted(workflow_id="ci", node_id="tests")
    with pytest.raises(AttributeError):
        event.node_id = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="frozen"):
        event.metadata["late"] = 1
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda metadata: metadata.update(a=1),
        lambda metadata: metadata.setdefault("a", 1),
        _add_in_place,
    ]
    for change in changes:
        with pytest.raises(TypeError, match="frozen"):
            change(event.metadata)
    assert Event().metadata == {}
    with pytest.raises(TypeError):
        cast("Any", NodeStarted)("ci", "tests")


def test_ids() -> None:
    """Each skill invocation gets an id of its own, of 12 hexadecimal digits."""
    ids = {SkillStarted(skill_name="run").invocation_id for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(each) == 12 and int(each, 16) >= 0 for each in ids)


@pytest.mark.parametrize(
    ("given_status", "given_success", "status", "success"),
    [
        ("ok", True, "ok", True),
        ("ok", False, "failed", False),
        ("failed", True, "failed", False),
        ("cancelled", True, "cancelled", False),
        ("cancelled", False, "cancelled", False),
    ],
)
def test_the_worse_one_holds(given_status: Any, given_success: bool, status: str, success: bool) -> None:
    """If status and success contradict each other, the worse one holds, built or decoded."""
    for build in (NodeCompleted, WorkflowCompleted):
        fields: dict[str, Any] = {"workflow_id": "ci", "status": given_status, "success": given_success}
        if build is NodeCompleted:
            fields["node_id"] = "tests"
        event = build(**fields)
        assert (event.status, event.success) == (status, success)
        read = decode(json.dumps({"event_type": event.__struct_config__.tag, **fields}))
        assert isinstance(read, build)
        assert (read.status, read.success) == (status, success)


def test_a_skipped_node_is_a_success() -> None:
    """A skipped node is a success unless it is built with `success=False`."""
    skipped = NodeCompleted(workflow_id="ci", node_id="tests", status="skipped")
    assert (skipped.status, skipped.success) == ("skipped", True)
    failed = NodeCompleted(workflow_id="ci", node_id="tests", status="skipped", success=False)
    assert (failed.status, failed.success) == ("failed", False)


# Metadata.


@pytest.mark.parametrize("given_metadata", [{}, {"a": [1, {"b": 2}]}])
def test_metadata_is_copied(given_metadata: dict[str, Any]) -> None:
    """An event's metadata is a copy: later changes of the mapping do not reach the event."""
    event = Event(metadata=given_metadata)
    before = encode(event)
    given_metadata["late"] = True
    if "a" in given_metadata:
        given_metadata["a"][1]["b"] = "changed"
    assert encode(event) == before
    assert "late" not in event.metadata


@pytest.mark.parametrize("nothing", [None, [], "", 0, ()])
def test_metadata_that_is_nothing(nothing: Any) -> None:
    """None or an empty value as metadata is empty metadata, also after decoding."""
    event = Event(metadata=nothing)
    assert event.metadata == {}
    assert decode(encode(event)) == event


def test_metadata_that_is_not_a_mapping() -> None:
    """Metadata that is not a mapping is kept under a name, never refused."""
    assert Event(metadata=["a"]).metadata == {"value": ["a"]}  # type: ignore[arg-type]


# Time.


def test_timestamps() -> None:
    """The timestamp is aware and in UTC, in whatever zone it was given."""
    before = datetime.now(UTC)
    assert before <= Event().timestamp <= datetime.now(UTC)
    for zone in (timezone(timedelta(hours=5, minutes=30)), ZoneInfo("America/New_York"), UTC):
        event = Event(timestamp=HAPPENED.astimezone(zone))
        assert event.timestamp == HAPPENED
        assert event.timestamp.tzinfo is UTC
        assert b'"2026-01-02T03:04:05.678901Z"' in encode(event)


@pytest.fixture
def _in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    if not hasattr(time, "tzset"):
        pytest.skip("cannot change the local time zone")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_in_new_york")
@pytest.mark.parametrize("event_type", ["event", "from_elsewhere"])
def test_naive_timestamps(event_type: str) -> None:
    """A naive timestamp is read as local time, built or decoded."""
    naive = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - naive is the point
    in_utc = datetime(2026, 1, 2, 8, 4, 5, tzinfo=UTC)
    assert Event(timestamp=naive).timestamp == in_utc
    read = decode(f'{{"event_type":"{event_type}","timestamp":"2026-01-02T03:04:05"}}')
    assert read.timestamp == in_utc


@pytest.mark.parametrize("event_type", ["event", "from_elsewhere"])
@pytest.mark.parametrize("timestamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_beyond_time(event_type: str, timestamp: str) -> None:
    """A line with a time that UTC cannot express raises `DecodeError`."""
    with pytest.raises(DecodeError):
        decode(f'{{"event_type":"{event_type}","timestamp":"{timestamp}"}}')


# Decoding.


def test_unknown_fields_are_ignored() -> None:
    """Fields that an event's class does not have are ignored."""
    event = decode(b'{"event_type":"node_started","workflow_id":"ci","node_id":"a","colour":"red","x":[1]}')
    assert isinstance(event, NodeStarted)
    assert (event.node_id, event.attempt, event.session_id) == ("a", 1, None)


@pytest.mark.parametrize("unknown", ["deploy_started", "Unknown", "", "unknown_event"])
def test_unknown_types_are_kept(unknown: str) -> None:
    """An event of an unknown type is kept whole, and encodes to the line it came from."""
    original = {
        "event_type": unknown,
        "session_id": "s",
        "timestamp": "2026-01-02T03:04:05Z",
        "metadata": {"big": 2**70, "f": 1.5},
        "target": "prod",
        "deep": {"list": [1, None, True, {"unknown_type": "no"}]},
        "fields": 1,
        "unknown_type": "mine",
    }
    event = decode(json.dumps(original))
    assert isinstance(event, UnknownEvent)
    assert event.unknown_type == unknown
    assert json.loads(encode(event)) == original
    assert decode(encode(event)) == event


def test_the_readers_session_is_not_the_events() -> None:
    """An event decoded from a line without a session has none, whatever the reader's session."""
    lines = [
        b'{"event_type":"event"}',
        b'{"event_type":"event","metadata":{"session_id":"no"}}',
        b'{"event_type":"from_elsewhere","note":"session_id"}',
        b'{"event_type":"event","session_id":null}',
    ]
    with session_scope("the reader"):
        assert [decode(line).session_id for line in lines] == [None] * 4
        assert decode(b'{"event_type":"event","session_id":"its own"}').session_id == "its own"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"event"',
        b"{}",
        b'{"event_type":null}',
        b'{"event_type":1}',
        b'{"event_type":"event"',
        b'{"event_type":"event"}{}',
        b'{"event_type":"event","session_id":1}',
        b'{"event_type":"event","timestamp":"yesterday"}',
        b'{"event_type":"event","metadata":[]}',
        b'{"event_type":"from_elsewhere","metadata":[]}',
        b'{"event_type":"from_elsewhere","timestamp":1.5e300}',
        b'{"event_type":"node_started","workflow_id":"ci"}',
        b'{"event_type":"node_completed","workflow_id":"ci","node_id":"a","status":"weird"}',
        b'{"event_type":"event","metadata":{"a":"\xff"}}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event_type":"event","metadata":' + b'{"a":' * 100_000,
    ],
    ids=lambda line: line[:40],
)
def test_no_event(line: bytes) -> None:
    """A line that is not a JSON object, has no `event_type` or has a field of the wrong type raises
    `DecodeError`.
    """
    with pytest.raises(DecodeError):
        decode(line)
    assert issubclass(DecodeError, ValueError)


@given(position=st.integers(0, 400), byte=st.integers(0, 255), which=st.sampled_from(GOLDEN))
def test_a_damaged_line(position: int, byte: int, which: tuple[Event, str, str]) -> None:
    """A line with a damaged byte is decoded or raises `DecodeError`, and nothing else."""
    line = bytearray(encode(which[0]))
    line[position % len(line)] = byte
    try:
        event = decode(bytes(line))
    except DecodeError:
        return
    assert decode(encode(event)) == event


# Encoding any value.


class _Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("hands off")


@pytest.mark.parametrize(
    "payload",
    [
        object(),
        _Hostile(),
        {_Hostile(): 1},
        {(1, 2): 3},
        float("nan"),
        2**70,
        "\ud800",
        [threading.Lock()],
        b"bytes",
        {1, 2},
        _Hostile,
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_encode_never_raises(payload: Any) -> None:
    """Encoding never raises: values that JSON cannot express are replaced, and the rest is kept."""
    for event in (
        _DeployFinished(target="prod", payload=payload),
        UnknownEvent(unknown_type="elsewhere", fields={"target": "prod", "payload": payload}),
    ):
        written = json.loads(encode(event))
        assert written["event_type"] == getattr(event, "unknown_type", "_deploy_finished")
        assert written["target"] == "prod"
        assert "payload" in written


def test_encode_a_forged_timestamp() -> None:
    """An unknown event whose fields replace its session and timestamp still encodes."""
    event = UnknownEvent(unknown_type="elsewhere", fields={"timestamp": object(), "session_id": 1})
    assert json.loads(encode(event))["event_type"] == "elsewhere"


def test_encode_a_cycle() -> None:
    """A field that contains itself is encoded to a limited depth, and marked."""
    cycle: list[Any] = []
    cycle.append(cycle)
    line = encode(_DeployFinished(target="prod", payload=cycle))
    assert "truncated" in json.loads(line.decode())["payload"].__repr__()
    cycle.clear()


def _tree(fan_out: int, depth: int, leaf: str) -> Any:
    return [_tree(fan_out, depth - 1, leaf) for _ in range(fan_out)] if depth else leaf


BIG: dict[str, dict[str, Any]] = {
    "a long text": {"node_id": "x" * 100_000},
    "a long session": {"session_id": "s" * 100_000},
    "much metadata": {"metadata": {f"key {n}": "y" * 1_000 for n in range(500)}},
    "a bushy tree": {"metadata": {"tree": _tree(3, 7, "x" * 30)}},
    "a binary tree": {"metadata": {"tree": _tree(2, 11, "x" * 40)}},
    "wide text": {"metadata": {"text": "\N{GRINNING FACE}" * 30_000}},
    "escapes": {"metadata": {"text": "\x00" * 30_000}},
    "a mark of its own": {
        "metadata": {"truncated": "mine", "text": "x" * 32_000, "more": "x" * 40_000, "z": "x" * 999}
    },
}


@pytest.mark.parametrize("what", BIG)
def test_truncated(what: str) -> None:
    """An event of more than `MAX_EVENT_BYTES` is truncated, with `"truncated": true` in its metadata."""
    fields: dict[str, Any] = {"workflow_id": "ci", "node_id": "tests", "timestamp": HAPPENED, **BIG[what]}
    line = encode(NodeCompleted(**fields, success=False))
    assert len(line) <= MAX_EVENT_BYTES
    event = decode(line)
    assert isinstance(event, NodeCompleted)
    assert event.metadata["truncated"] is True
    assert (event.timestamp, event.success, event.status) == (HAPPENED, False, "failed")
    assert event.node_id.startswith(("tests", "xxx"))


def test_a_fitting_event_is_not_marked() -> None:
    """An event that fits is encoded whole, without a mark."""
    event = PatternDetected(pattern="p", message="x" * 65_000)
    assert decode(encode(event)) == event
    assert b"truncated" not in encode(event)


@pytest.mark.parametrize(
    "fields",
    [{"text": "y" * 100_000}, {f"field {n}": n for n in range(20_000)}, {"tree": _tree(2, 11, "x" * 40)}],
    ids=["a text", "many fields", "a tree"],
)
def test_an_unknown_one_keeps_its_type(fields: dict[str, Any]) -> None:
    """A truncated event of an unknown type keeps its type, and is marked."""
    line = encode(UnknownEvent(unknown_type="elsewhere", fields=fields))
    assert len(line) <= MAX_EVENT_BYTES
    event = decode(line)
    assert isinstance(event, UnknownEvent)
    assert event.unknown_type == "elsewhere"
    assert event.metadata["truncated"] is True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    metadata=st.dictionaries(st.text(), json_values, max_size=4),
    session_id=st.none() | st.text(),
    timestamp=st.integers(-(2**31), 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    message=st.none() | st.text(),
)
def test_round_trip(metadata: Any, session_id: str | None, timestamp: datetime, message: str | None) -> None:
    """An event with any JSON values decodes to an equal event."""
    event = NodeProgress(
        session_id=session_id,
        timestamp=timestamp,
        metadata=metadata,
        workflow_id="ci",
        node_id="tests",
        message=message,
    )
    assert decode(encode(event)) == event
    assert msgspec.json.decode(encode(event))["event_type"] == "node_progress"
