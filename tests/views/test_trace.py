"""A trace can be opened: it is valid, its slices never overlap on a thread, and it says what failed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eventbus.events import Event, NodeCompleted, WorkflowCompleted, WorkflowStarted
from eventbus.views import SessionView
from eventbus.views.trace import trace_parts
from tests.correlation.examples import at, begun, events, node, run, skill


def trace(*sessions: Iterable[Event]) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(b"".join(trace_parts(map(SessionView.of, sessions))))[
        "traceEvents"
    ]
    return parsed


def slices(traced: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    return [(each["name"], each["ts"], each["dur"]) for each in traced if each["ph"] == "X"]


def threads(traced: list[dict[str, Any]]) -> list[str]:
    return [each["args"]["name"] for each in traced if each["name"] == "thread_name"]


@given(st.lists(st.lists(events(), max_size=25), max_size=3))
def test_slices_never_overlap_on_a_thread(drawn: list[list[Event]]) -> None:
    """On each thread a slice begins when the one before it has ended, or later."""
    by_thread: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for each in trace(*drawn):
        if each["ph"] == "X":
            assert each["dur"] >= 0
            by_thread[each["pid"], each["tid"]].append((each["ts"], each["dur"]))
    for found in by_thread.values():
        assert all(first[0] + first[1] <= second[0] for first, second in pairwise(found))


@given(st.lists(events(), max_size=25))
def test_the_same_sessions_give_the_same_bytes(drawn: list[Event]) -> None:
    """A trace depends on the events only."""
    first, second = (b"".join(trace_parts([SessionView.of(drawn)])) for _ in range(2))
    assert first == second


def test_a_session_is_a_process_with_a_thread_for_what_ran_at_once() -> None:
    """Skills come first, then each run, then its nodes, on as many threads as ran at once."""
    traced = trace(
        [
            *skill(0, 9),
            *run(1),
            begun("a", 2),
            begun("b", 3),
            node("a", 4),
            node("b", 5),
            node("c", 8),
            *run(1, 8)[1:],
        ]
    )
    assert [each["args"]["name"] for each in traced if each["name"] == "process_name"] == ["session s"]
    assert threads(traced) == ["1 skills", "2 ci", "2 ci: nodes"]
    assert slices(traced)[:2] == [("run", 0, 9_000_000), ("ci", 1_000_000, 7_000_000)]
    overlapping = trace([*run(0), begun("a", 1), begun("b", 1), *run(0, 5)[1:]])
    assert threads(overlapping) == ["2 ci", "2 ci: nodes", "2 ci: nodes"]


def test_a_failure_is_an_instant_with_its_reason() -> None:
    """What failed is marked where it ended, with the error; what is planned only has no slice."""
    ids: dict[str, Any] = {"session_id": "s", "workflow_id": "ci", "run_id": "r"}
    failed = NodeCompleted(
        **ids, node_id="a", timestamp=at(3), duration_seconds=2.0, success=False,
        error_type="E", error_message="why \x1b[2J",
    )  # fmt: skip
    traced = trace([WorkflowStarted(**ids, timestamp=at(0), nodes=("a", "b")), failed])
    (instant,) = (each for each in traced if each["ph"] == "i")
    assert (instant["name"], instant["ts"]) == ("a failed", 3_000_000)
    assert instant["args"] == {"outcome": "failed", "error_type": "E", "error_message": "why \\x1b[2J"}
    assert slices(traced) == [("ci", 0, 3_000_000), ("a", 1_000_000, 2_000_000)]


def test_sessions_share_one_clock() -> None:
    """Times count from the start of the first session; an empty session is left out."""
    end = WorkflowCompleted(session_id="t", workflow_id="w", timestamp=at(60), duration_seconds=1.0)
    traced = trace([], [*skill(10, 11)], [end])
    assert slices(traced) == [("run", 0, 1_000_000), ("w", 49_000_000, 1_000_000)]
    assert {each["pid"] for each in traced} == {1, 2}
