"""Events that a subscriber will meet one day: of other versions, with gaps, with strange contents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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
    UnknownEvent,
    WorkflowCompleted,
    WorkflowStarted,
)

__all__ = ["unusual_events", "with_gaps"]


class ForeignSkillStarted(SkillStarted, kw_only=True, frozen=True):
    """An event class of a package that the subscriber does not know."""

    reason: str = ""


class ForeignNodeCompleted(NodeCompleted, kw_only=True, frozen=True):
    """An event class of a package that the subscriber does not know."""

    figures: tuple[float, ...] = ()


class ForeignWorkflowStarted(WorkflowStarted, kw_only=True, frozen=True):
    """An event class of a package that the subscriber does not know."""

    position: int = 0


_TEXTS = (
    "",
    "x" * 5_000,
    "two\nlines\x1b[31m\u202e",
    "sess-\u00fc \U0001f600",
    "../../etc",
    "%s {x}",
    "'; --",
)
_METADATA = {"nested": {"list": [1, None, {"deep": True}]}, "": "", "n": 10**15, "text": _TEXTS[2]}
_TIMES = (datetime(1, 1, 2, tzinfo=UTC), datetime(9_999, 12, 30, tzinfo=UTC))


def unusual_events() -> list[Event]:
    """Return events of every class: with nothing but what is required, and with strange values."""
    return [*_bare(), *_strange(), *_of_other_classes()]


def with_gaps(events: Sequence[Event]) -> list[Event]:
    """Return events of which every third is missing, with an `EventsLost` in its place."""
    return [
        EventsLost(count=1, first_seq=number, last_seq=number) if number % 3 == 1 else event
        for number, event in enumerate(events)
    ]


def _bare() -> list[Event]:
    workflow: dict[str, Any] = {"workflow_id": "w"}
    node: dict[str, Any] = {**workflow, "node_id": "n"}
    return [
        Event(),
        SkillCompleted(skill_name="never started"),
        SkillStarted(skill_name="s"),
        WorkflowCompleted(**workflow),
        WorkflowStarted(**workflow),
        NodeCompleted(**node),
        NodeProgress(**node),
        NodeStarted(**node),
        NodeCompleted(**node, status="cancelled", attempt=3),
        WorkflowCompleted(**workflow, status="cancelled"),
        EventsLost(count=3, first_seq=1, last_seq=3),
    ]


def _strange() -> list[Event]:
    return [
        kind(session_id=text or None, metadata=_METADATA, timestamp=_TIMES[len(text) % 2], **fields)
        for text in _TEXTS
        for kind, fields in _kinds(text)
    ]


def _kinds(text: str) -> list[tuple[type[Event], dict[str, Any]]]:
    run: dict[str, Any] = {"workflow_id": text, "run_id": text}
    node: dict[str, Any] = {**run, "node_id": text, "attempt": 0}
    return [
        (SkillStarted, {"skill_name": text, "invocation_id": text, "workflow_path": text}),
        (WorkflowStarted, {**run, "nodes": (text, text)}),
        (NodeStarted, node),
        (NodeProgress, {**node, "completed": 1e300, "total": 0.0, "message": text}),
        (NodeCompleted, {**node, "duration_seconds": -1.0, "error_type": text, "error_message": text}),
        (WorkflowCompleted, {**run, "duration_seconds": 1e12, "error_type": text}),
        (SkillCompleted, {"skill_name": text, "duration_seconds": 0.0, "follow_up_actions": (text,)}),
    ]


def _of_other_classes() -> list[Event]:
    figures: dict[str, Any] = {
        "skills": 1, "skills_completed": 0, "workflows": 1, "nodes_completed": 2, "nodes_failed": 0,
        "total_skill_duration": 1.0, "total_workflow_duration": 0.0, "open": True,
    }  # fmt: skip
    return [
        UnknownEvent(unknown_type="of_a_newer_version", fields={"node_id": 3, "status": None}),
        ForeignSkillStarted(skill_name="s", reason="lunch"),
        ForeignNodeCompleted(workflow_id="w", node_id="n", figures=(1.0, 2.0)),
        ForeignWorkflowStarted(workflow_id="w", position=2),
        SubscriberFailed(subscriber="another", error_type="ValueError", quarantined=True),
        PatternDetected(pattern="of a newer version", message="unknown"),
        SessionCorrelated(session_id="s", **figures),
    ]
