"""P23: every later release reads the files that a release has written, and older ones read ours.

`golden/<schema version>.jsonl` is a segment as a release with that schema wrote it. Never change such a
file: add the file of the next version beside it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus import (
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
    encode,
    event_types,
)
from eventbus.history import EventLog
from tests.history.log_examples import Segments

GOLDEN = Path(__file__).parent / "golden"
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def base(number: int, **fields: Any) -> dict[str, Any]:
    """Return the fields of every event; some times have a fraction of a second."""
    return {"session_id": "7f3a", "timestamp": WHEN + timedelta(microseconds=number * 99_999)} | fields


def skill(number: int, **fields: Any) -> dict[str, Any]:
    return base(number, skill_name="crackerjack-run", invocation_id="a1b2c3", **fields)


def run(number: int, **fields: Any) -> dict[str, Any]:
    return base(number, workflow_id="crackerjack", run_id="r1", **fields)


VERSION_1: list[Event] = [
    Event(**base(1, session_id=None, timestamp=WHEN.replace(microsecond=0))),
    SkillEvent(**skill(2, workflow_path=None)),
    SkillStarted(**skill(3, workflow_path="comprehensive")),
    WorkflowEvent(**base(4, workflow_id="crackerjack", run_id=None)),
    WorkflowStarted(**run(5, nodes=("fast_hooks", "tests"))),
    NodeEvent(**run(6, node_id="tests")),
    NodeStarted(**run(7, node_id="tests", attempt=2)),
    NodeProgress(**run(8, node_id="tests", completed=1.5, total=10, message="näher \u2028 \U0001f600")),
    NodeCompleted(
        **run(9, node_id="tests", duration_seconds=0.0, metadata={"deep": [{"x": None}, 1.5, True]})
    ),
    NodeCompleted(**run(10, node_id="tests", success=False, error_type="E", error_message='"\\\n')),
    NodeCompleted(**run(11, node_id="skipped", status="skipped")),
    WorkflowCompleted(**run(12, status="cancelled", success=False, duration_seconds=22.4, error_type="E")),
    SkillCompleted(**skill(13, completed=False, duration_seconds=3, follow_up_actions=("a", "b"))),
    SessionCorrelated(
        **base(14),
        skills=1,
        skills_completed=1,
        workflows=1,
        nodes_completed=2,
        nodes_failed=1,
        total_skill_duration=1.5,
        total_workflow_duration=0.0,
        open=True,
    ),
    PatternDetected(**base(15), pattern="interactive_dominated", message="m"),
    EventsLost(**base(16), count=3, first_seq=17, last_seq=19),
    SubscriberFailed(**base(17), subscriber="s", error_type="ValueError", quarantined=True),
    UnknownEvent(**base(18), unknown_type="of_another_program", fields={"target": "prod", "n": 1}),
    SkillFollowedUp(**skill(19, action="git commit")),
    SessionLinked(**base(20), other="ede3534e"),
]
RELEASED = {1: VERSION_1}


def content(version: int) -> bytes:
    return (GOLDEN / f"{version}.jsonl").read_bytes()


@pytest.mark.parametrize("version", RELEASED)
def test_the_files_of_a_release_are_read(segment: Segments, version: int) -> None:
    """Every event of every class is read back equal, without damage."""
    log = EventLog(segment(content(version), with_header=False).parent.parent)
    assert list(log) == RELEASED[version]
    assert log.damage() == []
    assert [record.seq for record in log.records()] == list(range(1, len(RELEASED[version]) + 1))


@pytest.mark.parametrize("version", RELEASED)
def test_a_release_can_read_what_is_written_now(version: int) -> None:
    """Every old field still has its name, type and value; there may be new fields."""
    lines = content(version).removesuffix(b"\n").split(b"\n")[1:]
    for line, event in zip(lines, RELEASED[version], strict=True):
        old, new = json.loads(line), json.loads(encode(event))
        assert {name: new.get(name) for name in old if name != "seq"} == {
            name: value for name, value in old.items() if name != "seq"
        }


def test_a_golden_file_contains_every_class_of_the_vocabulary() -> None:
    """An event of a new class has to be added to the newest golden file."""
    ours = {cls for cls in event_types().values() if cls.__module__.startswith("eventbus.events.")}
    assert ours == {type(event) for event in VERSION_1}


def test_events_of_a_later_version_are_kept(segment: Segments) -> None:
    """Events of unknown types are kept whole, and unknown fields are kept in the record's line."""
    future = [
        b'{"event_type":"segment_started","schema_version":2,"bus_id":"b0","codec":{"name":"x"}}',
        (
            b'{"seq":1,"event_type":"node_completed","session_id":"s","timestamp":"2030-01-02T03:04:05Z",'
            b'"metadata":{},"workflow_id":"w","node_id":"n","cost":{"cpu":1.5},"status":"ok"}'
        ),
        (
            b'{"seq":2,"event_type":"node_paused","session_id":"s","timestamp":"2030-01-02T03:04:06Z",'
            b'"metadata":{"a":1},"workflow_id":"w","node_id":"n","until":null}'
        ),
        (
            b'{"seq":3,"event_type":"node_completed","session_id":"s","timestamp":"2030-01-02T03:04:07Z",'
            b'"metadata":{},"workflow_id":"w","node_id":"n","status":"postponed"}'
        ),
    ]
    log = EventLog(segment(b"\n".join(future) + b"\n", with_header=False).parent.parent)
    completed, paused, postponed = log.records()
    assert [record.line for record in (completed, paused, postponed)] == future[1:]
    assert isinstance(completed.event, NodeCompleted)
    assert (completed.event.node_id, completed.event.success) == ("n", True)
    assert isinstance(paused.event, UnknownEvent)
    assert encode(paused.event) == b"{" + future[2][len(b'{"seq":2,') :]
    assert isinstance(postponed.event, UnknownEvent)  # a value this version's class cannot hold
    assert encode(postponed.event) == b"{" + future[3][len(b'{"seq":3,') :]
    assert log.damage() == []
