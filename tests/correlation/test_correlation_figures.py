"""Folding without records gives the same figures in a fraction of the memory."""

from __future__ import annotations

import gc
import sys
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.correlation import CorrelatedFigures, CorrelatedSession, Correlation
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowStarted,
)
from tests.correlation.examples import NOON, events


def without_records(session: CorrelatedSession) -> CorrelatedSession:
    session.skill_invocations, session.workflow_events = [], []
    return session


@given(st.lists(events(), max_size=40))
def test_figures_do_not_depend_on_records(drawn: list[Event]) -> None:
    """A fold without records gives the same figures as one with them."""
    with_records, figures_only = Correlation(), CorrelatedFigures()
    with_records.add_all(drawn)
    figures_only.add_all(drawn)
    expected = {name: without_records(each) for name, each in with_records.sessions().items()}
    assert figures_only.sessions() == figures_only.all_figures() == expected


def test_a_capture_without_records_is_of_the_moment_it_was_made() -> None:
    """A captured session does not change with later events."""
    correlation = CorrelatedFigures()
    correlation.add(SkillStarted(session_id="s", skill_name="k", invocation_id="i", timestamp=NOON))
    capture = correlation.capture("s")
    assert capture is not None
    correlation.add(SkillCompleted(session_id="s", skill_name="k", invocation_id="i", timestamp=NOON))
    assert capture().skills_ended == 0


def test_without_records_none_is_dropped() -> None:
    """Records that are not kept on purpose do not count as dropped."""
    correlation = CorrelatedFigures(max_records=4)
    correlation.add_all(
        SkillStarted(session_id="s", skill_name="k", invocation_id=f"i{n}", timestamp=NOON) for n in range(99)
    )
    figures = correlation.figures("s")
    assert figures is not None
    assert (figures.skills, figures.records_dropped, correlation.dropped) == (99, 0, 0)


def _tracked() -> int:
    gc.collect()
    return sum(sys.version_info < (3, 14) or type(each) is not dict for each in gc.get_objects())


def test_the_collector_does_not_walk_over_sessions() -> None:
    """Of a session with a run and a node the garbage collector tracks at most two objects; since Python
    3.14 it also tracks each dict, even one that can be in no cycle.
    """
    correlation = CorrelatedFigures(None, None)
    before = _tracked()
    for number in range(1_000):
        named: dict[str, Any] = {"session_id": f"s{number}", "workflow_id": "w", "run_id": f"r{number}"}
        correlation.add(WorkflowStarted(**named, timestamp=NOON))
        correlation.add(NodeStarted(**named, node_id="n", timestamp=NOON))
    assert _tracked() - before < 2_500


@pytest.mark.parametrize(
    ("status", "success", "failed"), [("ok", False, 1), ("skipped", False, 1), ("ok", True, 0)]
)
def test_a_raw_event_is_folded_like_an_event(status: str, success: bool, failed: int) -> None:
    """A raw event is folded attribute by attribute; the worse of status and success holds, as in an event."""

    class RawEvent:
        session_id, timestamp, run_id, node_id, attempt = "s", NOON, "r", "n", 1
        workflow_id, duration_seconds = "w", None

    event: Any = RawEvent()
    event.status, event.success = status, success
    correlation = CorrelatedFigures()
    assert not correlation.add(event)
    assert correlation.sessions() == {}
    correlation.read_as({RawEvent: NodeCompleted})
    correlation.add(event)
    figures = correlation.figures("s")
    assert figures is not None
    assert figures.workflow_nodes_failed == failed


def test_a_raw_event_may_have_any_offset() -> None:
    """A raw event's time may have any offset; the session's times are in UTC."""

    class RawEvent:
        session_id, skill_name, invocation_id = "s", "k", "i"
        timestamp = datetime.fromisoformat("2025-06-01T14:00:00+02:00")

    event: Any = RawEvent()
    correlation = CorrelatedFigures()
    correlation.read_as({RawEvent: SkillStarted})
    correlation.add(event)
    figures = correlation.figures("s")
    assert figures is not None
    assert figures.start_time == NOON.isoformat()


def test_evicted_sessions_are_passed_on() -> None:
    """`on_evict` is called with the figures of each evicted session."""
    evicted: list[CorrelatedSession] = []
    correlation = CorrelatedFigures(max_sessions=1, on_evict=evicted.append)
    for name in "ab":
        correlation.add(SkillStarted(session_id=name, skill_name="k", invocation_id=name, timestamp=NOON))
    assert [(each.session_id, each.skills) for each in evicted] == [("a", 1)]
    assert list(correlation.all_figures()) == ["b"]
