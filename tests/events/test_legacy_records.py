"""Converting legacy records to events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from eventbus.errors import DecodeError
from eventbus.events import (
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
    encode,
)
from eventbus.events.legacy_records import skill_events, workflow_events
from eventbus.events.records import SkillInvocation, skill_invocation, workflow_event_record
from eventbus.session import session_scope

INVOCATION: dict[str, Any] = {
    "skill_name": "run", "invoked_at": "2025-06-01T12:00:00+00:00", "workflow_path": "daily",
    "completed": True, "duration_seconds": 2.5, "follow_up_actions": ["git commit"], "error_type": None,
}  # fmt: skip


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def test_an_invocation_record_becomes_its_two_events() -> None:
    """A legacy record gives a start at invoked_at and an end its duration later."""
    started, ended = skill_events([INVOCATION])
    assert isinstance(started, SkillStarted)
    assert isinstance(ended, SkillCompleted)
    assert started.timestamp == datetime(2025, 6, 1, 12, tzinfo=UTC)
    assert (ended.timestamp - started.timestamp).total_seconds() == 2.5
    assert (ended.completed, ended.duration_seconds, ended.follow_up_actions) == (True, 2.5, ("git commit",))
    assert started.invocation_id == ended.invocation_id
    assert started.session_id is ended.session_id is None


@pytest.mark.parametrize(
    ("changes", "events"),
    [
        ({"completed": False, "duration_seconds": None}, 1),
        ({"completed": False, "duration_seconds": 0.0}, 2),
        ({"completed": True, "duration_seconds": None}, 2),
        ({"completed": False, "duration_seconds": None, "error_type": "ValueError"}, 2),
    ],
    ids=["going on", "abandoned at once", "of unknown duration", "failed"],
)
def test_an_invocation_without_a_sign_of_its_end_is_going_on(changes: dict[str, Any], events: int) -> None:
    """An invocation is ended if it is completed or has a duration or an error; otherwise it is going on."""
    assert len(list(skill_events([INVOCATION | changes]))) == events


@pytest.mark.usefixtures("tokyo")
def test_a_naive_time_is_local() -> None:
    """A legacy time without an offset is read in the local time zone."""
    (started, *_) = skill_events([INVOCATION | {"invoked_at": "2025-06-01T21:00:00"}])
    assert started.timestamp == datetime(2025, 6, 1, 12, tzinfo=UTC)
    (event,) = workflow_events([{"event_type": "workflow_started", "timestamp": "2025-06-01T21:00:00"}])
    assert event.timestamp == datetime(2025, 6, 1, 12, tzinfo=UTC)


def test_missing_and_unknown_keys_are_tolerated() -> None:
    """An empty record is an invocation of an unknown skill; unknown keys are ignored."""
    (started,) = skill_events([{}])
    assert started.skill_name == "unknown"
    assert len(list(skill_events([INVOCATION | {"colour": "red", "metadata": {}}]))) == 2
    (event,) = workflow_events([{"event_type": "node_completed", "colour": "red"}])
    assert isinstance(event, NodeCompleted)
    assert (event.workflow_id, event.node_id, event.success) == ("unknown", "unknown", True)


def test_a_record_without_a_readable_time_gets_its_neighbours() -> None:
    """A missing or unreadable time is replaced by the one before it, or by the first readable one."""
    records = [
        {"invoked_at": "soon"},
        INVOCATION,
        {"skill_name": "b"},
        {"invoked_at": 5},
        {"invoked_at": "0001-01-01"},
    ]
    noon = datetime(2025, 6, 1, 12, tzinfo=UTC)
    starts = [event for event in skill_events(records) if isinstance(event, SkillStarted)]
    assert [event.timestamp for event in starts[:4]] == [noon] * 4
    assert len(starts) == 5


def test_equal_invocations_without_ids_stay_apart() -> None:
    """Two equal records without ids are two invocations."""
    ids = {event.invocation_id for event in skill_events([INVOCATION, INVOCATION])}
    assert ids == {"run@2025-06-01T12:00:00+00:00", "run@2025-06-01T12:00:00+00:00#2"}


def test_ids_of_a_record_are_kept() -> None:
    """A record or object with a session and an invocation id keeps them."""
    invocation = SkillInvocation("run", "2025-06-01T12:00:00+00:00", session_id="s", invocation_id="i")
    for item in (invocation, INVOCATION | {"session_id": "s", "invocation_id": "i"}):
        assert {(event.session_id, event.invocation_id) for event in skill_events([item])} == {("s", "i")}


def test_events_are_returned_unchanged() -> None:
    """Events are returned unchanged, the very same objects."""
    skill, workflow = SkillStarted(skill_name="run"), WorkflowStarted(workflow_id="ci")
    assert list(skill_events([skill])) == [skill]
    assert list(workflow_events([workflow])) == [workflow]
    back = list(skill_events([skill_invocation(skill)]))
    assert (back[0].invocation_id, back[0].timestamp) == (skill.invocation_id, skill.timestamp)


def test_a_record_never_takes_the_session_of_its_reader() -> None:
    """A record without a session gives events without one, whatever the reader's session."""
    with session_scope("reader"):
        read = [*skill_events([INVOCATION]), *workflow_events([{"event_type": "workflow_started"}])]
    assert [event.session_id for event in read] == [None, None, None]


