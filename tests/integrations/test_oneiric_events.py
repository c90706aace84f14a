"""What is told of a run of the real Oneiric: all of it, once, as it happened."""

from __future__ import annotations

import importlib
import importlib.util
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    NodeStarted,
    WorkflowCompleted,
    WorkflowStarted,
    decode,
    encode,
    session_scope,
)
from eventbus.integrations.oneiric import dag_hooks, observe_oneiric

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("oneiric") is None,
        reason="SKIPPED: oneiric is not installed (it needs Python 3.13): make test-oneiric",
    ),
    pytest.mark.anyio,
    pytest.mark.filterwarnings(
        "ignore:The 'initial' parameter is deprecated:DeprecationWarning"
    ),  # Oneiric's
]

CHAIN = [{"id": "a", "task": "a"}, {"id": "b", "task": "b", "depends_on": ["a"]}]
PAIR = [{"id": "a", "task": "a"}, {"id": "b", "task": "b"}]


FAILED = (
    Exception,
    SystemExit,
    KeyboardInterrupt,
    BaseExceptionGroup,
)  # Oneiric's own error, or a group of such


async def passes() -> str:
    return "done"


async def fails() -> None:
    raise LookupError("a text that may be private")


async def hangs() -> None:
    await anyio.sleep_forever()


async def test_a_run_is_told_from_its_start_to_its_end(new_program: Callable[..., Any], sink: Any) -> None:
    """A run gives its start, a start and an end for each node, and its end, in this order."""
    program = new_program(CHAIN, {"a": passes, "b": passes})
    with session_scope("s1"), observe_oneiric(sink) as observed:
        await program.execute()
    assert observed
    assert sink.told() == [
        "workflow_started quality",
        "node_started a#1",
        "node_completed a#1 ok",
        "node_started b#1",
        "node_completed b#1 ok",
        "workflow_completed quality ok",
    ]
    assert {(event.session_id, event.run_id) for event in sink.events} == {("s1", "r1")}
    assert all(event.duration_seconds >= 0 for event in sink.events if hasattr(event, "duration_seconds"))


