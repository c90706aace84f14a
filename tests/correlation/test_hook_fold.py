"""The hooks of a session, folded from the progress of its nodes."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from eventbus.correlation import Correlation, correlation_report
from eventbus.correlation.hook_fold import MAX_HOOKS, HookFigures
from eventbus.correlation.session_report import session_summary
from eventbus.events import Event, NodeProgress, WorkflowCompleted, WorkflowStarted
from tests.correlation.examples import at


def hook(name: Any, status: Any, when: float = 1, /, **more: Any) -> NodeProgress:
    """Return the progress that crackerjack's hook makes."""
    of: dict[str, Any] = {"session_id": "s", "run_id": "r", "node_id": "fast_hooks"} | more
    seconds = of.pop("seconds", 1.0)
    details = {"hook": name, "status": status, "duration_seconds": seconds}
    return NodeProgress(workflow_id="crackerjack", timestamp=at(when), metadata=details, **of)


def hooks_of(*events: Event) -> list[HookFigures]:
    correlation = Correlation()
    correlation.add_all(events)
    session = correlation.session("s")
    return [] if session is None else list(session.hooks)


RETRIED = [hook("ruff", "failed", 1, seconds=2.0), hook("ruff", "passed", 3), hook("mypy", "timeout", 2)]


def test_a_hook_has_its_passes_its_outcome_and_its_seconds() -> None:
    """The latest pass decides the outcome; starts and other progress do not count."""
    running = hook("mypy", "running", 5)
    other = NodeProgress(session_id="s", workflow_id="w", run_id="r", node_id="n", message="half")
    assert hooks_of(running, other) == []
    assert hooks_of(*RETRIED, running, other) == [
        HookFigures("fast_hooks", "ruff", "succeeded", 2, 1, 3.0),
        HookFigures("fast_hooks", "mypy", "failed", 1, 1, 1.0),
    ]


def test_neither_order_nor_repeats_change_the_hooks() -> None:
    """An event that arrives twice counts once."""
    expected = hooks_of(*RETRIED)
    for seed in range(10):
        mixed = RETRIED * 2
        random.Random(seed).shuffle(mixed)
        assert hooks_of(*mixed) == expected


def test_hooks_of_one_name_in_two_nodes_runs_or_sessions() -> None:
    """Each node has its own; runs of a session add to one; sessions are apart."""
    found = hooks_of(
        hook("ruff", "passed", 1), hook("ruff", "failed", 1, node_id="comprehensive_hooks"),
        hook("ruff", "failed", 1, run_id="r2"), hook("ruff", "failed", 1, session_id="other"),
    )  # fmt: skip
    assert {each.node_id: (each.passes, each.outcome) for each in found} == {
        "fast_hooks": (2, "failed"),  # of two passes at one instant the failed one
        "comprehensive_hooks": (1, "failed"),
    }


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("passed", "succeeded"), ("skipped", "skipped"), ("error", "failed"), ("of a later version", "failed")],
)
def test_a_status_has_an_outcome(status: str, outcome: str) -> None:
    """What is not known to be a success is a failure."""
    (found,) = hooks_of(hook("ruff", status))
    assert found.outcome == outcome


@pytest.mark.parametrize(
    "odd",
    [
        hook(None, "passed"),
        hook(["ruff"], "passed"),
        hook("ruff", None),
        hook("ruff", 1),
        hook("ruff", "passed", session_id=None),
        hook("ruff", "passed", run_id=None),
    ],
)
def test_odd_metadata_is_no_hook(odd: NodeProgress) -> None:
    """It makes no session either."""
    correlation = Correlation()
    assert not correlation.add(odd)
    assert correlation.sessions() == {}


@pytest.mark.parametrize("seconds", [None, "soon", -1.0, [1]])
def test_odd_durations_count_as_nothing(seconds: Any) -> None:
    """The hook is there, with the seconds that can be added up."""
    (found,) = hooks_of(hook("ruff", "passed", seconds=seconds))
    assert (found.passes, found.duration_seconds) == (1, 0.0)


def test_the_first_hooks_are_kept() -> None:
    """Beyond 64 hooks those that ended first are kept, in whatever order they arrive."""
    events = [hook(f"h{number}", "passed", number) for number in range(MAX_HOOKS + 20)]
    random.Random(1).shuffle(events)
    assert [each.hook for each in hooks_of(*events)] == [f"h{number}" for number in range(MAX_HOOKS)]


def test_a_session_says_which_hooks_failed() -> None:
    """The report has one more line, the summary two more keys; the run alone decides the outcome."""
    run: dict[str, Any] = {"session_id": "s", "workflow_id": "crackerjack", "run_id": "r"}
    correlation = Correlation()
    correlation.add_all(
        [WorkflowStarted(**run, timestamp=at(0)), *RETRIED, WorkflowCompleted(**run, timestamp=at(9))]
    )
    session = correlation.sessions()["s"]
    assert (session.outcome, session.hooks_failed, session.failed_hooks) == ("succeeded", 1, ("mypy",))
    assert "  Hooks: 1/2 succeeded in 3 passes (4.0s), failed mypy\n" in correlation_report({"s": session})
    assert session_summary(session)["failed_hooks"] == ("mypy",)
    assert msgspec.json.decode(msgspec.json.encode(session), type=type(session)) == session
