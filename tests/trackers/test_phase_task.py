"""An observed phase has the outcome of an unobserved one, and publishes it once."""

from __future__ import annotations

import gc
import inspect
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NoReturn

import anyio
import anyio.lowlevel
import pytest

from eventbus.contracts import EventSink
from eventbus.events import Event, NodeCompleted, NodeStarted
from eventbus.trackers import PhaseTask, WorkflowEventTracker
from tests.trackers.conftest import RaisingSink

pytestmark = pytest.mark.anyio


@pytest.fixture
def tracker(sink: EventSink) -> WorkflowEventTracker:
    return WorkflowEventTracker(sink)


def ends(published: list[Event]) -> list[NodeCompleted]:
    return [event for event in published if isinstance(event, NodeCompleted)]


def only_end(published: list[Event]) -> NodeCompleted:
    """Return the only end, after a check that its attempt was started once."""
    started, ended = published
    assert isinstance(started, NodeStarted)
    assert isinstance(ended, NodeCompleted)
    assert (started.node_id, started.attempt) == (ended.node_id, ended.attempt)
    return ended


async def unobserved(runner: Callable[[], Any], name: str = "phase") -> Any:
    """Run a phase as Oneiric's own task does."""
    result = runner()
    if inspect.isawaitable(result):
        result = await result
    if result is False:
        raise RuntimeError(f"workflow-task-failed: {name}")
    return result


def returning(value: Any) -> tuple[Callable[[], Any], Callable[[], Awaitable[Any]]]:
    async def asynchronous() -> Any:
        await anyio.lowlevel.checkpoint()
        return value

    return (lambda: value), asynchronous


@pytest.mark.parametrize("which", [0, 1], ids=["sync", "async"])
@pytest.mark.parametrize("value", [True, None, 0, "", [], pytest.param(object(), id="object")], ids=repr)
async def test_a_phase_that_returns_succeeds_with_the_same_object(
    tracker: WorkflowEventTracker, published: list[Event], which: int, value: object
) -> None:
    """Every result except False is a success, and is returned unchanged."""
    runner = returning(value)[which]
    assert await PhaseTask("phase", runner, tracker).run({"payload": 1}) is value
    ended = only_end(published)
    assert (ended.status, ended.success, ended.error_type) == ("ok", True, None)
    assert ended.duration_seconds is not None


@pytest.mark.parametrize("which", [0, 1], ids=["sync", "async"])
async def test_a_phase_that_returns_false_fails_as_in_oneiric(
    tracker: WorkflowEventTracker, published: list[Event], which: int
) -> None:
    """It raises Oneiric's own error, without a cause."""
    with pytest.raises(RuntimeError) as raised:
        await PhaseTask("tests", returning(False)[which], tracker).run()
    assert raised.value.args == ("workflow-task-failed: tests",)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    ended = only_end(published)
    assert (ended.status, ended.success, ended.error_type) == ("failed", False, "RuntimeError")


class CustomAwaitable:
    """Awaitable, but not a coroutine."""

    def __await__(self) -> Generator[Any, Any, str]:
        yield from anyio.lowlevel.checkpoint().__await__()
        return "result"


async def test_any_awaitable_is_awaited(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """The result need not be a coroutine."""
    assert await PhaseTask("phase", CustomAwaitable, tracker).run() == "result"
    assert only_end(published).success


def raising(error: BaseException) -> tuple[Callable[[], Any], Callable[[], Awaitable[Any]]]:
    def synchronous() -> NoReturn:
        raise error

    async def asynchronous() -> NoReturn:
        await anyio.lowlevel.checkpoint()
        raise error

    return synchronous, asynchronous


class CustomError(Exception):
    """Has an attribute beside its arguments."""

    def __init__(self, code: int) -> None:
        super().__init__("text", code)
        self.code = code


def with_cause() -> BaseException:
    error = CustomError(3)
    error.__cause__ = KeyError("cause")
    error.__context__ = OSError("context")
    return error


@pytest.mark.parametrize("which", [0, 1], ids=["sync", "async"])
@pytest.mark.parametrize("broken", [False, True], ids=["working", "broken"])
async def test_an_exception_passes_through_unchanged(
    sink: EventSink, published: list[Event], which: int, broken: bool
) -> None:
    """Object, arguments, cause, context and frames are those of an unobserved phase."""
    error, plain = with_cause(), with_cause()
    cause, context = error.__cause__, error.__context__
    tracker = WorkflowEventTracker(RaisingSink() if broken else sink)
    with pytest.raises(CustomError) as raised:
        await PhaseTask("phase", raising(error)[which], tracker).run()
    with pytest.raises(CustomError) as expected:
        await unobserved(raising(plain)[which])
    assert raised.value is error
    assert error.args == ("text", 3)
    assert (error.__cause__, error.__context__) == (cause, context)
    frames, wanted = (traceback.extract_tb(e.value.__traceback__) for e in (raised, expected))
    assert len(frames) == len(wanted)
    assert [frame.line for frame in frames[2:]] == [frame.line for frame in wanted[2:]]
    if not broken:
        ended = only_end(published)
        assert (ended.status, ended.error_type, ended.error_message) == ("failed", "CustomError", None)


async def test_the_text_of_an_exception_is_published_only_on_request(
    sink: EventSink, published: list[Event]
) -> None:
    """A tracker with `error_messages=True` publishes it."""
    tracker = WorkflowEventTracker(sink, error_messages=True)
    with pytest.raises(ValueError, match="secret"):
        await PhaseTask("phase", raising(ValueError("secret"))[0], tracker).run()
    assert only_end(published).error_message == "secret"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2)], ids=repr)