async def test_planned_nodes_are_in_the_order_of_execution(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """The planned nodes are those of the graph, each after those it depends on."""
    nodes = [{"id": "late", "task": "p", "depends_on": ["early"]}, {"id": "early", "task": "p"}]
    with observe_oneiric(sink):
        await new_program(nodes, {"p": passes}).execute()
    assert sink.events[0].nodes == ("early", "late")


async def test_ids_that_are_no_texts_are_told_as_texts(new_program: Callable[..., Any], sink: Any) -> None:
    """A node whose id is a number, as YAML may have it, is told by a text that can be read back."""
    nodes = [{"id": 1, "task": "p"}, {"id": 2, "task": "p", "depends_on": [1]}]
    program = new_program(nodes, {"p": passes})
    with observe_oneiric(sink):
        await program.execute(checkpoint={1: "done"})
    assert sink.events[0].nodes == ("1", "2")
    assert sink.ends() == {("1", 1): ["skipped"], ("2", 1): ["ok"]}
    assert all(decode(encode(event)) == event for event in sink.events)


async def test_a_failure_has_the_type_of_what_the_runner_raised(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A failed node has its exception's type and no text; the run has the type of what came out."""
    with observe_oneiric(sink), pytest.raises(FAILED) as caught:
        await new_program(CHAIN, {"a": fails, "b": passes}).execute()
    assert sink.told()[2:] == [
        "node_completed a#1 failed LookupError",
        f"workflow_completed quality failed {type(caught.value).__name__}",
    ]
    assert sink.events[2].error_message is None
    assert "private" not in repr(sink.events)


async def test_texts_of_exceptions_are_told_where_they_are_asked_for(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """With `error_messages` a failed node has its exception's text."""
    with observe_oneiric(sink, error_messages=True), pytest.raises(FAILED):
        await new_program(CHAIN, {"a": fails, "b": passes}).execute()
    assert sink.events[2].error_message == "a text that may be private"


async def test_each_attempt_is_told(new_program: Callable[..., Any], sink: Any) -> None:
    """A retried node gives a numbered start and end for each attempt."""
    answers = iter([fails, fails, passes])

    async def flaky() -> Any:
        return await next(answers)()

    node = {"id": "a", "task": "a", "retry_policy": {"attempts": 3, "base_delay": 0.001}}
    with observe_oneiric(sink):
        result = await new_program([node], {"a": flaky}).execute()
    assert result["results"]["a__attempts"] == 3
    assert sink.starts() == [("a", 1), ("a", 2), ("a", 3)]
    assert sink.ends() == {("a", 1): ["failed"], ("a", 2): ["failed"], ("a", 3): ["ok"]}


async def test_what_a_checkpoint_holds_is_skipped(new_program: Callable[..., Any], sink: Any) -> None:
    """A node whose result is in the checkpoint ends as skipped, and never starts."""
    program = new_program(CHAIN, {"a": passes, "b": fails})
    with observe_oneiric(sink):
        with pytest.raises(FAILED):
            await program.execute("r1")
        sink.events.clear()
        program.phases["b"] = passes
        await program.execute("r2")
    assert sink.told() == [
        "workflow_started quality",
        "node_completed a#1 skipped",
        "node_started b#1",
        "node_completed b#1 ok",
        "workflow_completed quality ok",
    ]


async def test_a_sibling_of_a_failure_ends_as_cancelled(new_program: Callable[..., Any], sink: Any) -> None:
    """A node that is cut short by another's failure ends, once, as cancelled."""
    with observe_oneiric(sink), pytest.raises(FAILED):
        await new_program(PAIR, {"a": hangs, "b": fails}).execute()
    assert sink.ends() == {("a", 1): ["cancelled"], ("b", 1): ["failed"]}
    assert sink.events[-1].status == "failed"


async def test_a_node_that_is_cut_short_before_it_runs_ends_too(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A node that Oneiric has announced, and that a sibling's failure keeps from running, is cancelled."""
    program = new_program(PAIR, {"a": fails, "b": passes})
    store_start = program.bridge._execution_hooks.on_node_start

    async def slow_for_b(*, node: str, **told: Any) -> None:
        await store_start(node=node, **told)
        if node == "b":
            await anyio.sleep_forever()

    program.bridge._execution_hooks.on_node_start = slow_for_b
    with observe_oneiric(sink), pytest.raises(FAILED):
        await program.execute()
    assert sink.starts() == [("a", 1)]
    assert sink.ends() == {("a", 1): ["failed"], ("b", 1): ["cancelled"]}


async def test_cancellation_closes_the_books_and_passes_on(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A run that is cancelled ends, and so do its nodes, as cancelled; the cancellation is not held up."""
    program = new_program(PAIR, {"a": hangs, "b": passes})
    with observe_oneiric(sink), anyio.move_on_after(0.2) as scope:
        await program.execute()
    assert scope.cancelled_caught
    assert sink.ends() == {("a", 1): ["cancelled"], ("b", 1): ["ok"]}
    assert sink.events[-1].status == "cancelled"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_closes_the_books(
    new_program: Callable[..., Any], sink: Any, kind: type[BaseException]
) -> None:
    """A phase that exits, or is interrupted, ends as cancelled, and so does its run."""

    async def exits() -> None:
        raise kind

    with observe_oneiric(sink), pytest.raises(FAILED):
        anyio.run(new_program(CHAIN, {"a": exits, "b": passes}).execute)
    assert sink.ends() == {("a", 1): ["cancelled"]}
    assert isinstance(sink.events[-1], WorkflowCompleted)
    assert sink.events[-1].status == "cancelled"


async def test_durations_are_those_of_the_runners(new_program: Callable[..., Any], sink: Any) -> None:
    """Of two siblings that block the loop one after the other, each has its own time only."""

    async def blocks() -> None:
        time.sleep(0.15)  # noqa: ASYNC251 - as real phases do

    with observe_oneiric(sink):
        await new_program(PAIR, {"a": blocks, "b": blocks}).execute()
    durations = [event.duration_seconds or 0 for event in sink.events if isinstance(event, NodeCompleted)]
    assert all(0.15 <= duration < 0.28 for duration in durations), durations
    assert sink.events[-1].duration_seconds >= 0.3


async def test_the_session_reaches_the_threads_of_a_phase(new_program: Callable[..., Any], sink: Any) -> None:
    """While one session's runs go on, events built in a pool's thread have that session."""
    built: list[Event] = []

    async def with_a_pool() -> None:
        with ThreadPoolExecutor(1) as pool:
            built.append(pool.submit(lambda: NodeStarted(workflow_id="w", node_id="n")).result())

    with observe_oneiric(sink, session_id="s7"):
        await new_program(CHAIN, {"a": with_a_pool, "b": passes}).execute()
    assert {event.session_id for event in [*built, *sink.events]} == {"s7"}


async def test_a_workflow_within_a_phase_is_a_run_of_its_own(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A DAG that a phase executes is told as its own run, within the phase."""
    inner = new_program([{"id": "x", "task": "x"}], {"x": passes})

    async def executes() -> None:
        await inner.execute("inner")

    with observe_oneiric(sink):
        await new_program([{"id": "a", "task": "a"}], {"a": executes}).execute("outer")
    assert [
        (event.run_id, each.split()[0]) for event, each in zip(sink.events, sink.told(), strict=True)
    ] == [
        ("outer", "workflow_started"),
        ("outer", "node_started"),
        ("inner", "workflow_started"),
        ("inner", "node_started"),
        ("inner", "node_completed"),
        ("inner", "workflow_completed"),
        ("outer", "node_completed"),
        ("outer", "workflow_completed"),
    ]


async def test_runs_at_the_same_time_are_kept_apart(new_program: Callable[..., Any], sink: Any) -> None:
    """Concurrent runs each have their own events, also when they were given the same id."""
    program = new_program(CHAIN, {"a": anyio.lowlevel.checkpoint, "b": passes}, durable=False)
    with observe_oneiric(sink):
        async with anyio.create_task_group() as group:
            for run_id in ("r1", "r2", "r2"):
                group.start_soon(program.execute, run_id)
    for event_type in (WorkflowStarted, WorkflowCompleted):
        runs = [str(event.run_id) for event in sink.events if isinstance(event, event_type)]
        assert sorted(runs) == ["r1", "r2", "r2"]
    assert len([event for event in sink.events if isinstance(event, NodeCompleted)]) == 6


def test_a_blocking_phase_is_heard_of_while_it_blocks(new_program: Callable[..., Any]) -> None:
    """While a phase blocks the loop, a subscriber in the bus's own thread gets each event within 50 ms."""
    late: list[float] = []
    heard = threading.Event()

    def listen(event: NodeStarted) -> None:
        late.append(time.time() - event.timestamp.timestamp())
        heard.set()

    async def blocks() -> None:
        assert heard.wait(2), "nothing was heard while the phase blocked the loop"
        heard.clear()

    with EventBus() as bus, observe_oneiric(bus):
        bus.subscribe(listen, NodeStarted)
        anyio.run(new_program(CHAIN, {"a": blocks, "b": blocks}).execute)
    assert len(late) == 2
    assert max(late) < 0.05, late


async def test_hooks_tell_a_graph_that_is_executed_by_hand(sink: Any, oneiric_dag: Any) -> None:
    """`dag_hooks` tells runs and nodes of Oneiric's own `execute_dag`, with no patch."""
    before = oneiric_dag.execute_dag
    graph = oneiric_dag.build_graph(
        [
            oneiric_dag.DAGTask(key="a", runner=passes),
            oneiric_dag.DAGTask(key="b", depends_on=["a"], runner=fails),
        ]
    )
    hooks = dag_hooks(sink)
    with pytest.raises(FAILED):
        await oneiric_dag.execute_dag(graph, workflow_key="by-hand", checkpoint={"c": 1}, hooks=hooks)
    assert oneiric_dag.execute_dag is before
    assert sink.told() == [
        "workflow_started by-hand",
        "node_started a#1",
        "node_completed a#1 ok",
        "node_started b#1",
        "node_completed b#1 failed",
        "workflow_completed by-hand failed",
    ]


async def test_hooks_lead_on_to_others(sink: Any, oneiric_dag: Any) -> None:
    """`dag_hooks(then=...)` calls those hooks, sync or async, as Oneiric would, each once."""
    called: list[str] = []

    async def on_node_complete(*, node: str, attempts: int, **_: Any) -> None:
        await anyio.lowlevel.checkpoint()
        called.append(f"{node} {attempts}")

    def on_generation_start(*, index: int, **_: Any) -> None:
        called.append(f"generation {index}")

    then = oneiric_dag.DAGExecutionHooks(
        on_node_complete=on_node_complete, on_generation_start=on_generation_start
    )
    graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=passes)])
    await oneiric_dag.execute_dag(graph, workflow_key="w", hooks=dag_hooks(sink, then=then))
    assert called == ["generation 0", "a 1"]
    assert sink.told()[-1] == "workflow_completed w ok"
    assert then.on_node_complete is on_node_complete


async def test_hooks_have_the_durations_of_the_runners(sink: Any, oneiric_dag: Any) -> None:
    """`dag_hooks` tells Oneiric's own durations, which do not count what other hooks wait for."""

    async def on_node_start(**_: Any) -> None:
        await anyio.sleep(0.2)

    then = oneiric_dag.DAGExecutionHooks(on_node_start=on_node_start)
    graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=passes)])
    await oneiric_dag.execute_dag(graph, hooks=dag_hooks(sink, then=then))
    (ended,) = (event for event in sink.events if isinstance(event, NodeCompleted))
    assert (ended.duration_seconds or 0) < 0.1


