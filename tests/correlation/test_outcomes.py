"""How sessions, runs, skills and nodes ended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.correlation import CorrelatedFigures, CorrelatedSession, correlation_report
from eventbus.correlation.session_report import session_summary
from eventbus.events import (
    Event,
    NodeStatus,
    SkillCompleted,
    WorkflowCompleted,
    WorkflowStarted,
    WorkflowStatus,
)
from eventbus.events.outcomes import Outcome, outcome_of, status_outcome
from tests.correlation.examples import at, begun, node, run, skill


def only(*events: Event) -> CorrelatedSession:
    correlation = CorrelatedFigures()
    correlation.add_all(events)
    (session,) = correlation.all_figures().values()
    return session


def run_end(status: WorkflowStatus, when: float = 5, *, id_: str = "r", **fields: Any) -> WorkflowCompleted:
    return WorkflowCompleted(
        session_id="s", workflow_id="ci", run_id=id_, status=status, timestamp=at(when), **fields
    )


def skill_end(completed: bool, error_type: str | None = None) -> SkillCompleted:
    return SkillCompleted(
        session_id="s", skill_name="run", invocation_id="i", completed=completed, error_type=error_type,
        timestamp=at(9),
    )  # fmt: skip


def planned(*nodes: str, id_: str = "r") -> WorkflowStarted:
    return WorkflowStarted(session_id="s", workflow_id="ci", run_id=id_, nodes=nodes, timestamp=at(0))


CASES: dict[str, tuple[list[Event], Outcome]] = {
    "a run without nodes": ([run(0)[0], run_end("ok")], "succeeded"),
    "a failed run without nodes": ([run(0)[0], run_end("failed")], "failed"),
    "a run that failed though its nodes succeeded": ([run(0)[0], node("a", 1), run_end("failed")], "failed"),
    "a run whose start was not seen": ([run_end("failed")], "failed"),
    "a success with a failed node": ([run(0)[0], node("a", 1, "failed"), run_end("ok")], "failed"),
    "a retried node": ([node("a", 1, "failed"), node("a", 2, attempt=2), run_end("ok")], "succeeded"),
    "skipped nodes": ([node("a", 1, "skipped"), run_end("ok")], "succeeded"),
    "skipped nodes alone": ([node("a", 1, "skipped")], "skipped"),
    "an interrupted run": ([run(0)[0], node("a", 1, "cancelled"), run_end("cancelled")], "cancelled"),
    "an open run": (run(0), "open"),
    "an open run with a failed node": ([*run(0), node("a", 1, "failed")], "open"),
    "one of two runs failed": ([run_end("failed"), run_end("ok", 9, id_="q")], "failed"),
    "one failed, one cancelled": ([run_end("cancelled"), run_end("failed", id_="q")], "failed"),
    "one failed, one open": ([run_end("failed"), *run(0, id_="q")], "open"),
    "a completed skill": (skill(0, 1), "succeeded"),
    "a failed skill": ([skill_end(False, "ValueError")], "failed"),
    "an abandoned skill": ([skill_end(False)], "cancelled"),
    "an interrupted skill": ([skill_end(False, "KeyboardInterrupt")], "cancelled"),
    "a completed skill around a failed run": ([*skill(0, 9), run(1)[0], run_end("failed")], "failed"),
    "an open skill": (skill(0), "open"),
}


@pytest.mark.parametrize(("events", "outcome"), CASES.values(), ids=CASES.keys())
def test_the_outcome_of_a_session_is_the_worst_of_its_parts(events: list[Event], outcome: Outcome) -> None:
    """A session is open while anything is going on; otherwise its worst part decides, in any order."""
    for order in (events, events[::-1], events * 2):
        session = only(*order)
        assert session.outcome == outcome
        assert session_summary(session)["outcome"] == outcome
        assert f"  Outcome: {outcome}" in correlation_report({"s": session})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("ok", "succeeded"), ("failed", "failed"), ("skipped", "skipped"), ("cancelled", "cancelled")],
)
def test_the_outcome_of_a_node(status: NodeStatus, outcome: Outcome) -> None:
    """Each status of a node has one word."""
    assert outcome_of(node("a", 1, status)) == outcome


def test_runs_and_skills_are_counted_by_outcome() -> None:
    """Every run and every skill that ended has one outcome."""
    ends = [run_end("ok", id_="1"), run_end("failed", id_="2"), run_end("failed", id_="3")]
    session = only(
        *ends, run_end("cancelled", id_="4"), *run(0, id_="5"), skill_end(False, "E"), *skill(0, id_="o")
    )
    assert (session.workflows_succeeded, session.workflows_failed, session.workflows_cancelled) == (1, 2, 1)
    assert (session.workflows_open, session.skills_failed, session.skills_open) == (1, 1, 1)


@pytest.mark.parametrize("attempt", [1, 2])
def test_planned_nodes_that_never_ran(attempt: int) -> None:
    """A planned node counts as not run until it has an attempt, or is skipped."""
    events: list[Event] = [
        planned("a", "b", "c", "d", "a"), begun("a", 1, attempt=attempt), node("a", 2, attempt=attempt),
        node("b", 3, "skipped"), run_end("failed"),
    ]  # fmt: skip
    for order in (events, events[::-1]):
        session = only(*order)
        assert (session.workflow_nodes_not_run, session.workflow_nodes_skipped) == (2, 1)
        assert "  Nodes Not Run: 2\n" in correlation_report({"s": session})


def test_attempts_that_never_ended() -> None:
    """An attempt is open while its run is, and unfinished when its run ends without it."""
    events = [planned("a"), begun("a", 1)]
    session = only(*events)
    assert (session.node_attempts_open, session.node_attempts_unfinished) == (1, 0)
    session = only(*events, run_end("ok"))
    assert (session.node_attempts_open, session.node_attempts_unfinished) == (0, 1)
    session = only(*events, run_end("ok"), node("a", 6))
    assert (session.node_attempts_open, session.node_attempts_unfinished) == (0, 0)


def test_failed_nodes_are_named() -> None:
    """Failed nodes are named in the order of their failures; a later success removes the name."""
    events: list[Event] = [node("b", 1, "failed"), node("a", 2, "failed"), node("c", 0, "failed")]
    events += [node("c", 3, attempt=2), node("b", 5, "failed", attempt=2), node("b", 4, id_="other")]
    for order in (events, events[::-1]):
        assert only(*order).failed_nodes == ("b", "a")
    many = only(*(node(f"n{number:02}", number, "failed") for number in range(50)))
    assert many.failed_nodes == tuple(f"n{number:02}" for number in range(16))


def test_the_exit_code_and_the_error() -> None:
    """The exit code and the error of the first run that failed with one belong to the outcome."""
    first = run_end("failed", 5, id_="1", metadata={"exit_code": 2})
    second = run_end("failed", 6, id_="2", metadata={"exit_code": 3}, error_type="ValueError")
    fine = run_end("ok", 1, id_="3", metadata={"exit_code": 0})
    for order in ([first, second, fine], [fine, second, first]):
        session = only(*order)
        assert (session.exit_code, session.error_type) == (2, "ValueError")
        assert "  Outcome: failed (exit code 2, ValueError)\n" in correlation_report({"s": session})
    assert only(fine).exit_code == 0
    assert only(run_end("failed", metadata={"exit_code": "2\n"})).exit_code is None
    killed = only(run_end("cancelled", error_type="SIGINT"))
    assert "  Outcome: cancelled (SIGINT)\n" in correlation_report({"s": killed})


def test_the_names_of_skills_and_workflows() -> None:
    """The names are those of the first 16, in the order of their starts."""
    starts = [
        WorkflowStarted(session_id="s", run_id=f"r{n}", workflow_id=f"w{n}", timestamp=at(n))
        for n in range(20)
    ]
    assert only(*starts[::-1]).workflow_ids == tuple(f"w{n}" for n in range(16))
    assert (only(node("a", 1)).workflow_ids, only(*skill(0, 1)).skill_names) == (("ci",), ("run",))


def test_the_lines_of_the_historic_report_stay() -> None:
    """The historic lines keep their form and order; lines about the outcome follow."""
    session = only(
        *skill(0, 3), planned("a", "b", "c"), node("a", 1), node("b", 2, "failed"), run_end("failed")
    )
    report = correlation_report({"s": session}).split("\n")
    assert report[5:14] == [
        "", "Session: s", "  Skills Used: 1", "  Skills Completed: 1", "  Workflow Nodes: 1",
        "  Skill Duration: 3.0s", "  Workflow Duration: 0.0s", "  Outcome: failed", "  Workflows Failed: 1",
    ]  # fmt: skip
    assert report[14:16] == ["  Nodes Failed: 1 (b)", "  Nodes Not Run: 1"]


@given(
    st.permutations(
        [planned("a", "b"), begun("a", 1), node("a", 2, "failed"), node("a", 3, attempt=2), run_end("ok")]
    )
)
def test_the_order_of_events_does_not_matter(events: list[Event]) -> None:
    """Outcomes do not depend on the order in which events arrive."""
    session = only(*events)
    assert (session.outcome, session.failed_nodes, session.workflow_nodes_not_run) == ("succeeded", (), 1)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("ok", "succeeded"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("skipped", "skipped"),
        ("new", "failed"),
    ],
)
def test_what_a_status_means(status: str, outcome: Outcome) -> None:
    """A status of a later version is not a success."""
    assert status_outcome(status) == outcome
