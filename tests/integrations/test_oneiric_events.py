"""The events of a run of the real Oneiric: complete, once, and in order."""

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
        reason="SKIPPED: oneiric is not installed (it needs Python 3.13 or newer): make test-oneiric",
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


async def test_a_run_publishes_its_start_its_nodes_and_its_end(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A run publishes its start, a start and an end of each node, and its end, in this order."""
    program = new_program(CHAIN, {"a": passes, "b": passes})
    with session_scope("s1"), observe_oneiric(sink) as observed:
        await program.execute()
    assert observed
    assert sink.summaries() == [
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
    """Each planned node comes after the nodes it depends on."""
    nodes = [{"id": "late", "task": "p", "depends_on": ["early"]}, {"id": "early", "task": "p"}]
    with observe_oneiric(sink):
        await new_program(nodes, {"p": passes}).execute()
    assert sink.events[0].nodes == ("early", "late")


async def test_ids_that_are_not_texts_become_texts(new_program: Callable[..., Any], sink: Any) -> None:
    """A node's id may be a number in YAML; its events can be decoded."""
    nodes = [{"id": 1, "task": "p"}, {"id": 2, "task": "p", "depends_on": [1]}]
    program = new_program(nodes, {"p": passes})
    with observe_oneiric(sink):
        await program.execute(checkpoint={1: "done"})
    assert sink.events[0].nodes == ("1", "2")
    assert sink.ends() == {("1", 1): ["skipped"], ("2", 1): ["ok"]}
    assert all(decode(encode(event)) == event for event in sink.events)


async def test_a_failure_has_the_type_of_the_runners_exception(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A failed node has its exception's type and no text; the run has the type of the raised exception."""
    with observe_oneiric(sink), pytest.raises(FAILED) as caught:
        await new_program(CHAIN, {"a": fails, "b": passes}).execute()
    assert sink.summaries()[2:] == [
        "node_completed a#1 failed LookupError",
        f"workflow_completed quality failed {type(caught.value).__name__}",
    ]
    assert sink.events[2].error_message is None
    assert "private" not in repr(sink.events)


async def test_texts_of_exceptions_are_published_on_request(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """With `error_messages` a failed node has its exception's text."""
    with observe_oneiric(sink, error_messages=True), pytest.raises(FAILED):
        await new_program(CHAIN, {"a": fails, "b": passes}).execute()
    assert sink.events[2].error_message == "a text that may be private"


async def test_each_attempt_has_a_start_and_an_end(new_program: Callable[..., Any], sink: Any) -> None:
    """The attempts at a retried node are numbered."""
    results = iter([fails, fails, passes])

    async def flaky() -> Any:
        return await next(results)()

    node = {"id": "a", "task": "a", "retry_policy": {"attempts": 3, "base_delay": 0.001}}
    with observe_oneiric(sink):
        result = await new_program([node], {"a": flaky}).execute()
    assert result["results"]["a__attempts"] == 3
    assert sink.starts() == [("a", 1), ("a", 2), ("a", 3)]
    assert sink.ends() == {("a", 1): ["failed"], ("a", 2): ["failed"], ("a", 3): ["ok"]}


async def test_each_attempt_ends_once(new_program: Callable[..., Any], sink: Any) -> None:
    """Every attempt ends exactly once, as ok, failed or cancelled."""
    results = iter([fails, passes])

    async def flaky() -> Any:
        return await next(results)()

    retry = {"retry_policy": {"attempts": 2, "base_delay": 0.001}}
    nodes = [
        {"id": "a", "task": "a", **retry},
        {"id": "b", "task": "b", "depends_on": ["a"]},
        {"id": "c", "task": "c", "depends_on": ["a"]},
    ]
    with observe_oneiric(sink), pytest.raises(FAILED):
        await new_program(nodes, {"a": flaky, "b": hangs, "c": fails}).execute()
    assert sink.ends() == {
        ("a", 1): ["failed"],
        ("a", 2): ["ok"],
        ("b", 1): ["cancelled"],
        ("c", 1): ["failed"],
    }
    assert set(sink.starts()) == set(sink.ends())


async def test_a_node_with_a_result_in_the_checkpoint_is_skipped(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A node whose result is in the checkpoint ends as skipped and never starts."""
    program = new_program(CHAIN, {"a": passes, "b": fails})
    with observe_oneiric(sink):
        with pytest.raises(FAILED):
            await program.execute("r1")
        sink.events.clear()
        program.phases["b"] = passes
        await program.execute("r2")
    assert sink.summaries() == [
        "workflow_started quality",
        "node_completed a#1 skipped",
        "node_started b#1",
        "node_completed b#1 ok",
        "workflow_completed quality ok",
    ]


async def test_a_sibling_of_a_failure_ends_as_cancelled(new_program: Callable[..., Any], sink: Any) -> None:
    """A node that another node's failure interrupts ends once, as cancelled."""
    with observe_oneiric(sink), pytest.raises(FAILED):
        await new_program(PAIR, {"a": hangs, "b": fails}).execute()
    assert sink.ends() == {("a", 1): ["cancelled"], ("b", 1): ["failed"]}
    assert sink.events[-1].status == "failed"


async def test_a_node_that_is_cancelled_before_it_runs_ends_too(
    new_program: Callable[..., Any], sink: Any
) -> None:
    """A node that Oneiric has announced is cancelled if a sibling fails before it runs."""
    program = new_program(PAIR, {"a": fails, "b": passes})
    store_start = program.bridge._execution_hooks.on_node_start

    async def slow_for_b(*, node: str, **report: Any) -> None:
        await store_start(node=node, **report)
        if node == "b":
            await anyio.sleep_forever()

    program.bridge._execution_hooks.on_node_start = slow_for_b
    with observe_oneiric(sink), pytest.raises(FAILED):
        await program.execute()
    assert sink.starts() == [("a", 1)]
    assert sink.ends() == {("a", 1): ["failed"], ("b", 1): ["cancelled"]}


async def test_a_cancelled_run_ends_as_cancelled(new_program: Callable[..., Any], sink: Any) -> None:
    """A cancelled run and its open nodes end as cancelled, and the cancellation passes through."""
    program = new_program(PAIR, {"a": hangs, "b": passes})
    with observe_oneiric(sink), anyio.move_on_after(0.2) as scope:
        await program.execute()
    assert scope.cancelled_caught
    assert sink.ends() == {("a", 1): ["cancelled"], ("b", 1): ["ok"]}
    assert sink.events[-1].status == "cancelled"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_run_that_exits_ends_as_cancelled(
    new_program: Callable[..., Any], sink: Any, kind: type[BaseException]
) -> None:
    """A phase that exits or is interrupted ends as cancelled, and so does its run."""

    async def exits() -> None:
        raise kind

    with observe_oneiric(sink), pytest.raises(FAILED):
        anyio.run(new_program(CHAIN, {"a": exits, "b": passes}).execute)
    assert sink.ends() == {("a", 1): ["cancelled"]}
    assert isinstance(sink.events[-1], WorkflowCompleted)
    assert sink.events[-1].status == "cancelled"


async def test_durations_are_those_of_the_runners(new_program: Callable[..., Any], sink: Any) -> None:
    """A node's duration is that of its runner, also if siblings block the loop one after the other."""

    async def blocks() -> None:
        time.sleep(0.15)  # noqa: ASYNC251 - as real phases do

    with observe_oneiric(sink):
        await new_program(PAIR, {"a": blocks, "b": blocks}).execute()
    durations = [event.duration_seconds or 0 for event in sink.events if isinstance(event, NodeCompleted)]
    assert all(0.15 <= duration < 0.28 for duration in durations), durations
    assert sink.events[-1].duration_seconds >= 0.3


async def test_the_session_reaches_the_threads_of_a_phase(new_program: Callable[..., Any], sink: Any) -> None:
    """Every event of a run has the session of the run, also events built in threads of a pool."""
    built: list[Event] = []

    async def with_a_pool() -> None:
        with ThreadPoolExecutor(1) as pool:
            built.append(pool.submit(lambda: NodeStarted(workflow_id="w", node_id="n")).result())

    with observe_oneiric(sink, session_id="s7"):
        await new_program(CHAIN, {"a": with_a_pool, "b": passes}).execute()
    assert {event.session_id for event in [*built, *sink.events]} == {"s7"}


async def test_a_workflow_inside_a_phase_is_another_run(new_program: Callable[..., Any], sink: Any) -> None:
    """A graph that a phase executes has its own run inside the phase."""
    inner = new_program([{"id": "x", "task": "x"}], {"x": passes})

    async def executes() -> None:
        await inner.execute("inner")

    with observe_oneiric(sink):
        await new_program([{"id": "a", "task": "a"}], {"a": executes}).execute("outer")
    assert [
        (event.run_id, each.split()[0]) for event, each in zip(sink.events, sink.summaries(), strict=True)
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


async def test_concurrent_runs_are_separate(new_program: Callable[..., Any], sink: Any) -> None:
    """Each concurrent run has its own events, even if two have the same id."""
    program = new_program(CHAIN, {"a": anyio.lowlevel.checkpoint, "b": passes}, durable=False)
    with observe_oneiric(sink):
        async with anyio.create_task_group() as group:
            for run_id in ("r1", "r2", "r2"):
                group.start_soon(program.execute, run_id)
    for event_type in (WorkflowStarted, WorkflowCompleted):
        runs = [str(event.run_id) for event in sink.events if isinstance(event, event_type)]
        assert sorted(runs) == ["r1", "r2", "r2"]
    assert len([event for event in sink.events if isinstance(event, NodeCompleted)]) == 6


def test_events_of_a_blocking_phase_arrive_while_it_blocks(new_program: Callable[..., Any]) -> None:
    """While a phase blocks the loop, a subscriber in the bus's own thread gets each event within 50 ms."""
    late: list[float] = []
    received = threading.Event()

    def listen(event: NodeStarted) -> None:
        late.append(time.time() - event.timestamp.timestamp())
        received.set()

    async def blocks() -> None:
        assert received.wait(2), "no event arrived while the phase blocked the loop"
        received.clear()

    with EventBus() as bus, observe_oneiric(bus):
        bus.subscribe(listen, NodeStarted)
        anyio.run(new_program(CHAIN, {"a": blocks, "b": blocks}).execute)
    assert len(late) == 2
    assert max(late) < 0.05, late


async def test_hooks_publish_a_graph_that_the_program_executes(sink: Any, oneiric_dag: Any) -> None:
    """`dag_hooks` publishes runs and nodes of Oneiric's own `execute_dag` without a patch."""
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
    assert sink.summaries() == [
        "workflow_started by-hand",
        "node_started a#1",
        "node_completed a#1 ok",
        "node_started b#1",
        "node_completed b#1 failed",
        "workflow_completed by-hand failed",
    ]


async def test_hooks_call_the_programs_own_hooks(sink: Any, oneiric_dag: Any) -> None:
    """`dag_hooks(then=...)` calls each of those hooks once, sync or async, as Oneiric would."""
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
    assert sink.summaries()[-1] == "workflow_completed w ok"
    assert then.on_node_complete is on_node_complete


async def test_hooks_have_the_durations_of_the_runners(sink: Any, oneiric_dag: Any) -> None:
    """`dag_hooks` publishes Oneiric's own durations, which exclude the waits of other hooks."""

    async def on_node_start(**_: Any) -> None:
        await anyio.sleep(0.2)

    then = oneiric_dag.DAGExecutionHooks(on_node_start=on_node_start)
    graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=passes)])
    await oneiric_dag.execute_dag(graph, hooks=dag_hooks(sink, then=then))
    (ended,) = (event for event in sink.events if isinstance(event, NodeCompleted))
    assert (ended.duration_seconds or 0) < 0.1


async def test_a_cancelled_run_under_hooks_ends_as_abandoned(sink: Any, oneiric_dag: Any) -> None:
    """Oneiric calls no hook for a cancelled run; it ends when it begins again."""
    hooks = dag_hooks(sink)
    graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=hangs)])
    for _ in range(2):
        with anyio.move_on_after(0.05):
            await oneiric_dag.execute_dag(graph, run_id="r1", hooks=hooks)
    assert sink.summaries()[2:5] == [
        "node_completed a#1 cancelled",
        "workflow_completed unknown cancelled",
        "workflow_started unknown",
    ]
    assert sink.events[3].metadata == {"abandoned": True}


def test_an_unfinished_run_ends_when_it_is_closed(sink: Any, oneiric_dag: Any) -> None:
    """A run whose coroutine is closed half-way ends as cancelled."""

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
    assert sink.summaries()[-1] == "workflow_completed w cancelled GeneratorExit"
    assert graph.nodes["a"]["task"].runner is never
