"""Spans: the same ids live and from a log, no span without its parent, and the names of the conventions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.semconv._incubating.attributes import cicd_attributes as cicd
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai

from eventbus.correlation import Correlation
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.integrations.otlp import json_lines
from eventbus.testing import quality_session, unusual_events
from eventbus.views.span_conventions import ATTRIBUTES
from eventbus.views.span_fold import MAX_HOOKS, SpanFold, matters_to_spans, session_spans
from eventbus.views.spans import Span, TraceParent
from tests.correlation.examples import at, begun, events, node, run, skill

PAGE = Path(__file__).parents[2] / "docs" / "opentelemetry.md"
PARENT = TraceParent(0xABC, 0xDEF)


def live(given: Iterable[Event], root: TraceParent | None = None) -> list[Span]:
    fold = SpanFold(root)
    return [span for event in given if matters_to_spans(event) and (span := fold.add(event)) is not None]


def logged(given: list[Event], root: TraceParent | None = None) -> list[Span]:
    """Return the spans of these events as those of a log of one session."""
    correlation = Correlation(None, None)
    correlation.add_all(given)
    figures = next(iter(correlation.sessions().values()), None)
    return [] if figures is None else list(session_spans(given, figures, root))


def by_name(spans: Iterable[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def ids(spans: Iterable[Span]) -> set[tuple[int, int]]:
    return {(span.trace_id, span.span_id) for span in spans}


def family(given: list[Event]) -> list[Event]:
    return [event for event in given if event.session_id == "s"]


def test_skills_runs_and_nodes_are_a_tree() -> None:
    """From the log, a skill is the root, a run its child, and an attempt at a node the run's."""
    spans = by_name(logged([*skill(0, 9), *run(1, 8), node("lint", 3)]))
    root, pipeline, task = spans["execute_tool run"], spans["RUN ci"], spans["lint"]
    assert root.parent_id is None
    assert pipeline.parent_id == root.span_id
    assert task.parent_id == pipeline.span_id
    assert len({span.trace_id for span in spans.values()}) == 1


@given(st.lists(events(), max_size=25).map(family))
def test_no_span_of_a_log_lacks_its_parent(drawn: list[Event]) -> None:
    """Each thing has one span, and each parent is a span of the same trace."""
    spans = logged(drawn)
    assert len(ids(spans)) == len(spans)
    assert {(span.trace_id, span.parent_id) for span in spans if span.parent_id} <= ids(spans)
    assert all(0 <= span.began <= span.ended for span in spans)


@given(st.lists(events(), max_size=25).map(family))
def test_the_ids_are_those_of_live_spans(drawn: list[Event]) -> None:
    """What ended has the same ids live and from the log, runs without an id among them."""
    ended = {
        span for span in logged(drawn) if span.attributes["eventbus.outcome"] not in ("open", "unfinished")
    }
    assert ids(ended) == ids(live(drawn))


@given(st.lists(events(), max_size=25).map(family))
def test_the_same_events_give_the_same_bytes(drawn: list[Event]) -> None:
    """A file of spans depends on the events only."""
    first, second = (b"".join(json_lines(logged(drawn))) for _ in range(2))
    assert first == second


def test_live_only_nodes_have_a_parent() -> None:
    """A run and a skill have no parent that nobody sends."""
    spans = by_name(live([*skill(0, 9), *run(1, 8), node("lint", 3)]))
    assert spans["execute_tool run"].parent_id is spans["RUN ci"].parent_id is None
    assert spans["lint"].parent_id == spans["RUN ci"].span_id


def test_a_run_that_began_outside_of_the_skill_is_not_its_child() -> None:
    """Negative: before a skill, after it, or in another session, a run has no parent."""
    for apart in (
        [*run(0, 8), *skill(1, 9)],
        [*skill(0, 1), *run(2, 3)],
        [*skill(0, 9, session="other"), *run(1, 8)],
    ):
        assert by_name(logged(apart))["RUN ci"].parent_id is None


def test_a_run_belongs_to_the_skill_that_began_last() -> None:
    """Of skills around a run, the inner one is its parent."""
    outer, inner = skill(0, 9, id_="outer"), skill(1, 8, id_="inner")
    spans = logged([outer[0], inner[0], *run(2, 7), inner[1], outer[1]])
    by_id = {span.attributes.get("eventbus.invocation_id"): span for span in spans}
    assert by_id[None].parent_id == by_id["inner"].span_id


def test_what_differs_has_another_id() -> None:
    """Negative: another session, workflow, run, node, attempt or invocation is another span."""
    given: list[Event] = [
        NodeCompleted(session_id=session, workflow_id=workflow, run_id=each, node_id=name, attempt=attempt)
        for session in ("s", "t")
        for workflow in ("ci", "cd")
        for each in ("1", "2")
        for name in ("a", "b")
        for attempt in (1, 2)
    ]
    given += [
        SkillCompleted(session_id=each, skill_name="k", invocation_id=id_) for each in "st" for id_ in "12"
    ]
    assert len(ids(live(given))) == len(given)
    assert len({span.trace_id for span in live(given)}) == 2


