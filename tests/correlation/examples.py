"""Events of skills, runs and nodes at chosen seconds, and a strategy that draws any of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    NodeStatus,
    SkillCompleted,
    SkillFollowedUp,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def skill(
    start: float, end: float | None = None, *, id_: str = "i", session: str | None = "s"
) -> list[Event]:
    header: dict[str, Any] = {"session_id": session, "skill_name": "run", "invocation_id": id_}
    events: list[Event] = [SkillStarted(**header, timestamp=at(start), workflow_path="daily")]
    if end is not None:
        events.append(SkillCompleted(**header, timestamp=at(end), duration_seconds=end - start))
    return events


def run(
    start: float, end: float | None = None, *, id_: str | None = "r", session: str | None = "s"
) -> list[Event]:
    header: dict[str, Any] = {"session_id": session, "workflow_id": "ci", "run_id": id_}
    events: list[Event] = [WorkflowStarted(**header, timestamp=at(start))]
    if end is not None:
        events.append(WorkflowCompleted(**header, timestamp=at(end), duration_seconds=end - start))
    return events


def node(
    name: str,
    when: float,
    status: NodeStatus = "ok",
    *,
    attempt: int = 1,
    id_: str | None = "r",
    session: str | None = "s",
) -> NodeCompleted:
    success = status in ("ok", "skipped")
    return NodeCompleted(
        session_id=session, workflow_id="ci", run_id=id_, node_id=name, attempt=attempt, status=status,
        success=success, timestamp=at(when), duration_seconds=1.0,
    )  # fmt: skip


def begun(name: str, when: float, *, attempt: int = 1, id_: str | None = "r") -> NodeStarted:
    return NodeStarted(
        session_id="s", workflow_id="ci", run_id=id_, node_id=name, attempt=attempt, timestamp=at(when)
    )


SECONDS = st.integers(0, 50).map(float)
DURATIONS = st.none() | st.floats(-5, 50) | st.just(float("nan"))
STATUSES: st.SearchStrategy[NodeStatus] = st.sampled_from(["ok", "failed", "skipped", "cancelled"])


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Draw an event of one of few sessions, skills, runs and nodes, so that many events share them."""
    base: dict[str, Any] = {
        "session_id": draw(st.sampled_from(["a", "b", None])),
        "timestamp": at(draw(SECONDS)),
    }
    of_skill: dict[str, Any] = {**base, "skill_name": "k", "invocation_id": draw(st.sampled_from("ij"))}
    of_run: dict[str, Any] = {**base, "workflow_id": "w", "run_id": draw(st.sampled_from(["r", "q", None]))}
    of_node: dict[str, Any] = {
        **of_run,
        "node_id": draw(st.sampled_from("nm")),
        "attempt": draw(st.integers(0, 3)),
    }
    duration = draw(DURATIONS)
    return draw(
        st.sampled_from(
            [
                SkillStarted(**of_skill),
                SkillCompleted(**of_skill, duration_seconds=duration, completed=draw(st.booleans())),
                SkillFollowedUp(**of_skill, action=draw(st.sampled_from("xy"))),
                WorkflowStarted(**of_run),
                WorkflowCompleted(**of_run, duration_seconds=duration),
                NodeStarted(**of_node),
                NodeProgress(**of_node),
                NodeCompleted(**of_node, duration_seconds=duration, status=draw(STATUSES)),
            ]
        )
    )