def test_a_workflow_record_becomes_the_event_it_was_made_of() -> None:
    """Run, attempt, status and duration are read from the metadata of a record."""
    event = NodeCompleted(
        session_id="s", workflow_id="ci", run_id="r", node_id="tests", attempt=2, status="failed",
        success=False, duration_seconds=0.0, error_type="ValueError", metadata={"own": 1},
    )  # fmt: skip
    (read,) = workflow_events([workflow_event_record(event)])
    assert isinstance(read, NodeCompleted)
    assert workflow_event_record(read) == workflow_event_record(event)
    assert (read.run_id, read.attempt, read.status, read.duration_seconds) == ("r", 2, "failed", 0.0)


def test_the_wire_form_of_an_event_is_read_too() -> None:
    """A decoded line of the event log is a record."""
    import msgspec

    event = WorkflowCompleted(session_id="s", workflow_id="ci", run_id="r", duration_seconds=3.0)
    assert list(workflow_events([msgspec.json.decode(encode(event))])) == [event]


def test_the_legacy_record_of_a_failed_node_is_a_failed_node() -> None:
    """A legacy record says only in ``metadata.success`` that its node failed."""
    metadata = {"success": False, "duration_seconds": 1.5, "error_type": "RuntimeError"}
    record = {"event_type": "node_completed", "workflow_id": "crackerjack", "node_id": "tests",
              "timestamp": "2025-06-01T12:00:00", "session_id": "s", "metadata": metadata}  # fmt: skip
    (event,) = workflow_events([record])
    assert isinstance(event, NodeCompleted)
    assert (event.status, event.duration_seconds, event.error_type) == ("failed", 1.5, "RuntimeError")


@dataclass
class ForeignEvent:
    """An event of another library."""

    event_type: str
    node_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """Return it as a record."""
        return {
            "event_type": self.event_type,
            "workflow_id": "w",
            "node_id": self.node_id,
            "metadata": self.metadata,
        }


def test_an_object_with_to_dict_is_read() -> None:
    """An object with a `to_dict` is read as the record that it returns."""
    (event,) = workflow_events([ForeignEvent("node_started", "tests")])
    assert isinstance(event, NodeStarted)
    assert (event.workflow_id, event.node_id) == ("w", "tests")


def test_other_types_of_event_are_left_out() -> None:
    """Records of other types are ignored."""
    assert list(workflow_events([{"event_type": "node_progress"}, {"event_type": "coffee"}, {}])) == []


@pytest.mark.parametrize(
    ("read", "item", "message"),
    [
        (skill_events, {"duration_seconds": "long"}, "item 1: .*duration_seconds"),
        (skill_events, {"follow_up_actions": 3}, "item 1: .*follow_up_actions"),
        (skill_events, 7, "item 1 is not a skill invocation: int"),
        (workflow_events, "x", "item 1 is not a workflow event: str"),
        (
            workflow_events,
            {"event_type": "node_completed", "metadata": {"status": "odd"}},
            "item 1: .*status",
        ),
    ],
)
def test_a_wrong_type_is_one_clear_error(
    read: Callable[[list[Any]], Iterator[Any]], item: Any, message: str
) -> None:
    """A value of the wrong type is an error that names the item."""
    good = INVOCATION if read is skill_events else {"event_type": "workflow_started"}
    with pytest.raises(DecodeError, match=message):
        list(read([good, item]))


@pytest.mark.parametrize("duration", [1e300, -5.0])
def test_an_impossible_duration_ends_where_it_began(duration: float) -> None:
    """A negative duration, or one beyond the calendar, gives an end at the time of the start."""
    started, ended = skill_events([INVOCATION | {"duration_seconds": duration}])
    assert ended.timestamp == started.timestamp