def test_runs_without_an_id() -> None:
    """Two runs of one workflow without ids are two spans, and so are two attempts that are not numbered."""
    given = [
        *run(0, 5, id_=None)[:1], node("a", 1, "failed", id_=None), node("a", 2, id_=None),
        run(0, 5, id_=None)[1],
        *run(6, 9, id_=None)[:1], node("a", 7, id_=None), run(6, 9, id_=None)[1],
    ]  # fmt: skip
    spans = logged(given)
    assert len(ids(spans)) == 5
    assert ids(spans) == ids(live(given))
    assert "eventbus.run_id" not in spans[-1].attributes
    assert spans[-1].attributes["cicd.pipeline.run.id"] == "ci@2025-06-01T12:00:06+00:00"


def test_without_a_session() -> None:
    """Events without a session have a trace for each run and each skill invocation."""
    given = [
        node("a", 1, session=None), node("b", 1, session=None), node("a", 1, session=None, id_="q"),
        skill(0, 1, session=None)[1],
    ]  # fmt: skip
    a, b, other, alone = live(given)
    assert a.trace_id == b.trace_id
    assert len({a.trace_id, other.trace_id, alone.trace_id}) == 3
    assert "session.id" not in a.attributes


def test_what_has_not_ended() -> None:
    """From the log, what has not ended has a span up to the last event; it is open, or unfinished."""
    given = [skill(0)[0], *run(1), begun("lint", 2), node("tests", 9)]
    correlation = Correlation()
    correlation.add_all(given)
    figures = correlation.sessions()["s"]
    spans = by_name(session_spans(given, figures))
    assert {name: span.attributes["eventbus.outcome"] for name, span in spans.items()} == {
        "execute_tool run": "open", "RUN ci": "open", "lint": "open", "tests": "succeeded"
    }  # fmt: skip
    assert spans["lint"].ended - spans["lint"].began == 7_000_000_000
    assert not spans["lint"].is_error
    figures.workflows_open = figures.skills_open = 0  # its writer is gone
    spans = by_name(session_spans(given, figures))
    assert spans["RUN ci"].attributes["eventbus.outcome"] == "unfinished"
    assert spans["RUN ci"].attributes["cicd.pipeline.result"] == "error"
    assert spans["RUN ci"].attributes["error.type"] == "unfinished"
    assert spans["execute_tool run"].is_error


def test_a_repeated_end_is_one_span() -> None:
    """However often an end is in the log, it has one span."""
    assert len(logged([*run(0, 1), *run(0, 1), node("a", 1), node("a", 1)])) == 2


def test_a_span_without_a_duration() -> None:
    """It begins with its start event from the log, and is empty live."""
    given: list[Event] = [
        NodeStarted(session_id="s", workflow_id="w", run_id="r", node_id="n", timestamp=at(1)),
        NodeCompleted(session_id="s", workflow_id="w", run_id="r", node_id="n", timestamp=at(3)),
    ]
    assert by_name(logged(given))["n"].ended - by_name(logged(given))["n"].began == 2_000_000_000
    (span,) = live(given)
    assert span.began == span.ended


def test_failures_and_cancellations() -> None:
    """What failed is an error with its type and message; what was cancelled or skipped is none."""
    base: dict[str, Any] = {"session_id": "s", "workflow_id": "w", "run_id": "r"}
    failed, cancelled, skipped, ended = live([
        NodeCompleted(
            **base, node_id="a", status="failed", error_type="ValueError", error_message="no \x1b such"
        ),
        NodeCompleted(**base, node_id="b", status="cancelled"),
        NodeCompleted(**base, node_id="c", status="skipped"),
        WorkflowCompleted(**base, status="failed", metadata={"exit_code": 2}),
    ])  # fmt: skip
    assert (failed.is_error, failed.message) == (True, "no \\x1b such")
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.attributes["cicd.pipeline.task.run.result"] == "failure"
    assert not cancelled.is_error
    assert cancelled.attributes["cicd.pipeline.task.run.result"] == "cancellation"
    assert skipped.attributes["cicd.pipeline.task.run.result"] == "skip"
    assert ended.attributes["error.type"] == "_OTHER"
    assert ended.attributes["eventbus.exit_code"] == 2


