"""The legacy records of invocations and workflow events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus.events import (
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.events.records import (
    SkillInvocation,
    skill_invocation,
    skill_invocation_record,
    workflow_event_record,
    workflow_event_records,
)
from eventbus.testing import unusual_events

SIX_KEYS = ["event_type", "workflow_id", "node_id", "timestamp", "session_id", "metadata"]
SEVEN_KEYS = [
    "skill_name",
    "invoked_at",
    "workflow_path",
    "completed",
    "duration_seconds",
    "follow_up_actions",
    "error_type",
]


def test_the_record_of_an_invocation_has_exactly_the_seven_legacy_keys() -> None:
    """A record has the seven legacy keys only, without session and id: with one more the legacy reader loads
    nothing.
    """
    invocation = SkillInvocation("s", "2026-01-02T03:04:05", "daily", session_id="abc", invocation_id="1")
    assert list(invocation.to_dict()) == SEVEN_KEYS
    assert skill_invocation_record(invocation) == invocation.to_dict()


def test_an_invocation_record_shares_no_list_with_the_invocation() -> None:
    """Changing a record does not change the invocation."""
    invocation = SkillInvocation("s", "2026-01-02T03:04:05", follow_up_actions=["a"])
    invocation.to_dict()["follow_up_actions"].append("b")
    assert invocation.follow_up_actions == ["a"]


def test_a_started_skill_gives_an_invocation_that_is_going_on() -> None:
    """An invocation made of a start is not completed, and has no duration."""
    event = SkillStarted(skill_name="s", workflow_path="daily", session_id="abc")
    invocation = skill_invocation(event)
    assert (invocation.completed, invocation.duration_seconds) == (False, None)
    assert (invocation.session_id, invocation.invocation_id) == ("abc", event.invocation_id)
    assert datetime.fromisoformat(invocation.invoked_at) == event.timestamp


def test_a_completed_skill_gives_an_invocation_that_began_its_duration_ago() -> None:
    """Without the timestamp of the start, the beginning is computed from the end and the duration."""
    event = SkillCompleted(skill_name="s", duration_seconds=2.5, follow_up_actions=("a",), error_type="E")
    invocation = skill_invocation(event)
    assert datetime.fromisoformat(invocation.invoked_at) == event.timestamp - timedelta(seconds=2.5)
    assert (invocation.completed, invocation.duration_seconds) == (True, 2.5)
    assert (invocation.follow_up_actions, invocation.error_type) == (["a"], "E")


def test_the_timestamp_of_the_start_wins_over_the_computed_one() -> None:
    """The timestamp of the start wins over the computed one, since the wall clock may have been set."""
    began = datetime(2026, 1, 2, tzinfo=UTC)
    assert skill_invocation(SkillCompleted(skill_name="s"), began).invoked_at == began.isoformat()


@pytest.mark.parametrize("duration", [1e300, float("nan"), float("inf")])
def test_an_impossible_duration_is_ignored(duration: float) -> None:
    """If the beginning cannot be computed, the time of the end is used."""
    event = SkillCompleted(skill_name="s", duration_seconds=duration)
    assert skill_invocation(event).invoked_at == event.timestamp.isoformat()


def test_the_record_of_a_workflow_event_has_exactly_the_six_legacy_keys() -> None:
    """The record of a run's event has the six legacy keys, no node, and a time that legacy readers
    understand.
    """
    event = WorkflowStarted(workflow_id="w", run_id="r", session_id="abc", nodes=("a", "b"))
    record = workflow_event_record(event)
    assert list(record) == SIX_KEYS
    assert (record["event_type"], record["workflow_id"], record["node_id"]) == ("workflow_started", "w", None)
    assert record["session_id"] == "abc"
    assert datetime.fromisoformat(record["timestamp"]) == event.timestamp
    assert record["metadata"] == {"run_id": "r", "nodes": ["a", "b"]}


def test_the_outcome_of_a_node_is_in_the_metadata() -> None:
    """Success, duration and error are added to the producer's metadata; a duration of 0.0 is, too."""
    event = NodeCompleted(
        workflow_id="w",
        run_id="r",
        node_id="n",
        attempt=2,
        status="failed",
        success=False,
        duration_seconds=0.0,
        error_type="ValueError",
        error_message="no",
        metadata={"mine": 1},
    )
    assert workflow_event_record(event)["metadata"] == {
        "mine": 1,
        "run_id": "r",
        "attempt": 2,
        "status": "failed",
        "success": False,
        "duration_seconds": 0.0,
        "error_type": "ValueError",
        "error_message": "no",
    }


def test_unknown_values_are_left_out_of_a_record() -> None:
    """Fields that are None are left out of a record."""
    metadata = workflow_event_record(WorkflowCompleted(workflow_id="w"))["metadata"]
    assert metadata == {"status": "ok", "success": True}


def test_a_field_wins_over_metadata_of_the_same_name() -> None:
    """An event's field wins over the producer's metadata of the same name."""
    event = NodeCompleted(workflow_id="w", node_id="n", success=False, metadata={"success": True})
    assert workflow_event_record(event)["metadata"]["success"] is False


def test_a_record_is_json_and_shares_nothing_with_the_event() -> None:
    """A record is always JSON-safe, and changing it does not change the event."""
    event = NodeStarted(workflow_id="w", node_id="n", metadata={"deep": {"set": {1}, "nan": float("nan")}})
    record = workflow_event_record(event)
    json.dumps(record, allow_nan=False)
    record["metadata"]["deep"]["set"] = "changed"
    assert workflow_event_record(event)["metadata"]["deep"]["set"] == [1]


def test_the_fields_of_a_users_own_event_class_are_kept() -> None:
    """The further fields of a user's subclass are added to the metadata."""

    class NodeCached(NodeStarted, frozen=True, kw_only=True):
        cache: dict[str, Any]

    record = workflow_event_record(NodeCached(workflow_id="w", node_id="n", cache={"hit": True}))
    assert record["event_type"] == "node_cached"
    assert record["metadata"] == {"attempt": 1, "cache": {"hit": True}}


def test_progress_is_a_record_too() -> None:
    """The fields of progress are added to the metadata."""
    event = NodeProgress(workflow_id="w", node_id="n", completed=1, total=3, message="one")
    assert workflow_event_record(event)["metadata"] == {
        "attempt": 1,
        "completed": 1,
        "total": 3,
        "message": "one",
    }


def test_records_of_several_events_are_those_of_each() -> None:
    """It makes no difference whether records are made together, whatever the events contain."""
    events: list[WorkflowEvent] = [
        each for each in unusual_events() * 100 if isinstance(each, WorkflowEvent)
    ]  # more than are encoded at once
    large = NodeCompleted(workflow_id="w", node_id="n", error_message="x" * 100_000, metadata={"a": "b"})
    wide = NodeCompleted(workflow_id="w", node_id="n", error_message="\x00" * 50_000)
    for some in ([], events, [*events[:20], large], [*events[:20], wide]):
        assert workflow_event_records(some) == list(map(workflow_event_record, some))
