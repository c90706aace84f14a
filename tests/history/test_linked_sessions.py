"""Sessions that were linked are one in every reading of a log, as they are in live correlation."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus import Correlation, Event, SessionLinked, SkillsWorkflowCorrelator
from eventbus.cli import main
from eventbus.events import (
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.history import EventLog, folded_log
from eventbus.history.session_history import SessionHistory
from tests.history.log_examples import START, header, segment_path, stored


def at(second: float) -> dict[str, Any]:
    return {"timestamp": START + timedelta(seconds=second)}


SKILL: dict[str, Any] = {"session_id": "agent", "skill_name": "quality", "invocation_id": "i"}
RUN: dict[str, Any] = {"session_id": "job-1", "workflow_id": "crackerjack", "run_id": "r"}
OTHER: dict[str, Any] = {"session_id": "job-2", "workflow_id": "crackerjack", "run_id": "q"}
AGENT = [SkillStarted(**SKILL, **at(0)), SkillCompleted(**SKILL, **at(9), duration_seconds=9.0)]
SERVER: list[Event] = [
    WorkflowStarted(**RUN, **at(1)), WorkflowStarted(**OTHER, **at(1)),
    WorkflowCompleted(**RUN, **at(4), duration_seconds=3.0),
    WorkflowCompleted(**OTHER, **at(5), status="failed"),
]  # fmt: skip
LINK = SessionLinked(session_id="agent", other="job-1", **at(2))


def write(directory: Path, bus_id: str, events: list[Any]) -> Path:
    path = segment_path(directory, bus_id)
    lines = b"".join(stored(seq, event) for seq, event in enumerate(events, 1))
    path.write_bytes(header(bus_id) + lines)
    return path


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """The log of an agent and of a server with two jobs, one of which is the agent's."""
    write(tmp_path, "b1", [*AGENT[:1], LINK, *AGENT[1:]])
    write(tmp_path, "b2", SERVER)
    return EventLog(tmp_path)


def test_the_log_gives_the_sessions_of_live_correlation(log: EventLog) -> None:
    """With an index and without, in order and by name; the other job stays apart."""
    live = Correlation()
    live.add_all(log)
    folded = folded_log.fold_log(log)
    assert folded is not None
    assert {each.session_id: each for each in folded.figures()} == live.all_figures()
    assert folded.figures_of("job-1") == folded.figures_of("agent") == live.figures("agent")
    with SessionHistory(log) as history:
        assert {each.session_id: each for each in history.figures()} == live.all_figures()
        assert {each.session_id: each for each in history.sessions()} == live.sessions()
        assert [each.session_id for each in history.figures(oldest_first=True)] == ["agent", "job-2"]
        assert history.count() == 2
    assert SkillsWorkflowCorrelator(log=log.directory).correlate_by_session() == live.sessions()


def test_parts_are_in_one_order_for_every_reader(tmp_path: Path) -> None:
    """What failed in linked sessions is in the same order live, with an index and without."""
    failed = [
        NodeCompleted(
            workflow_id="w", run_id=name, node_id=f"in {name}", session_id=name, status="failed",
            timestamp=START,
        )
        for name in ("job-1", "agent")
    ]  # fmt: skip
    write(tmp_path, "b1", [LINK, *failed])
    live = Correlation()
    live.add_all([LINK, *failed])
    expected = live.figures("agent")
    assert expected is not None
    assert expected.failed_nodes == ("in agent", "in job-1")
    assert live.all_figures() == {"agent": expected}
    folded = folded_log.fold_log(EventLog(tmp_path))
    assert folded is not None
    assert list(folded.figures()) == [expected]
    with SessionHistory(EventLog(tmp_path)) as history:
        assert list(history.figures()) == [expected]


def test_each_name_finds_the_session(log: EventLog) -> None:
    """The job's id, its beginning, and the agent's; the events are those of all, in the order of the log."""
    with SessionHistory(log) as history:
        assert history.figures_of("job-1") == history.figures_of("agent")
        assert history.session("job-1") == history.session("agent")
        assert history.events("job-1") == history.events("agent") == [
            AGENT[0], SERVER[0], LINK, SERVER[2], AGENT[1],
        ]  # fmt: skip
        assert history.names("job-1") == ["agent"]
        assert history.names("job") == ["agent", "job-2"]
        assert history.events("job-2") == [SERVER[1], SERVER[3]]


def test_a_link_that_is_written_later(tmp_path: Path) -> None:
    """The index, which has the sessions apart, need not be made again; without the link they are apart."""
    write(tmp_path, "b1", [*AGENT])
    write(tmp_path, "b2", SERVER)
    with SessionHistory(EventLog(tmp_path)) as history:
        assert history.count() == 3
    late = write(tmp_path, "b3", [LINK, SessionLinked(session_id="nobody", other="nothing", **at(3))])
    with SessionHistory(EventLog(tmp_path)) as history:
        assert [each.session_id for each in history.figures()] == ["job-2", "agent"]
        assert history.figures_of("nobody") is None
    late.unlink()
    with SessionHistory(EventLog(tmp_path)) as history:
        assert history.names() == ["agent", "job-1", "job-2"]


def test_what_is_unfinished_and_lost_is_that_of_all(tmp_path: Path) -> None:
    """The writers of a session are those of all that belong to it."""
    write(tmp_path, "b1", [*AGENT, LINK])
    write(tmp_path, "b2", [WorkflowStarted(**RUN, **at(1)), NodeStarted(**RUN, **at(2), node_id="tests")])
    with SessionHistory(EventLog(tmp_path)) as history:
        (session,) = history.figures()
    assert (session.outcome, session.workflows_unfinished) == ("unfinished", 1)
    assert (session.skills_completed, session.node_attempts_unfinished) == (1, 1)


def test_show_finds_the_job(log: EventLog, capsys: pytest.CaptureFixture[str]) -> None:
    """`eventbus show JOB` shows the session that it belongs to, with the join."""
    assert main(["show", "job-1", "--events", "--dir", str(log.directory)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("session agent  ")
    assert [line.split(maxsplit=1)[1] for line in shown if line.startswith("    +")] == [
        "start  skill quality", "start  workflow crackerjack", "join   session job-1",
        "end    workflow crackerjack ok (3.0s)", "done   skill quality (9.0s)",
    ]  # fmt: skip