def test_hooks_are_events_of_their_node() -> None:
    """The end of each hook is an event of its node's span, and of no other's; there are at most 128."""
    base: dict[str, Any] = {"session_id": "s", "workflow_id": "w", "run_id": "r"}
    hooks: list[Event] = [
        NodeProgress(
            **base, node_id="a", timestamp=at(n),
            metadata={"hook": f"h{n}", "status": "passed" if n else "failed", "duration_seconds": 0.5},
        )
        for n in range(200)
    ]  # fmt: skip
    running = NodeProgress(**base, node_id="a", metadata={"hook": "h", "status": "running"})
    ends: list[Event] = [NodeCompleted(**base, node_id="b"), NodeCompleted(**base, node_id="a")]
    for spans in (live([*hooks, running, *ends]), logged([*hooks, running, *ends])[:2]):
        other, span = spans
        assert other.events == ()
        assert len(span.events) == MAX_HOOKS
        assert span.events[0].name == "hook h0"
        assert span.events[0].attributes == {
            "eventbus.hook": "h0", "eventbus.status": "failed", "eventbus.duration_seconds": 0.5
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            TraceParent(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            TraceParent(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_sampled=False)),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later",
            TraceParent(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later", None),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c", None),
        ("", None),
    ],
)  # fmt: skip
def test_trace_parents(text: str, found: TraceParent | None) -> None:
    """A text in W3C's format names a span; any other names none."""
    assert TraceParent.parse(text) == found


def test_a_foreign_parent() -> None:
    """Its trace is the trace, and it is the parent of what has no other."""
    given = [*skill(0, 9), *run(1, 8), node("lint", 3)]
    for spans in (by_name(live(given, PARENT)), by_name(logged(given, PARENT))):
        assert {span.trace_id for span in spans.values()} == {PARENT.trace_id}
        assert spans["execute_tool run"].parent_id == PARENT.span_id
        assert spans["execute_tool run"].is_parent_foreign
        assert spans["lint"].parent_id == spans["RUN ci"].span_id
        assert not spans["lint"].is_parent_foreign
        assert spans["lint"].attributes["session.id"] == "s"
    assert by_name(live(given, PARENT))["RUN ci"].parent_id == PARENT.span_id
    assert {each.span_id for each in live(given)} == {each.span_id for each in live(given, PARENT)}


def test_unusual_events_can_be_written() -> None:
    """Whatever texts, numbers and times an event has, its span can be encoded."""
    given = unusual_events()
    assert live(given)
    assert b"".join(json_lines(live(given))).count(b"spanId") >= len(live(given))


@pytest.mark.parametrize("year", [1, 1969, 2263, 9999])
def test_times_that_cannot_be_sent(year: int) -> None:
    """Times before 1970 and after 2262 are moved there."""
    time = datetime(year, 6, 1, tzinfo=UTC)
    (span,) = live([NodeCompleted(workflow_id="w", node_id="n", timestamp=time, duration_seconds=60.0)])
    assert 0 <= span.began <= span.ended < 2**63


def test_a_session_that_cannot_be_decoded() -> None:
    """A session's id with lone surrogates is spelled as in the log."""
    (span,) = live([NodeCompleted(session_id="caf\udce9", workflow_id="w", run_id="r", node_id="n")])
    assert span.attributes["session.id"] == r"caf\udce9"


def test_the_names_of_the_conventions() -> None:
    """Each name of the conventions is one that the installed package knows, and is in the documentation."""
    known = {
        str(value) for module in (cicd, gen_ai) for value in vars(module).values() if isinstance(value, str)
    }
    known |= {"session.id", "error.type", "gen_ai.skill.name"}  # the last is newer than the package
    ours = {name for table in ATTRIBUTES.values() for name in table}
    assert {name for name in ours if not name.startswith("eventbus.")} <= known
    results = {each.value for each in cicd.CicdPipelineResultValues}
    assert {"success", "failure", "cancellation", "skip", "error"} <= results
    documented = set(
        re.findall(r"`((?:eventbus|session|error|gen_ai|cicd)\.[a-z_.]+)`", PAGE.read_text("utf-8"))
    )
    assert ours <= documented


def test_memory_of_live_spans_is_bounded() -> None:
    """However many sessions, runs and nodes do not end, little is remembered of them."""
    fold = SpanFold()
    for n in range(3_000):
        fold.add(WorkflowStarted(session_id=f"s{n}", workflow_id="w"))
        fold.add(
            NodeProgress(
                session_id="s", workflow_id="w", run_id=f"r{n}", node_id="n",
                metadata={"hook": "h", "status": "passed"},
            )
        )  # fmt: skip
    assert len(fold._subjects._inferred) <= 1_024
    assert len(fold._hooks._of_node) <= 1_024


def test_a_quality_session() -> None:
    """A skill that runs a workflow is one trace, with a span for each attempt."""
    given = quality_session(failed=["tests"])
    assert ids(live(given)) == ids(logged(given))
    assert len(live(given)) == 7
    assert SkillStarted in map(type, given)
    assert timedelta(0) < given[-1].timestamp - given[0].timestamp