async def test_a_run_that_hooks_heard_no_end_of_is_ended_as_abandoned(sink: Any, oneiric_dag: Any) -> None:
    """A run that was cancelled, of which hooks hear nothing, is ended when it begins again."""
    hooks = dag_hooks(sink)
    graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=hangs)])
    for _ in range(2):
        with anyio.move_on_after(0.05):
            await oneiric_dag.execute_dag(graph, run_id="r1", hooks=hooks)
    assert sink.told()[2:5] == [
        "node_completed a#1 cancelled",
        "workflow_completed unknown cancelled",
        "workflow_started unknown",
    ]
    assert sink.events[3].metadata == {"abandoned": True}


def test_a_run_that_nobody_finishes_is_closed(sink: Any, oneiric_dag: Any) -> None:
    """A run whose coroutine is closed half-way is told as cancelled."""

    async def never() -> None:
        await _Pause()

    class _Pause:
        def __await__(self) -> Any:
            yield

    async def fake(graph: Any, *, hooks: Any, **_: Any) -> None:
        hooks.on_run_start(run_id="r", workflow_key="w")
        await graph.nodes["a"]["task"].runner()

    workflows: Any = importlib.import_module("oneiric.domains.workflows")
    before, workflows.execute_dag = workflows.execute_dag, fake
    try:
        with observe_oneiric(sink):
            graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=never)])
            coroutine: Any = workflows.execute_dag(graph, hooks=None)
            coroutine.send(None)
            coroutine.close()
    finally:
        workflows.execute_dag = before
    assert sink.ends() == {("a", 1): ["cancelled"]}
    assert sink.told()[-1] == "workflow_completed w cancelled GeneratorExit"
    assert graph.nodes["a"]["task"].runner is never
