"""The fold without records: the same figures, in a fraction of the memory."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.correlation import CorrelatedFigures, CorrelatedSession, Correlation
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeStarted,
    NodeStatus,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
STATUSES: st.SearchStrategy[NodeStatus] = st.sampled_from(["ok", "failed", "skipped", "cancelled"])


@st.composite
def events(draw: st.DrawFn) -> Event:
    base: dict[str, Any] = {
        "session_id": draw(st.sampled_from(["a", "b", None])),
        "timestamp": NOON + timedelta(seconds=draw(st.integers(0, 50))),
    }
    of_skill: dict[str, Any] = {**base, "skill_name": "k", "invocation_id": draw(st.sampled_from(["i", "j"]))}
    of_run: dict[str, Any] = {**base, "workflow_id": "w", "run_id": draw(st.sampled_from(["r", "q", None]))}
    of_node: dict[str, Any] = {
        **of_run,
        "node_id": draw(st.sampled_from("nm")),
        "attempt": draw(st.integers(0, 3)),
    }
    seconds = draw(st.none() | st.integers(0, 9).map(float))
    return draw(
        st.sampled_from(
            [
                SkillStarted(**of_skill),
                SkillCompleted(**of_skill, duration_seconds=seconds),
                WorkflowStarted(**of_run),
                WorkflowCompleted(**of_run, duration_seconds=seconds),
                NodeStarted(**of_node),
                NodeCompleted(**of_node, duration_seconds=seconds, status=draw(STATUSES)),
            ]
        )
    )


def without_records(session: CorrelatedSession) -> CorrelatedSession:
    session.skill_invocations, session.workflow_events = [], []
    return session


@settings(max_examples=200, deadline=None)
@given(st.lists(events(), max_size=40))
def test_figures_do_not_depend_on_records(told: list[Event]) -> None:
    """Without records a fold gives the very figures that it gives with them."""
    with_records, figures_only = Correlation(), CorrelatedFigures()
    with_records.add_all(told)
    figures_only.add_all(told)
    expected = {name: without_records(each) for name, each in with_records.sessions().items()}
    assert figures_only.sessions() == figures_only.all_figures() == expected


def test_a_capture_without_records_tells_of_the_moment_it_was_made() -> None:
    """What is folded after capturing does not show in what the capture makes."""
    correlation = CorrelatedFigures()
    correlation.add(SkillStarted(session_id="s", skill_name="k", invocation_id="i", timestamp=NOON))
    capture = correlation.capture("s")
    assert capture is not None
    correlation.add(SkillCompleted(session_id="s", skill_name="k", invocation_id="i", timestamp=NOON))
    assert capture().skills_ended == 0


def test_without_records_none_is_dropped() -> None:
    """What is not kept on purpose is not told of as dropped."""
    correlation = CorrelatedFigures(max_records=4)
    correlation.add_all(
        SkillStarted(session_id="s", skill_name="k", invocation_id=f"i{n}", timestamp=NOON) for n in range(99)
    )
    figures = correlation.figures("s")
    assert figures is not None
    assert (figures.skills, figures.records_dropped, correlation.dropped) == (99, 0, 0)


def test_the_collector_does_not_walk_over_sessions() -> None:
    """Of a session with a run and a node the garbage collector looks at no more than two things."""
    correlation = CorrelatedFigures(None, None)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(1_000):
        named: dict[str, Any] = {"session_id": f"s{number}", "workflow_id": "w", "run_id": f"r{number}"}
        correlation.add(WorkflowStarted(**named, timestamp=NOON))
        correlation.add(NodeStarted(**named, node_id="n", timestamp=NOON))
    gc.collect()
    assert len(gc.get_objects()) - before < 2_500


@pytest.mark.parametrize(
    ("status", "success", "failed"), [("ok", False, 1), ("skipped", False, 1), ("ok", True, 0)]
)
def test_what_mirrors_an_event_is_folded_as_it(status: str, success: bool, failed: int) -> None:
    """A look-alike of an event is read attribute by attribute; its worse half holds, as an event's does."""

    class LookAlike:
        session_id, timestamp, run_id, node_id, attempt = "s", NOON, "r", "n", 1
        duration_seconds = None

    told: Any = LookAlike()
    told.status, told.success = status, success
    correlation = CorrelatedFigures()
    assert not correlation.add(told)
    assert correlation.sessions() == {}
    correlation.read_as({LookAlike: NodeCompleted})
    correlation.add(told)
    figures = correlation.figures("s")
    assert figures is not None
    assert figures.workflow_nodes_failed == failed


def test_what_mirrors_an_event_may_tell_its_time_anywhere() -> None:
    """Times of any offset are compared as instants, and come out in UTC."""

    class LookAlike:
        session_id, skill_name, invocation_id = "s", "k", "i"
        timestamp = datetime.fromisoformat("2025-06-01T14:00:00+02:00")

    told: Any = LookAlike()
    correlation = CorrelatedFigures()
    correlation.read_as({LookAlike: SkillStarted})
    correlation.add(told)
    figures = correlation.figures("s")
    assert figures is not None
    assert figures.start_time == NOON.isoformat()


def test_the_evicted_are_told() -> None:
    """Who evicts sessions can be told the figures of each, as they were."""
    told: list[CorrelatedSession] = []
    correlation = CorrelatedFigures(max_sessions=1, on_evict=told.append)
    for name in "ab":
        correlation.add(SkillStarted(session_id=name, skill_name="k", invocation_id=name, timestamp=NOON))
    assert [(each.session_id, each.skills) for each in told] == [("a", 1)]
    assert list(correlation.all_figures()) == ["b"]
