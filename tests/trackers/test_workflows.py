"""Calls about runs and nodes become events, and never raise."""

from __future__ import annotations

import contextvars
import gc
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import anyio
import anyio.lowlevel
import pytest

from eventbus.bus import EventBus
from eventbus.contracts import EventSink
from eventbus.delivery import current_bus
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    NodeStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
    decode,
    encode,
)
from eventbus.session import current_session_id, session_scope
from eventbus.trackers import WorkflowEventTracker
from eventbus.trackers.open_runs import MAX_DURATIONS, MAX_ENDED_RUNS, MAX_OPEN_RUNS, UNKNOWN_WORKFLOW
from tests.trackers.conftest import Hostile, RaisingSink, run_in_threads

EventT = TypeVar("EventT", bound=Event)


@pytest.fixture
def tracker(sink: EventSink) -> WorkflowEventTracker:
    return WorkflowEventTracker(sink)


def of(published: list[Event], cls: type[EventT]) -> list[EventT]:
    return [event for event in published if isinstance(event, cls)]


def attempts(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.node_id, event.attempt) for event in events if isinstance(event, NodeEvent)]


def elsewhere(work: Callable[[], object]) -> None:
    """Call in an empty context, as in a thread of a pool."""
    contextvars.Context().run(work)


def test_a_run_publishes_starts_and_ends(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """Four calls publish four events of one run, with durations."""
    run_id = tracker.workflow_started("crackerjack", {"a": 1}, nodes=["fast_hooks"])
    assert tracker.node_started("fast_hooks") == 1
    tracker.node_completed("fast_hooks")
    tracker.workflow_completed()
    assert [type(event) for event in published] == [
        WorkflowStarted,
        NodeStarted,
        NodeCompleted,
        WorkflowCompleted,
    ]
    events = of(published, WorkflowEvent)
    assert {(event.workflow_id, event.run_id) for event in events} == {("crackerjack", run_id)}
    started, _, node, ended = events
    assert isinstance(started, WorkflowStarted)
    assert isinstance(node, NodeCompleted)
    assert isinstance(ended, WorkflowCompleted)
    assert (started.nodes, started.metadata) == (("fast_hooks",), {"a": 1})
    assert (node.status, node.success, ended.status, ended.success) == ("ok", True, "ok", True)
    assert node.duration_seconds is not None
    assert ended.duration_seconds is not None
    assert 0 <= node.duration_seconds <= ended.duration_seconds


def test_the_workflow_is_the_started_one(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """The name comes from the call."""
    tracker.workflow_started("mine")
    tracker.node_started("n")
    assert {event.workflow_id for event in of(published, WorkflowEvent)} == {"mine"}


def test_events_are_kept_as_records_in_the_legacy_shape() -> None:
    """`get_events` returns them, with aware times, also without a bus."""
    tracker = WorkflowEventTracker(session_id="abc123")
    tracker.workflow_started("w")
    tracker.node_started("n")
    tracker.node_completed("n", success=False)
    records = tracker.get_events()
    assert [record["event_type"] for record in records] == [
        "workflow_started",
        "node_started",
        "node_completed",
    ]
    assert {record["session_id"] for record in records} == {"abc123"}
    assert records[2]["metadata"]["success"] is False
    assert records[2]["metadata"]["duration_seconds"] >= 0
    assert all(datetime.fromisoformat(record["timestamp"]).tzinfo for record in records)


@pytest.mark.parametrize(
    ("given", "status", "success"),
    [
        ({}, "ok", True),
        ({"success": False}, "failed", False),
        ({"status": "skipped"}, "skipped", True),
        ({"status": "cancelled"}, "cancelled", False),
        ({"status": "failed"}, "failed", False),
        ({"status": "ok", "success": False}, "failed", False),
        ({"status": "nonsense"}, "ok", True),
        ({"status": ["ok"]}, "ok", True),
        ({"error": ValueError()}, "failed", False),
        ({"error_type": "ValueError", "success": False}, "failed", False),
    ],
)
def test_how_a_node_ended(
    tracker: WorkflowEventTracker, published: list[Event], given: dict[str, Any], status: str, success: bool
) -> None:
    """The worse of status and success holds; an unknown status is ignored."""
    tracker.node_completed("n", **given)
    (ended,) = of(published, NodeCompleted)
    assert (ended.status, ended.success) == (status, success)
    assert decode(encode(ended)) == ended


@pytest.mark.parametrize(
    ("given", "status"),
    [({}, "ok"), ({"success": False}, "failed"), ({"status": "cancelled"}, "cancelled")],
)
def test_how_a_run_ended(
    tracker: WorkflowEventTracker, published: list[Event], given: dict[str, Any], status: str
) -> None:
    """A run has a status and the type of its error."""
    tracker.workflow_started("w")
    tracker.workflow_completed(**given, error_type="E")
    (ended,) = of(published, WorkflowCompleted)
    assert (ended.status, ended.success, ended.error_type) == (status, status == "ok", "E")


def test_a_completion_without_a_start_has_no_duration(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """It is published and raises nothing."""
    tracker.node_completed("n")
    tracker.workflow_completed()
    (node,), (run,) = of(published, NodeCompleted), of(published, WorkflowCompleted)
    assert (node.duration_seconds, run.duration_seconds) == (None, None)
    assert node.workflow_id == run.workflow_id == UNKNOWN_WORKFLOW
    assert node.run_id == run.run_id
    assert tracker.get_node_duration("n") is None
    assert tracker.publish_failures == 0


def test_each_end_without_a_start_is_an_attempt_or_a_run(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A producer without start events ends one more attempt, and one more run, with each call."""
    tracker.node_completed("n")
    tracker.node_completed("n")
    tracker.workflow_completed()
    tracker.workflow_completed()
    assert attempts(published) == [("n", 1), ("n", 2)]
    assert len({run.run_id for run in of(published, WorkflowCompleted)}) == 2


def test_a_second_end_is_ignored(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """This holds for a started attempt and for a run."""
    run_id = tracker.workflow_started("w")
    tracker.node_started("n")
    tracker.node_completed("n")
    tracker.node_completed("n", False)
    tracker.node_completed("n", False, attempt=1)
    tracker.workflow_completed()
    tracker.workflow_completed(False)
    tracker.workflow_completed(False, run_id=run_id)
    assert [node.success for node in of(published, NodeCompleted)] == [True]
    assert [run.success for run in of(published, WorkflowCompleted)] == [True]


def test_a_second_start_is_ignored(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """Two observers of one run may both report its start."""
    assert tracker.workflow_started("w", run_id="r") == "r"
    assert tracker.workflow_started("w", run_id="r") == "r"
    assert tracker.node_started("n", attempt=1) == 1
    assert tracker.node_started("n", attempt=1) == 1
    assert [type(event) for event in published] == [WorkflowStarted, NodeStarted]


def test_each_repetition_of_a_node_is_an_attempt(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Attempts are numbered from 1 per run and node."""
    tracker.workflow_started("w")
    for expected in (1, 2):
        assert tracker.node_started("n") == expected
        tracker.node_completed("n", success=expected == 2)
    assert tracker.node_started("other") == 1
    tracker.workflow_started("second run")
    assert tracker.node_started("n") == 1
    assert attempts(published) == [("n", 1), ("n", 1), ("n", 2), ("n", 2), ("other", 1), ("n", 1)]


def test_overlapping_attempts_each_end_their_own(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A number selects the attempt; without one, the latest open attempt ends."""
    tracker.workflow_started("w")
    first, second, third = (tracker.node_started("n") for _ in range(3))
    tracker.node_completed("n", attempt=first)
    tracker.node_completed("n")
    tracker.node_completed("n")
    assert [node.attempt for node in of(published, NodeCompleted)] == [first, third, second]
    assert all(node.duration_seconds is not None for node in of(published, NodeCompleted))


def test_an_end_without_context_or_number_means_the_latest_open_attempt(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """This fits nested calls."""
    for _ in range(2):
        elsewhere(lambda: tracker.node_started("n"))
    for _ in range(2):
        elsewhere(lambda: tracker.node_completed("n"))
    assert [node.attempt for node in of(published, NodeCompleted)] == [2, 1]


@pytest.mark.anyio
async def test_an_end_without_a_number_means_the_attempt_begun_in_its_context(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """The first attempt to start may be the first to end, without its number."""
    first_may_end, second_may_end = anyio.Event(), anyio.Event()

    async def node(name: str, may_end: anyio.Event) -> None:
        tracker.node_started("n")
        await may_end.wait()
        tracker.node_progress("n", metadata={"of": name})
        tracker.node_completed("n", metadata={"of": name})
        second_may_end.set()

    tracker.workflow_started("w")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node, "first", first_may_end)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(node, "second", second_may_end)
        await anyio.wait_all_tasks_blocked()
        first_may_end.set()
    for cls in (NodeProgress, NodeCompleted):
        found = [(event.attempt, event.metadata["of"]) for event in of(published, cls)]
        assert found == [(1, "first"), (2, "second")]


def test_numbers_continue_from_the_highest_explicit_one(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Explicit numbers may come in any order."""
    for attempt in (5, 2):
        assert tracker.node_started("n", attempt=attempt) == attempt
        tracker.node_completed("n", attempt=attempt)
    assert tracker.node_started("n") == 6


def test_overlapping_runs_keep_their_nodes_apart(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """With explicit ids, one node in two runs has two attempts numbered 1."""
    tracker.workflow_started("a", run_id="ra")
    tracker.workflow_started("b", run_id="rb")
    for run_id in ("ra", "rb"):
        assert tracker.node_started("n", run_id=run_id) == 1
    for run_id in ("ra", "rb"):
        tracker.node_completed("n", run_id=run_id)
        tracker.workflow_completed(run_id=run_id)
    ended = [(node.workflow_id, node.run_id, node.attempt) for node in of(published, NodeCompleted)]
    assert ended == [("a", "ra", 1), ("b", "rb", 1)]
    assert None not in [run.duration_seconds for run in of(published, WorkflowCompleted)]


@pytest.mark.anyio
async def test_tasks_that_overlap_each_mean_their_own_run(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A call without an id means the run begun in this context, not the latest one."""
    both_started = anyio.Event()
    waiting = 0

    async def workflow(name: str) -> None:
        nonlocal waiting
        tracker.workflow_started(name)
        tracker.node_started("n")
        waiting += 1
        if waiting == 2:
            both_started.set()
        await both_started.wait()
        tracker.node_completed("n", metadata={"of": name})
        tracker.workflow_completed(metadata={"of": name})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(workflow, "a")
        tasks.start_soon(workflow, "b")
    ended: list[NodeCompleted | WorkflowCompleted] = [
        *of(published, NodeCompleted),
        *of(published, WorkflowCompleted),
    ]
    for event in ended:
        assert event.metadata["of"] == event.workflow_id
        assert event.duration_seconds is not None


def test_an_empty_context_means_the_latest_open_run(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A thread of a pool starts with an empty context."""
    tracker.workflow_started("a")
    tracker.workflow_started("b")
    elsewhere(lambda: tracker.node_started("n"))
    tracker.workflow_completed()
    elsewhere(lambda: tracker.node_started("n"))
    assert [node.workflow_id for node in of(published, NodeStarted)] == ["b", "a"]


def test_an_end_without_context_means_the_run_in_which_the_node_is_open(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A later run does not take the node."""
    elsewhere(lambda: tracker.workflow_started("a"))
    elsewhere(lambda: tracker.node_started("n"))
    elsewhere(lambda: tracker.workflow_started("b"))
    elsewhere(lambda: tracker.node_completed("n"))
    (ended,) = of(published, NodeCompleted)
    assert ended.workflow_id == "a"
    assert ended.duration_seconds is not None


def test_a_node_without_a_run_belongs_to_an_implicit_one(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """That run has one id and an unknown workflow, and is dropped when the first real run begins."""
    tracker.node_started("a")
    tracker.node_completed("a")
    tracker.node_started("b")
    tracker.node_completed("b")
    nodes = of(published, NodeEvent)
    assert {node.workflow_id for node in nodes} == {UNKNOWN_WORKFLOW}
    assert len({node.run_id for node in nodes}) == 1
    tracker.workflow_started("w")
    elsewhere(tracker.workflow_completed)
    elsewhere(tracker.workflow_completed)
    assert [run.workflow_id for run in of(published, WorkflowCompleted)] == ["w"]


def test_a_run_may_start_after_its_node(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """A run whose id is known from a node takes over that node."""
    tracker.node_started("n", run_id="r")
    tracker.workflow_started("w", run_id="r")
    tracker.node_completed("n", run_id="r")
    (ended,) = of(published, NodeCompleted)
    assert (ended.workflow_id, ended.attempt) == ("w", 1)
    assert ended.duration_seconds is not None


def test_nodes_that_are_open_when_their_run_ends_are_cancelled(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """They end in the order of their starts, before the run; their own late ends are ignored."""
    run_id = tracker.workflow_started("w")
    tracker.node_started("b")
    tracker.node_started("a")
    tracker.node_started("b")
    tracker.node_started("done")
    tracker.node_completed("done")
    tracker.workflow_completed(False)
    tracker.node_completed("a", run_id=run_id)
    done, *cancelled = of(published, NodeCompleted)
    assert (done.status, done.success) == ("ok", True)
    assert {(node.status, node.success) for node in cancelled} == {("cancelled", False)}
    assert [(node.node_id, node.attempt) for node in cancelled] == [("b", 1), ("a", 1), ("b", 2)]
    assert all(node.duration_seconds is not None for node in of(published, NodeCompleted))
    assert isinstance(published[-1], WorkflowCompleted)


@pytest.mark.anyio
async def test_a_task_that_outlives_its_run_does_not_affect_another_run(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Its node was cancelled with its run; a late end is ignored."""
    run_ended = anyio.Event()

    async def phase() -> None:
        attempt = tracker.node_started("n")
        await run_ended.wait()
        tracker.node_progress("n", 1)
        tracker.node_completed("n", attempt=attempt)
        tracker.workflow_completed()

    async with anyio.create_task_group() as tasks:
        tracker.workflow_started("a")
        tasks.start_soon(phase)
        await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        tracker.workflow_completed()
        tracker.workflow_started("b", run_id="rb")
        run_ended.set()
    assert [(node.workflow_id, node.status) for node in of(published, NodeCompleted)] == [("a", "cancelled")]
    assert [run.workflow_id for run in of(published, WorkflowCompleted)] == ["a"]
    assert of(published, NodeProgress) == []


def test_an_ended_run_takes_no_more_nodes(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """A node started there could never end."""
    run_id = tracker.workflow_started("w")
    tracker.workflow_completed()
    count = len(published)
    assert tracker.node_started("n", run_id=run_id) == 1
    tracker.node_progress("n", run_id=run_id)
    tracker.node_completed("n", run_id=run_id)
    assert len(published) == count


def test_a_resumed_run_continues_the_numbers_of_its_attempts(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A run may be executed twice; no two of its attempts have the same number."""
    for expected in (1, 2):
        tracker.workflow_started("w", run_id="r")
        assert tracker.node_started("n") == expected
        tracker.workflow_completed()
    assert [node.attempt for node in of(published, NodeCompleted)] == [1, 2]


def test_a_skipped_node_ends_with_or_without_a_start(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A node may be started and then skipped, or only skipped."""
    tracker.workflow_started("w")
    tracker.node_started("a")
    tracker.node_skipped("a")
    tracker.node_skipped("b", {"why": "checkpoint"})
    a, b = of(published, NodeCompleted)
    assert (a.status, a.success, a.duration_seconds is None) == ("skipped", True, False)
    assert (b.status, b.success, b.duration_seconds, b.metadata) == (
        "skipped",
        True,
        None,
        {"why": "checkpoint"},
    )


def test_progress_is_published_but_not_kept(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """It belongs to the open attempt, and does not push ends out of `events`."""
    tracker.workflow_started("w")
    tracker.node_started("n")
    tracker.node_started("n")
    tracker.node_progress("n", 1, 3, "one")
    (progress,) = of(published, NodeProgress)
    assert (progress.attempt, progress.completed, progress.total, progress.message) == (2, 1, 3, "one")
    assert not of(list(tracker.events), NodeProgress)


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), "three", None])
def test_progress_that_is_not_a_number_can_be_decoded(
    tracker: WorkflowEventTracker, published: list[Event], amount: Any
) -> None:
    """JSON has no NaN: it becomes None."""
    tracker.node_progress("n", amount, amount)
    (progress,) = of(published, NodeProgress)
    assert (progress.completed, progress.total) == (0, None)
    assert decode(encode(progress)) == progress


def test_the_metadata_of_the_caller_is_never_changed(tracker: WorkflowEventTracker) -> None:
    """Keys are removed from a copy only."""
    metadata: dict[str, Any] = {"error_type": "E", "error_message": "m", "mine": 1}
    before = dict(metadata)
    tracker.workflow_started("w", metadata)
    tracker.node_started("n", metadata)
    tracker.node_progress("n", metadata=metadata)
    tracker.node_completed("n", False, metadata)
    tracker.workflow_completed(False, metadata)
    assert metadata == before


def test_an_error_in_metadata_gives_its_type_but_not_its_text(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Texts of exceptions may be private and are removed by default."""
    metadata = {"error_type": "ValueError", "error_message": "secret", "mine": 1}
    tracker.workflow_started("w", metadata)
    tracker.node_started("n", metadata)
    tracker.node_completed("n", False, metadata)
    tracker.node_completed("m", error=KeyError("secret"), error_message="secret")
    tracker.workflow_completed(False, metadata)
    n, m = of(published, NodeCompleted)
    (run,) = of(published, WorkflowCompleted)
    assert (n.error_type, n.metadata, m.error_type) == ("ValueError", {"mine": 1}, "KeyError")
    assert (run.error_type, run.metadata) == ("ValueError", {"mine": 1})
    assert b"secret" not in b"".join(encode(event) for event in published)


def test_the_text_of_an_error_is_kept_on_request(sink: EventSink, published: list[Event]) -> None:
    """Its first 500 characters are kept, from the metadata, the exception or the argument."""
    tracker = WorkflowEventTracker(sink, error_messages=True)
    tracker.node_completed("a", False, {"error_message": "x" * 600})
    tracker.node_completed("b", error=ValueError("from the exception"))
    tracker.node_completed("c", False, error_type="E", error_message="explicit")
    tracker.workflow_completed(False, {"error_message": "y" * 600})
    texts = [node.error_message for node in of(published, NodeCompleted)]
    assert texts == ["x" * 500, "from the exception", "explicit"]
    assert of(published, WorkflowCompleted)[0].metadata == {"error_message": "y" * 500}


def test_durations_of_nodes_are_found_by_name_and_by_run(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """The latest duration is found, also after its run has ended; None for an unknown node."""
    for run_id in ("r1", "r2"):
        tracker.workflow_started("w", run_id=run_id)
        tracker.node_started("n")
        tracker.node_completed("n")
        tracker.workflow_completed()
    first, second = (node.duration_seconds for node in of(published, NodeCompleted))
    assert tracker.get_node_duration("n") == second
    assert tracker.get_node_duration("n", run_id="r1") == first
    assert tracker.get_node_duration("n", run_id="r3") is None
    assert tracker.get_node_duration("other") is None


def test_a_node_without_a_measurable_duration_has_zero(
    tracker: WorkflowEventTracker, published: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The duration is 0.0, not None; also if the clock went back."""
    monkeypatch.setattr("time.perf_counter", iter([5.0, 5.0, 5.0, 5.0, 4.0, 3.0, 3.0]).__next__)
    tracker.workflow_started("w")
    tracker.node_started("n")
    tracker.node_completed("n")
    tracker.node_started("back")
    tracker.node_completed("back")
    assert tracker.get_node_duration("back") == 0.0
    tracker.workflow_completed()
    assert tracker.get_node_duration("n") == 0.0
    assert tracker.get_events()[2]["metadata"]["duration_seconds"] == 0.0
    assert of(published, WorkflowCompleted)[0].duration_seconds == 0.0


def test_the_session_of_a_run_is_that_of_its_start(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Its nodes and its end have the same session, also in another scope."""
    with session_scope("begin"):
        tracker.workflow_started("w")
    with session_scope("other"):
        tracker.node_started("n")
        tracker.node_progress("n")
        tracker.workflow_completed()
    assert {event.session_id for event in published} == {"begin"}


def test_a_run_without_a_session_stays_without(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """A later session is not used."""
    tracker.workflow_started("w")
    with session_scope("later"):
        tracker.node_started("n")
        tracker.workflow_completed()
    assert {event.session_id for event in published} == {None}


def test_the_session_of_the_tracker_wins_over_that_of_the_context(
    sink: EventSink, published: list[Event]
) -> None:
    """An explicit session is used."""
    with session_scope("context"):
        WorkflowEventTracker(sink, session_id="explicit").workflow_started("w")
    assert [event.session_id for event in published] == ["explicit"]


def test_a_session_is_active_while_its_run_is_open() -> None:
    """Events without another session get it until the run ends."""
    tracker = WorkflowEventTracker(session_id="abc")
    run_id = tracker.workflow_started("w")
    assert Event().session_id == "abc"
    run = tracker._runs._open[run_id]
    tracker.workflow_completed()
    assert run.session_id == "abc"
    assert Event().session_id is None


def test_of_two_open_sessions_neither_is_active() -> None:
    """Either could be meant; after one ends, the other is active."""
    first, second = WorkflowEventTracker(session_id="a"), WorkflowEventTracker(session_id="b")
    first.workflow_started("w")
    second.workflow_started("w")
    assert current_session_id() is None
    second.workflow_completed()
    assert current_session_id() == "a"
    first.workflow_completed()


def test_a_run_that_is_never_completed_does_not_keep_its_session_active() -> None:
    """A garbage-collected tracker and an implicit run have no active session."""
    tracker = WorkflowEventTracker(session_id="leaked")
    tracker.workflow_started("w")
    assert current_session_id() == "leaked"
    del tracker
    gc.collect()
    assert current_session_id() is None
    implicit = WorkflowEventTracker(session_id="implicit")
    implicit.node_started("n")
    assert current_session_id() is None


def call_everything(tracker: WorkflowEventTracker, value: Any) -> None:
    tracker.workflow_started(value, value, run_id=value, nodes=value)
    tracker.node_started(value, value, run_id=value, attempt=value)
    tracker.node_progress(value, value, value, value, value, run_id=value, attempt=value)
    tracker.node_completed(value, value, value, run_id=value, attempt=value, status=value, error=value)
    tracker.node_completed(value, error_type=value, error_message=value)
    tracker.node_skipped(value, value, run_id=value, attempt=value)
    tracker.workflow_completed(value, value, run_id=value, status=value, error_type=value)
    tracker.get_node_duration(value, run_id=value)
    tracker.get_events()


class HostileKey:
    """A key that can be hashed, but raises otherwise."""

    def __str__(self) -> NoReturn:
        raise KeyError

    __repr__ = __str__


class HostileText(str):
    """A text that is not an exact `str` and cannot be hashed."""

    __slots__ = ()

    def __hash__(self) -> NoReturn:
        raise KeyError

    def __eq__(self, other: object) -> NoReturn:
        raise KeyError


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: "",
        lambda: "\ud800",
        lambda: 7,
        lambda: -1,
        lambda: float("nan"),
        lambda: 10**400,
        lambda: [1],
        lambda: {1: {2}, "error_type": Hostile(), "error_message": Hostile()},
        lambda: {HostileKey(): Hostile()},
        lambda: object,
        Hostile,
        lambda: HostileText("x"),
    ],
    ids=[
        "None",
        "empty",
        "surrogate",
        "int",
        "negative",
        "nan",
        "giant",
        "list",
        "dict",
        "key",
        "class",
        "hostile",
        "text",
    ],
)
@pytest.mark.parametrize("broken", [True, False])
def test_no_method_ever_raises(
    sink: EventSink, published: list[Event], make: Callable[[], Any], broken: bool
) -> None:
    """This holds for any arguments and for a broken bus; the published events can be encoded."""
    tracker = WorkflowEventTracker(RaisingSink() if broken else sink, error_messages=True)
    call_everything(tracker, make())
    assert bool(tracker.publish_failures) is broken
    assert bool(published) is not broken
    for event in published:
        decode(encode(event))


def test_a_failure_inside_the_tracker_still_returns_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted and not raised; runs and attempts have usable ids."""
    tracker = WorkflowEventTracker()

    def fail(*args: object) -> NoReturn:
        raise MemoryError

    for name in ("begin", "start_node", "end_node", "current_attempt", "take"):
        monkeypatch.setattr(tracker._runs, name, fail)
    assert tracker.workflow_started("w", run_id="r") == "r"
    assert tracker.workflow_started("w")
    assert tracker.node_started("n", attempt=3) == 3
    tracker.node_progress("n")
    tracker.node_completed("n")
    tracker.workflow_completed()
    assert tracker.publish_failures == 6


def test_a_session_in_the_place_of_the_bus_is_refused() -> None:
    """Such a tracker would never publish."""
    with pytest.raises(TypeError, match="session_id="):
        WorkflowEventTracker("abc123")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_without_a_bus_the_current_one_is_looked_up_at_each_event(
    sink: EventSink, published: list[Event]
) -> None:
    """Events before its start are kept, not published."""
    tracker = WorkflowEventTracker()
    tracker.workflow_started("w")
    current_bus.register(sink)
    token = current_bus.push(sink)
    tracker.workflow_completed()
    current_bus.pop(token)
    current_bus.unregister(sink)
    assert [type(event) for event in published] == [WorkflowCompleted]
    assert len(tracker.events) == 2


def test_memory_is_bounded(sink: EventSink, published: list[Event]) -> None:
    """Events, durations, ended runs and open runs each have a limit."""
    tracker = WorkflowEventTracker(sink, history=10)
    for n in range(MAX_DURATIONS + 50):
        tracker.workflow_started("w", run_id=f"r{n}")
        tracker.node_started(f"n{n}")
        tracker.workflow_completed()
    runs = tracker._runs
    assert len(tracker.events) == 10
    assert len(runs._durations) == 2 * MAX_DURATIONS
    assert len(runs._ended) == MAX_ENDED_RUNS
    assert tracker.get_node_duration("n0") is None
    assert tracker.get_node_duration(f"n{MAX_DURATIONS}") is not None


def test_the_oldest_of_too_many_open_runs_ends(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """Its end is marked as abandoned, and its node is cancelled."""
    tracker.workflow_started("w", run_id="first")
    tracker.node_started("n")
    for _ in range(MAX_OPEN_RUNS):
        tracker.workflow_started("w")
    (node,), (run,) = of(published, NodeCompleted), of(published, WorkflowCompleted)
    assert (node.run_id, node.status) == ("first", "cancelled")
    assert (run.run_id, run.status, run.metadata) == ("first", "cancelled", {"abandoned": True})
    for n in range(2 * MAX_OPEN_RUNS):
        tracker.node_completed("n", run_id=f"unknown {n}")
    assert len(tracker._runs._open) == MAX_OPEN_RUNS


def test_many_threads_number_the_attempts_at_one_node(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """No number is used twice, and each attempt ends once."""
    tracker.workflow_started("w")

    def work() -> None:
        for _ in range(100):
            tracker.node_completed("n", attempt=tracker.node_started("n"))

    run_in_threads(8, work)
    tracker.workflow_completed()
    for cls in (NodeStarted, NodeCompleted):
        assert sorted(event.attempt for event in of(published, cls)) == list(range(1, 801))
    assert {node.status for node in of(published, NodeCompleted)} == {"ok"}


def test_a_real_bus_delivers_what_a_tracker_publishes() -> None:
    """A bus in its own thread delivers them in order."""
    received: list[Event] = []
    with EventBus() as bus:
        bus.subscribe(received.append, WorkflowEvent)
        tracker = WorkflowEventTracker(bus, session_id="abc")
        tracker.workflow_started("w")
        tracker.node_started("n")
        tracker.node_completed("n")
        tracker.workflow_completed()
    assert received == tracker.events
    assert len(received) == 4
