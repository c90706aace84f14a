"""A view shows a session's skills, runs, nodes and hooks, and agrees with its figures."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.events import (
    Event,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    PatternDetected,
    SkillCompleted,
    SkillFollowedUp,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.events.outcomes import DETACHED, Outcome
from eventbus.views import NodeView, SessionView
from tests.correlation.examples import at, begun, events, node, run, skill

RUN: dict[str, Any] = {"session_id": "s", "workflow_id": "ci", "run_id": "r"}


def progress(completed: float, **fields: Any) -> NodeProgress:
    return NodeProgress(**RUN, node_id="lint", timestamp=at(2), completed=completed, **fields)


def hook(name: str, status: str, completed: float = 0, **details: Any) -> NodeProgress:
    return progress(completed, total=2, message=name, metadata={"hook": name, "status": status, **details})


def only_node(*given: Event) -> NodeView:
    (found,) = SessionView.of(given).nodes()
    return found


@given(st.lists(events(), max_size=40))
def test_a_view_agrees_with_the_figures(drawn: list[Event]) -> None:
    """What a view shows, counted, is what correlation counts: skills, runs and attempts by outcome."""
    of_session = [each for each in drawn if each.session_id == "a" and not isinstance(each, NodeProgress)]
    correlation = Correlation()
    correlation.add_all(of_session)
    figures, view = correlation.session("a"), SessionView.of(of_session)
    if figures is None:
        assert not view.events
        return
    outcomes: tuple[Outcome, ...] = ("succeeded", "failed", "cancelled", "open")
    skills = [each.outcome for each in view.skills.values()]
    runs = [each.outcome for each in view.runs.values()]
    nodes = [each.outcome for each in view.nodes()]
    completed = (
        figures.skills_completed,
        figures.skills_failed,
        figures.skills_cancelled,
        figures.skills_open,
    )
    assert tuple(map(skills.count, outcomes)) == completed
    assert len(runs) == figures.workflows
    assert runs.count("failed") == figures.workflows_failed
    assert len(runs) - runs.count("open") == figures.workflows_ended
    assert nodes.count("succeeded") == figures.node_attempts_completed
    assert nodes.count("failed") == figures.node_attempts_failed
    assert nodes.count("open") == figures.node_attempts_open
    assert nodes.count("unfinished") == figures.node_attempts_unfinished


@given(st.lists(events(), max_size=20))
def test_a_repeated_event_changes_nothing(drawn: list[Event]) -> None:
    """An event that arrives twice in a row is shown once."""
    of_session = [each for each in drawn if each.session_id == "a"]
    twice = [each for each in of_session for _ in range(2)]
    once, doubled = SessionView.of(of_session), SessionView.of(twice)
    assert (once.skills, once.runs) == (doubled.skills, doubled.runs)


def test_a_planned_node_is_not_run_until_its_attempt() -> None:
    """Planned nodes come first and in their order; one that has begun keeps its place."""
    start = WorkflowStarted(**RUN, timestamp=at(0), nodes=("a", "b", "c"))
    view = SessionView.of([begun("z", 0), start, begun("b", 1), node("b", 2), begun("b", 3, attempt=2)])
    assert [(each.node_id, each.attempt, each.outcome) for each in view.nodes()] == [
        ("a", 1, "not run"),
        ("b", 1, "succeeded"),
        ("b", 2, "open"),
        ("c", 1, "not run"),
        ("z", 1, "open"),
    ]


def test_the_latest_status_of_a_hook_counts() -> None:
    """A hook that failed in the first pass and passed in the second did not fail."""
    found = only_node(
        hook("ruff", "failed", 1, duration_seconds=2.0), hook("codespell", "timeout", 2),
        hook("ruff", "running", 0), hook("ruff", "passed", 1, duration_seconds=1.0),
    )  # fmt: skip
    assert [(each.name, each.status) for each in found.hooks_that("failed")] == [("codespell", "timeout")]
    assert (found.hooks["ruff"].outcome, found.hooks["ruff"].seconds, found.passes) == ("succeeded", 1.0, 2)


def test_an_end_without_a_start_tells_when_it_began() -> None:
    """Of a node or a skill whose start was not seen, the start is computed from its duration."""
    view = SessionView.of([node("a", 5), SkillCompleted(session_id="s", skill_name="k", timestamp=at(9),
                           duration_seconds=3.0)])  # fmt: skip
    assert [each.began for each in view.nodes()] == [at(4)]
    assert [each.began for each in view.skills.values()] == [at(6)]


def test_a_node_that_is_open_when_its_run_ends_is_unfinished() -> None:
    """It never ended; if its end arrives late, that holds."""
    ended = [*run(0), begun("a", 1), WorkflowCompleted(**RUN, timestamp=at(2), duration_seconds=2.0)]
    assert [each.outcome for each in SessionView.of(ended).nodes()] == ["unfinished"]
    assert [each.outcome for each in SessionView.of([*ended, node("a", 3)]).nodes()] == ["succeeded"]
    assert [each.outcome for each in SessionView.of([*ended, begun("b", 3)]).nodes()] == ["unfinished"] * 2


def test_what_is_open_is_unfinished_once_its_writers_are_gone() -> None:
    """Giving up changes what is open here and not by the figures, and nothing else."""
    given = [*skill(0), *run(0), begun("a", 1), begun("b", 1), node("b", 2)]
    gone = CorrelatedSession("s", "2025-06-01T12:00:00+00:00", skills_unfinished=1, workflows_unfinished=1)
    view = SessionView.of(given, gone)
    assert [each.outcome for each in view.skills.values()] == ["unfinished"]
    assert [each.outcome for each in view.runs.values()] == ["unfinished"]
    assert [each.outcome for each in view.nodes()] == ["unfinished", "succeeded"]
    there = CorrelatedSession("s", "2025-06-01T12:00:00+00:00", skills_open=1, workflows_open=1)
    view = SessionView.of(given, there)
    assert [each.outcome for each in view.skills.values()] == ["open"]
    assert [each.outcome for each in view.runs.values()] == ["open"]


def test_a_detached_skill_stays_open_without_a_writer() -> None:
    """A skill that another process will end is open; one that its process left is unfinished."""
    detached = SkillStarted(
        session_id="s", skill_name="k", invocation_id="d", timestamp=at(0), metadata={DETACHED: True}
    )
    figures = CorrelatedSession("s", "2025-06-01T12:00:00+00:00", skills_open=1, skills_unfinished=1)
    view = SessionView.of([detached, *skill(0)], figures)
    assert {name: each.outcome for name, each in view.skills.items()} == {"d": "open", "i": "unfinished"}


def test_follow_ups_come_before_and_after_the_end() -> None:
    """Actions with events of their own are shown as often as they were done, also if the end repeats them."""
    ids: dict[str, Any] = {"session_id": "s", "skill_name": "k", "invocation_id": "i"}
    view = SessionView.of(
        [
            SkillFollowedUp(**ids, action="git add", timestamp=at(1)),
            SkillCompleted(**ids, timestamp=at(2), follow_up_actions=("git add", "git commit")),
            *[SkillFollowedUp(**ids, action="git push", timestamp=at(when)) for when in (4, 3, 3)],
        ]
    )
    assert view.skills["i"].follow_up_actions == ("git add", "git commit", "git push", "git push")


def test_what_a_run_reports_of_its_end() -> None:
    """A run shows its exit code, its error and its duration, measured or worked out."""
    end: dict[str, Any] = {**RUN, "timestamp": at(8), "status": "failed"}
    view = SessionView.of([*run(1), WorkflowCompleted(**end, error_type="E", metadata={"exit_code": 2})])
    (found,) = view.runs.values()
    assert (found.outcome, found.exit_code, found.error_type, found.seconds) == ("failed", 2, "E", 7.0)


def test_losses_and_notes_are_kept() -> None:
    """Lost events add up; a pattern is noted once."""
    lost = EventsLost(session_id="s", count=3, first_seq=1, last_seq=3)
    note = PatternDetected(session_id="s", pattern="p", message="slower")
    view = SessionView.of([lost, note, lost, note])
    assert (view.lost, view.notes, view.events) == (6, ["slower"], 4)


def test_impossible_values_are_survived() -> None:
    """Durations that are no numbers, and metadata that is no text, are shown as unknown or as 0."""
    found = only_node(
        NodeStarted(**RUN, node_id="lint", timestamp=at(1)),
        progress(1, metadata={"hook": ["x"], "status": {}}),
        progress(1, metadata={"hook": "x", "status": 7, "duration_seconds": "long"}),
        NodeCompleted(**RUN, node_id="lint", timestamp=at(1), duration_seconds=1e300),
    )
    assert list(found.hooks) == ["x"]
    assert (found.hooks["x"].status, found.hooks["x"].seconds) == ("7", None)
    assert found.seconds is not None
