"""What is told of runs and nodes becomes the right events, and never raises."""

from __future__ import annotations

import contextvars
import gc
import threading
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

EventT = TypeVar("EventT", bound=Event)


@pytest.fixture
def tracker(sink: EventSink) -> WorkflowEventTracker:
    return WorkflowEventTracker(sink)


def of(published: list[Event], cls: type[EventT]) -> list[EventT]:
    return [event for event in published if isinstance(event, cls)]


def attempts(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.node_id, event.attempt) for event in events if isinstance(event, NodeEvent)]


def elsewhere(work: Callable[[], object]) -> None:
    """Run in a context that has begun nothing, as a thread of a pool does."""
    contextvars.Context().run(work)


def test_a_run_tells_of_itself_and_its_nodes(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """Four calls are four events of one run, with durations."""
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


def test_the_workflow_is_the_one_that_was_started(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """No name is built in."""
    tracker.workflow_started("mine")
    tracker.node_started("n")
    assert {event.workflow_id for event in of(published, WorkflowEvent)} == {"mine"}


def test_events_are_kept_as_records_in_the_historic_shape() -> None:
    """Without any bus, `get_events` still has them, with aware times."""
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
    """The worse of status and success holds; a status the wire does not know is none."""
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
    """A run has a status, too, and the type of what ended it."""
    tracker.workflow_started("w")
    tracker.workflow_completed(**given, error_type="E")
    (ended,) = of(published, WorkflowCompleted)
    assert (ended.status, ended.success, ended.error_type) == (status, status == "ok", "E")


def test_a_completion_without_a_start_has_no_duration(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """It is told of, and raises nothing."""
    tracker.node_completed("n")
    tracker.workflow_completed()
    (node,), (run,) = of(published, NodeCompleted), of(published, WorkflowCompleted)
    assert (node.duration_seconds, run.duration_seconds) == (None, None)
    assert node.workflow_id == run.workflow_id == UNKNOWN_WORKFLOW
    assert node.run_id == run.run_id
    assert tracker.get_node_duration("n") is None
    assert tracker.publish_failures == 0


def test_who_never_tells_of_starts_tells_of_one_more_each_time(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Ends of unseen starts are attempts, and runs, of their own."""
    tracker.node_completed("n")
    tracker.node_completed("n")
    tracker.workflow_completed()
    tracker.workflow_completed()
    assert attempts(published) == [("n", 1), ("n", 2)]
    assert len({run.run_id for run in of(published, WorkflowCompleted)}) == 2


def test_ending_twice_is_ending_once(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """A second end of an attempt that was started, and of a run, is ignored."""
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


def test_starting_twice_is_starting_once(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """Two observers of one run may both tell of its beginning."""
    assert tracker.workflow_started("w", run_id="r") == "r"
    assert tracker.workflow_started("w", run_id="r") == "r"
    assert tracker.node_started("n", attempt=1) == 1
    assert tracker.node_started("n", attempt=1) == 1
    assert [type(event) for event in published] == [WorkflowStarted, NodeStarted]


def test_repeated_and_retried_nodes_are_attempts_of_their_own(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Numbered from 1 per run and node; each has its own duration."""
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
    """By number, in any order; without one, the latest that is open."""
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
    """As of calls that enclose each other."""
    for _ in range(2):
        elsewhere(lambda: tracker.node_started("n"))
    for _ in range(2):
        elsewhere(lambda: tracker.node_completed("n"))
    assert [node.attempt for node in of(published, NodeCompleted)] == [2, 1]


@pytest.mark.anyio
async def test_an_end_without_a_number_means_the_attempt_begun_in_its_context(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """The first to start may be the first to end, and need not remember its number."""
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
        told = [(event.attempt, event.metadata["of"]) for event in of(published, cls)]
        assert told == [(1, "first"), (2, "second")]


def test_attempts_numbered_by_the_caller_are_counted_on_from_the_highest(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """In whatever order they were given."""
    for attempt in (5, 2):
        assert tracker.node_started("n", attempt=attempt) == attempt
        tracker.node_completed("n", attempt=attempt)
    assert tracker.node_started("n") == 6


def test_overlapping_runs_keep_their_nodes_apart(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """By explicit id, one node of two runs has two attempts numbered 1."""
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
    """Without any id, the run begun in this context is meant, whichever began last."""
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


def test_a_context_that_began_nothing_means_the_latest_open_run(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Such as a thread of a pool, which starts with an empty context."""
    tracker.workflow_started("a")
    tracker.workflow_started("b")
    elsewhere(lambda: tracker.node_started("n"))
    tracker.workflow_completed()
    elsewhere(lambda: tracker.node_started("n"))
    assert [node.workflow_id for node in of(published, NodeStarted)] == ["b", "a"]


def test_an_end_without_context_means_the_run_in_which_the_node_is_open(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A later run does not take it away."""
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
    """It keeps one id, is of an unknown workflow, and gives way to the first real run."""
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


def test_a_run_whose_node_was_told_of_first_is_that_run(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """An id that is known from a node is adopted when its run is told of."""
    tracker.node_started("n", run_id="r")
    tracker.workflow_started("w", run_id="r")
    tracker.node_completed("n", run_id="r")
    (ended,) = of(published, NodeCompleted)
    assert (ended.workflow_id, ended.attempt) == ("w", 1)
    assert ended.duration_seconds is not None


def test_nodes_that_are_open_when_their_run_ends_are_cancelled(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """In the order of their starts, before the run's own end; a late end of theirs is ignored."""
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
async def test_a_task_that_outlives_its_run_tells_nothing_of_another(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Its node was cancelled with the run: the end that comes late belongs nowhere."""
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


def test_after_its_end_a_run_takes_no_more_nodes(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """What is started there could never end."""
    run_id = tracker.workflow_started("w")
    tracker.workflow_completed()
    count = len(published)
    assert tracker.node_started("n", run_id=run_id) == 1
    tracker.node_progress("n", run_id=run_id)
    tracker.node_completed("n", run_id=run_id)
    assert len(published) == count


def test_a_run_that_is_resumed_numbers_its_attempts_on(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """One id may be executed twice: no two attempts are called the same."""
    for expected in (1, 2):
        tracker.workflow_started("w", run_id="r")
        assert tracker.node_started("n") == expected
        tracker.workflow_completed()
    assert [node.attempt for node in of(published, NodeCompleted)] == [1, 2]


def test_a_skipped_node_ends_with_or_without_a_start(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A checkpointed node is started and then skipped; another is only skipped."""
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


def test_progress_is_published_and_not_kept(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """It belongs to the attempt that is open, and does not push ends out of `events`."""
    tracker.workflow_started("w")
    tracker.node_started("n")
    tracker.node_started("n")
    tracker.node_progress("n", 1, 3, "one")
    (progress,) = of(published, NodeProgress)
    assert (progress.attempt, progress.completed, progress.total, progress.message) == (2, 1, 3, "one")
    assert not of(list(tracker.events), NodeProgress)


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), "three", None])
def test_progress_that_is_no_number_can_still_be_read_back(
    tracker: WorkflowEventTracker, published: list[Event], amount: Any
) -> None:
    """The wire cannot say NaN: it is none."""
    tracker.node_progress("n", amount, amount)
    (progress,) = of(published, NodeProgress)
    assert (progress.completed, progress.total) == (0, None)
    assert decode(encode(progress)) == progress


def test_the_metadata_of_the_caller_is_never_changed(tracker: WorkflowEventTracker) -> None:
    """Neither by what is taken out of it, nor by what the event adds."""
    metadata: dict[str, Any] = {"error_type": "E", "error_message": "m", "mine": 1}
    before = dict(metadata)
    tracker.workflow_started("w", metadata)
    tracker.node_started("n", metadata)
    tracker.node_progress("n", metadata=metadata)
    tracker.node_completed("n", False, metadata)
    tracker.workflow_completed(False, metadata)
    assert metadata == before


def test_the_type_of_an_error_in_metadata_is_lifted_and_its_text_dropped(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Texts of exceptions may be private: they are not kept unless asked for."""
    told = {"error_type": "ValueError", "error_message": "secret", "mine": 1}
    tracker.workflow_started("w", told)
    tracker.node_started("n", told)
    tracker.node_completed("n", False, told)
    tracker.node_completed("m", error=KeyError("secret"), error_message="secret")
    tracker.workflow_completed(False, told)
    n, m = of(published, NodeCompleted)
    (run,) = of(published, WorkflowCompleted)
    assert (n.error_type, n.metadata, m.error_type) == ("ValueError", {"mine": 1}, "KeyError")
    assert (run.error_type, run.metadata) == ("ValueError", {"mine": 1})
    assert b"secret" not in b"".join(encode(event) for event in published)


def test_the_text_of_an_error_is_kept_where_it_is_asked_for(sink: EventSink, published: list[Event]) -> None:
    """Its first 500 characters, wherever it was told."""
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
    """The latest one, in any run or in one; also after the run has ended; None for an unknown one."""
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


def test_an_instant_node_has_a_duration(
    tracker: WorkflowEventTracker, published: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.0 is one; and a clock that went back gives it, not a negative one."""
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
    """Whoever tells of its nodes and its end, and wherever."""
    with session_scope("begin"):
        tracker.workflow_started("w")
    with session_scope("other"):
        tracker.node_started("n")
        tracker.node_progress("n")
        tracker.workflow_completed()
    assert {event.session_id for event in published} == {"begin"}


def test_a_run_without_a_session_stays_without(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """None is not filled in later."""
    tracker.workflow_started("w")
    with session_scope("later"):
        tracker.node_started("n")
        tracker.workflow_completed()
    assert {event.session_id for event in published} == {None}


def test_the_session_of_the_tracker_goes_before_that_of_the_context(
    sink: EventSink, published: list[Event]
) -> None:
    """What was said explicitly holds."""
    with session_scope("context"):
        WorkflowEventTracker(sink, session_id="explicit").workflow_started("w")
    assert [event.session_id for event in published] == ["explicit"]


def test_while_its_run_is_open_a_session_is_active() -> None:
    """Events that nothing else attributes are attributed to it, until the run ends."""
    tracker = WorkflowEventTracker(session_id="abc")
    run_id = tracker.workflow_started("w")
    assert Event().session_id == "abc"
    kept_by_somebody = tracker._runs._open[run_id]
    tracker.workflow_completed()
    assert kept_by_somebody.session_id == "abc"
    assert Event().session_id is None


def test_two_open_sessions_make_neither_the_active_one() -> None:
    """There is no telling which one is meant; when one ends, it is the other."""
    first, second = WorkflowEventTracker(session_id="a"), WorkflowEventTracker(session_id="b")
    first.workflow_started("w")
    second.workflow_started("w")
    assert current_session_id() is None
    second.workflow_completed()
    assert current_session_id() == "a"
    first.workflow_completed()


def test_a_run_that_is_never_completed_does_not_keep_its_session_active() -> None:
    """A tracker that is garbage has no open run; nor has an implicit run ever a mark."""
    tracker = WorkflowEventTracker(session_id="leaked")
    tracker.workflow_started("w")
    assert current_session_id() == "leaked"
    del tracker
    gc.collect()
    assert current_session_id() is None
    implicit = WorkflowEventTracker(session_id="implicit")
    implicit.node_started("n")
    assert current_session_id() is None


class BrokenSink:
    """A bus that is broken."""

    def publish(self, event: Event) -> NoReturn:
        """Raise."""
        raise KeyError("broken")


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


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise KeyError(name)

    def __str__(self) -> NoReturn:
        raise KeyError

    __repr__ = __str__
    __bool__: Any = __str__
    __iter__: Any = __str__
    __len__: Any = __str__
    __hash__: Any = __str__

    def __eq__(self, other: object) -> NoReturn:
        raise KeyError


class HostileKey:
    """A key that can be hashed, and nothing else."""

    def __str__(self) -> NoReturn:
        raise KeyError

    __repr__ = __str__


class HostileText(str):
    """A text that is no exact `str`, and no key."""

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
    """Whatever the arguments hold, and whatever the bus does; and what is published can be written."""
    tracker = WorkflowEventTracker(BrokenSink() if broken else sink, error_messages=True)
    call_everything(tracker, make())
    assert bool(tracker.publish_failures) is broken
    assert bool(published) is not broken
    for event in published:
        decode(encode(event))


def test_attempts_and_runs_have_an_id_even_when_all_else_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure inside the tracker is kept inside, counted, and answered with something usable."""
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
    """It would be a tracker that never publishes."""
    with pytest.raises(TypeError, match="session_id="):
        WorkflowEventTracker("abc123")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_without_a_bus_the_current_one_is_asked_for_at_each_event(
    sink: EventSink, published: list[Event]
) -> None:
    """Events before it came up are kept, not published."""
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
    """Events, durations, ended runs and runs that never end: each has a limit."""
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


def test_the_oldest_of_too_many_open_runs_is_ended(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """It says that it was abandoned, and its node ends; nothing grows for ever."""
    tracker.workflow_started("w", run_id="first")
    tracker.node_started("n")
    for _ in range(MAX_OPEN_RUNS):
        tracker.workflow_started("w")
    (node,), (run,) = of(published, NodeCompleted), of(published, WorkflowCompleted)
    assert (node.run_id, node.status) == ("first", "cancelled")
    assert (run.run_id, run.status, run.metadata) == ("first", "cancelled", {"abandoned": True})
    for n in range(2 * MAX_OPEN_RUNS):
        tracker.node_completed("n", run_id=f"never told of {n}")
    assert len(tracker._runs._open) == MAX_OPEN_RUNS


def test_many_threads_number_the_attempts_at_one_node(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """No number is given twice, and each attempt ends once."""
    tracker.workflow_started("w")

    def work() -> None:
        for _ in range(100):
            tracker.node_completed("n", attempt=tracker.node_started("n"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracker.workflow_completed()
    for cls in (NodeStarted, NodeCompleted):
        assert sorted(event.attempt for event in of(published, cls)) == list(range(1, 801))
    assert {node.status for node in of(published, NodeCompleted)} == {"ok"}


def test_a_real_bus_delivers_what_a_tracker_publishes() -> None:
    """Through a bus on its own thread, in order."""
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