async def test_a_phase_that_is_interrupted_is_cancelled(
    tracker: WorkflowEventTracker, published: list[Event], error: BaseException
) -> None:
    """Ctrl-C and exit pass through; the node's end has their type."""
    coroutine = PhaseTask("phase", raising(error)[0], tracker).run()
    with pytest.raises(type(error)) as raised:
        coroutine.send(None)
    assert raised.value is error
    ended = only_end(published)
    assert (ended.status, ended.success, ended.error_type) == ("cancelled", False, type(error).__name__)


async def test_a_cancelled_phase_is_cancelled(tracker: WorkflowEventTracker, published: list[Event]) -> None:
    """The cancellation is published and not swallowed."""
    after = False
    with anyio.CancelScope() as scope:

        async def runner() -> None:
            scope.cancel()
            await anyio.sleep_forever()

        await PhaseTask("phase", runner, tracker).run()
        after = True
    assert scope.cancelled_caught
    assert not after
    ended = only_end(published)
    assert (ended.status, ended.success) == ("cancelled", False)
    assert ended.error_type in {"CancelledError", "Cancelled"}


async def test_a_phase_that_is_closed_is_cancelled(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Closing a suspended coroutine ends its node and raises nothing."""
    coroutine = PhaseTask("phase", anyio.sleep_forever, tracker).run()
    suspended = _suspend(coroutine)
    suspended.close()
    assert (only_end(published).status, only_end(published).error_type) == ("cancelled", "GeneratorExit")


def _suspend(coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    coroutine.send(None)
    return coroutine


@pytest.mark.parametrize(
    ("inner", "status"),
    [
        ([ValueError()], "failed"),
        ([ValueError(), KeyboardInterrupt()], "failed"),
        ([KeyboardInterrupt()], "cancelled"),
    ],
    ids=["exceptions", "mixed", "interrupts"],
)
async def test_a_group_that_holds_a_failure_has_failed(
    tracker: WorkflowEventTracker, published: list[Event], inner: list[BaseException], status: str
) -> None:
    """Cancelled siblings do not hide the failure."""
    group = BaseExceptionGroup("several", inner)
    coroutine = PhaseTask("phase", raising(group)[0], tracker).run()
    with pytest.raises(BaseExceptionGroup) as raised:
        coroutine.send(None)
    assert raised.value is group
    assert only_end(published).status == status


async def test_the_start_is_published_just_before_the_runner_runs(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """Making the task publishes nothing."""
    seen: list[list[type[Event]]] = []
    task = PhaseTask("phase", lambda: seen.append([type(event) for event in published]), tracker)
    assert published == []
    await task.run()
    assert seen == [[NodeStarted]]


async def test_each_run_of_a_task_is_an_attempt(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A retry is another attempt in the same run."""
    tracker.workflow_started("w")
    results = iter([False, True])
    task = PhaseTask("phase", lambda: next(results), tracker)
    with pytest.raises(RuntimeError):
        await task.run()
    await task.run()
    assert [(node.attempt, node.status) for node in ends(published)] == [(1, "failed"), (2, "ok")]


async def test_overlapping_phases_of_one_name_each_end_their_own_attempt(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """The first attempt to start may be the first to end."""
    tracker.workflow_started("w")
    first_may_end, second_may_end = anyio.Event(), anyio.Event()

    async def first() -> None:
        await first_may_end.wait()

    async def second() -> None:
        first_may_end.set()
        await second_may_end.wait()
        raise ValueError("second")

    async def run_second() -> None:
        with pytest.raises(ValueError, match="second"):
            await PhaseTask("phase", second, tracker).run()

    async def run_first() -> None:
        await PhaseTask("phase", first, tracker).run()
        second_may_end.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(run_second)
    started = [event.attempt for event in published if isinstance(event, NodeStarted)]
    assert started == [1, 2]
    assert [(node.attempt, node.status) for node in ends(published)] == [(1, "ok"), (2, "failed")]
    assert all(node.duration_seconds is not None for node in ends(published))


async def test_a_phase_that_starts_a_node_of_its_own_name_ends_its_own_attempt(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A node that the runner left open is not mistaken for the phase."""
    await PhaseTask("phase", lambda: tracker.node_started("phase"), tracker).run()
    assert [node.attempt for node in ends(published)] == [1]


async def test_a_phase_ends_in_the_run_it_began_in(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """A later run does not take the node."""
    may_end = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tracker.workflow_started("a")
        tasks.start_soon(PhaseTask("phase", may_end.wait, tracker).run)
        await anyio.wait_all_tasks_blocked()
        tracker.workflow_started("b")
        tracker.node_started("phase")
        may_end.set()
    (ended,) = ends(published)
    assert (ended.workflow_id, ended.attempt) == ("a", 1)
    assert ended.duration_seconds is not None


class RaisingTracker:
    """A tracker that raises."""

    def node_started(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise."""
        raise KeyError("broken")

    node_completed = node_started


class RefusingTracker:
    """A tracker without attributes."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise AttributeError(name)


class FalsyTracker(RaisingTracker):
    """A tracker whose truth raises."""

    def __bool__(self) -> NoReturn:
        raise KeyError("broken")


BROKEN: list[Any] = [
    lambda: WorkflowEventTracker(RaisingSink()),
    RaisingTracker,
    RefusingTracker,
    FalsyTracker,
    object,
]


@pytest.mark.parametrize("make_tracker", BROKEN, ids=["sink", "methods", "attributes", "falsy", "object"])
async def test_a_broken_tracker_never_changes_the_outcome(make_tracker: Callable[[], Any]) -> None:
    """A phase returns its own result or raises its own error, without a context."""
    passes = PhaseTask("phase", lambda: "result", make_tracker())
    assert await passes.run() == "result"
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised:
        await PhaseTask("phase", raising(error)[1], make_tracker()).run()
    assert raised.value is error
    assert (error.__cause__, error.__context__) == (None, None)


async def test_a_success_that_cannot_be_published_is_not_published_as_a_failure() -> None:
    """The tracker is called with one end only."""
    reported: list[bool] = []

    class Recorder(WorkflowEventTracker):
        def node_completed(self, node_id: str, success: bool = True, *args: Any, **kwargs: Any) -> None:
            reported.append(success)
            raise OSError("no space")

    await PhaseTask("phase", lambda: None, Recorder()).run()
    assert reported == [True]


async def test_without_a_tracker_a_phase_runs_unobserved() -> None:
    """It has the outcome of Oneiric's own task."""
    assert await PhaseTask("phase", lambda: 1).run() == 1
    with pytest.raises(RuntimeError, match="workflow-task-failed: phase"):
        await PhaseTask("phase", lambda: False).run()


async def test_the_older_name_of_the_parameter_works(
    tracker: WorkflowEventTracker, published: list[Event]
) -> None:
    """`event_tracker=` means `tracker=`, which wins."""
    await PhaseTask("phase", lambda: None, event_tracker=tracker).run()
    assert only_end(published).success
    await PhaseTask("phase", lambda: None, WorkflowEventTracker(), event_tracker=tracker).run()
    assert len(published) == 2


async def test_an_ended_phase_is_not_kept(tracker: WorkflowEventTracker) -> None:
    """The tracker keeps neither its result nor its exception."""

    class Result:
        pass

    def fail() -> NoReturn:
        kept = Result()
        raise ValueError(kept)

    await PhaseTask("phase", Result, tracker).run()
    with pytest.raises(ValueError, match="Result"):
        await PhaseTask("phase", fail, tracker).run()
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, Result)]
