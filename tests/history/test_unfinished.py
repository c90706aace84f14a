"""Skills and runs that never ended and whose writer is gone, and events lost before they were stored."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus
from eventbus.correlation import CorrelatedSession
from eventbus.correlator import SkillsWorkflowCorrelator
from eventbus.events import (
    Event,
    EventsLost,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
from tests.history.log_examples import append, segment_path, stored

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SKILL: dict[str, Any] = {"session_id": "s", "skill_name": "k", "invocation_id": "i", "timestamp": NOON}
RUN: dict[str, Any] = {"session_id": "s", "workflow_id": "ci", "run_id": "r", "timestamp": NOON}


def left(directory: Path, *events: Event, bus: str = "gone") -> None:
    """Store events as a process that is gone did."""
    content = b"".join(stored(seq, event) for seq, event in enumerate(events, 1))
    append(segment_path(directory, bus, start=NOON), content)


def each_way(directory: Path) -> list[CorrelatedSession]:
    """Return the session of a log as each reader gives it."""
    correlator = SkillsWorkflowCorrelator(log=directory)
    report = correlator.generate_correlation_report()
    summary = correlator.get_session_summary("s")
    assert summary is not None
    with SessionHistory(EventLog(directory)) as history:
        (figures,), found, session = list(history.figures()), history.figures_of("s"), history.session("s")
    assert found is not None
    assert session is not None
    correlated = correlator.correlate_by_session()["s"]
    assert f"  Outcome: {found.outcome}" in report
    assert f"  Outcome: {found.outcome}" in correlator.generate_correlation_report()
    assert summary["outcome"] == found.outcome
    return [figures, found, session, correlated]


def test_what_a_gone_writer_left_open_is_unfinished(tmp_path: Path) -> None:
    """Skills, runs and attempts that are open are unfinished if the process that wrote them is gone."""
    left(tmp_path, SkillStarted(**SKILL), WorkflowStarted(**RUN), NodeStarted(**RUN, node_id="a"))
    for session in each_way(tmp_path):
        assert (session.outcome, session.is_open, session.end_time) == ("unfinished", False, None)
        assert (session.skills_open, session.skills_unfinished) == (0, 1)
        assert (session.workflows_open, session.workflows_unfinished) == (0, 1)
        assert (session.node_attempts_open, session.node_attempts_unfinished) == (0, 1)


@pytest.mark.anyio
async def test_what_a_writer_may_still_end_is_open(tmp_path: Path) -> None:
    """While the writer is there, nothing is unfinished; afterwards the same log says unfinished."""
    async with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(SkillStarted(**SKILL))
        await bus.drain()
        assert {each.outcome for each in each_way(tmp_path)} == {"open"}
    # The skill's handle may outlive the bus: then nothing can be stored any more.
    assert {each.outcome for each in each_way(tmp_path)} == {"unfinished"}


@pytest.mark.anyio
async def test_of_several_processes_one_is_gone(tmp_path: Path) -> None:
    """Only what the gone process began is unfinished, and the session is open as long as the rest is."""
    left(tmp_path, WorkflowStarted(**RUN))
    async with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(SkillStarted(**SKILL))
        await bus.drain()
        for session in each_way(tmp_path):
            assert (session.outcome, session.skills_open) == ("open", 1)
            assert (session.workflows_open, session.workflows_unfinished) == (0, 1)
        bus.publish(SkillCompleted(**SKILL))
        await bus.drain()
        for session in each_way(tmp_path):
            assert (session.outcome, session.workflows_unfinished) == ("unfinished", 1)


@pytest.mark.anyio
async def test_another_process_may_end_what_a_gone_one_began(tmp_path: Path) -> None:
    """A run with events of a process that is there is not unfinished; its end closes it."""
    left(tmp_path, WorkflowStarted(**RUN))
    async with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(NodeStarted(**RUN, node_id="a"))
        await bus.drain()
        assert {each.outcome for each in each_way(tmp_path)} == {"open"}
        bus.publish(WorkflowCompleted(**RUN))
    assert {each.outcome for each in each_way(tmp_path)} == {"succeeded"}


def test_a_failure_is_worse_than_what_never_ended(tmp_path: Path) -> None:
    """A session with a failed run is failed, also if its process was killed before its skill ended."""
    left(tmp_path, SkillStarted(**SKILL), WorkflowStarted(**RUN), WorkflowCompleted(**RUN, status="failed"))
    for session in each_way(tmp_path):
        assert (session.outcome, session.skills_unfinished) == ("failed", 1)


@pytest.mark.anyio
async def test_runs_without_an_id_and_without_a_session(tmp_path: Path) -> None:
    """Runs without an id or a session are unfinished, too."""
    left(tmp_path, WorkflowStarted(workflow_id="ci", timestamp=NOON))
    left(tmp_path, WorkflowStarted(workflow_id="ci", session_id="s", timestamp=NOON), bus="other")
    async with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(SkillStarted(**SKILL))
        await bus.drain()
        with SessionHistory(EventLog(tmp_path)) as history:
            found = {each.session_id[:12]: each for each in history.figures()}
    assert found["unattributed"].outcome == "unfinished"
    assert (found["s"].outcome, found["s"].workflows_unfinished) == ("open", 1)


def test_lost_events_make_figures_lower_bounds(tmp_path: Path) -> None:
    """The figures of sessions in a segment with lost events say up to how many they may miss."""
    left(
        tmp_path, SkillStarted(**SKILL), EventsLost(count=3, first_seq=2, last_seq=4), SkillCompleted(**SKILL)
    )
    assert {each.events_lost for each in each_way(tmp_path)[:3]} == {3}
    with SessionHistory(EventLog(tmp_path)) as history:
        assert history.events_lost() == 3
    path = next((tmp_path / "events").iterdir())
    append(path, stored(4, EventsLost(count=2, first_seq=6, last_seq=7)))
    assert {each.events_lost for each in each_way(tmp_path)[:3]} == {5}
    other: dict[str, Any] = {**SKILL, "session_id": "t", "invocation_id": "t"}
    left(tmp_path, SkillStarted(**other), bus="other")
    with SessionHistory(EventLog(tmp_path)) as history:
        assert {each.session_id: each.events_lost for each in history.figures()} == {"s": 5, "t": 0}
    report = SkillsWorkflowCorrelator(log=tmp_path).generate_correlation_report()
    assert "  Events Lost: up to 5; the figures may be too low\n" in report


def test_a_detached_skill_is_open_when_its_writer_is_gone(tmp_path: Path) -> None:
    """A skill that another process will end is open, not unfinished, when its writer is gone."""
    left(tmp_path, SkillStarted(**SKILL, metadata={"detached": True}))
    for session in each_way(tmp_path):
        assert (session.outcome, session.is_open) == ("open", True)
        assert (session.skills_open, session.skills_detached, session.skills_unfinished) == (1, 1, 0)
    left(tmp_path, SkillCompleted(**SKILL), bus="other")
    for session in each_way(tmp_path):
        assert (session.outcome, session.skills_open, session.skills_detached) == ("succeeded", 0, 0)


@pytest.mark.anyio
async def test_what_a_gone_writer_left_beside_a_detached_skill_is_unfinished(tmp_path: Path) -> None:
    """A detached skill keeps its session open, but not the run of a process that was killed."""
    left(tmp_path, SkillStarted(**SKILL, metadata={"detached": True}), WorkflowStarted(**RUN))
    other: dict[str, Any] = {**SKILL, "invocation_id": "j"}
    for session in each_way(tmp_path):
        assert (session.outcome, session.skills_open, session.workflows_unfinished) == ("open", 1, 1)
    async with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(SkillStarted(**other))
        await bus.drain()
        for session in each_way(tmp_path):
            assert (session.skills_open, session.workflows_unfinished) == (2, 1)
