"""A program that uses Oneiric sees no difference, observed or not, and patches are undone."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from eventbus import Event, EventBus, IntegrationError, Overflow
from eventbus.integrations import known_oneiric
from eventbus.integrations.oneiric import dag_hooks, observe_oneiric

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("oneiric") is None,
        reason="SKIPPED: oneiric is not installed (it needs Python 3.13 or newer): make test-oneiric",
    ),
    pytest.mark.filterwarnings(
        "ignore:The 'initial' parameter is deprecated:DeprecationWarning"
    ),  # Oneiric's
]

Observing = Callable[[], AbstractContextManager[object]]
_scopes: list[anyio.CancelScope] = []
_unobserved: dict[str, Any] = {}


async def passes() -> dict[str, int]:
    return {"result": 42}


async def fails() -> None:
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise LookupError("it failed") from error


async def hangs() -> None:
    await anyio.sleep_forever()


async def is_cancelled() -> None:
    _scopes[-1].cancel()
    await anyio.sleep_forever()


async def exits() -> None:
    raise SystemExit(3)


async def says_no() -> None:
    raise RuntimeError("workflow-task-failed: c")


def flaky() -> Callable[[], Awaitable[Any]]:
    results = iter([fails, fails, passes, fails, fails, fails])

    async def run() -> Any:
        return await next(results)()

    return run


def node(key: str, *after: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "task": key, "depends_on": list(after), **more}


RETRY = {"retry_policy": {"attempts": 3, "base_delay": 0.001}}
CHAIN = [node("a"), node("b", "a"), node("c", "b"), node("d", "c")]
DIAMOND = [node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")]
PAIR = [node("a"), node("b")]
CASES: dict[str, Any] = {
    "ok": (CHAIN, {"a": passes, "b": passes, "c": passes, "d": passes}),
    "one failing": (CHAIN, {"a": passes, "b": passes, "c": says_no, "d": passes}),
    "cancelled": (CHAIN, {"a": passes, "b": is_cancelled, "c": passes, "d": passes}),
    "retried": ([node("a", **RETRY)], {"a": flaky}),
    "a task that is missing": ([node("a"), node("b", "a")], {"a": passes}),
    "a cycle": ([node("a", "b"), node("b", "a")], {"a": passes, "b": passes}),
    "an unknown dependency": ([node("a", "missing")], {"a": passes}),
}
# Without the durable store: in its threads siblings would race, and they outlive the loop.
RACING: dict[str, Any] = {
    "ok, siblings": (DIAMOND, {"a": passes, "b": passes, "c": passes, "d": passes}),
    "two failing": (PAIR, {"a": fails, "b": fails}),
    "an interrupted sibling": (PAIR, {"a": hangs, "b": fails}),
    "an exit": (CHAIN, {"a": passes, "b": exits, "c": passes, "d": passes}),
    "a sibling's exit": (PAIR, {"a": hangs, "b": exits}),
}


@contextmanager
def _bus(**options: Any) -> Generator[None]:
    with EventBus() as bus, observe_oneiric(bus):
        bus.subscribe(_raising, Event, **options)
        yield


async def _raising(event: Event) -> None:
    raise RuntimeError("a broken subscriber")


def _closed() -> AbstractContextManager[object]:
    bus = EventBus()
    bus.close()
    return observe_oneiric(bus)


@contextmanager
def _full() -> Generator[None]:
    held = threading.Event()
    with EventBus() as bus, observe_oneiric(bus), ExitStack() as stack:
        stack.callback(held.set)
        bus.subscribe(lambda _: held.wait(5), Event, capacity=1, overflow=Overflow.DROP_NEWEST)
        yield


class _Broken:
    def publish(self, event: Event) -> bool:
        raise KeyError(event)


@contextmanager
def _twice() -> Generator[None]:
    bus = EventBus()
    with observe_oneiric(bus), observe_oneiric(bus), observe_oneiric(_Broken()):
        yield


OBSERVING: dict[str, Observing] = {
    "subscribers that raise": _bus,
    "a closed bus": _closed,
    "a full bus": _full,
    "a bus that raises": lambda: observe_oneiric(_Broken()),
    "several buses": _twice,
    "no bus": observe_oneiric,
}


async def _observations(program: Any, see: Callable[..., Any]) -> list[Any]:
    seen: list[Any] = []
    for run_id in ("r1", "r2"):  # the second resumes from a checkpoint of the first
        with anyio.fail_after(60), anyio.CancelScope() as scope:
            _scopes.append(scope)
            seen.append(await see(program, run_id=run_id))
        seen.append(scope.cancelled_caught)
    return seen


def _comparable(seen: list[Any]) -> list[Any]:
    return [{**each, "hooks": None} if isinstance(each, dict) and "hooks" in each else each for each in seen]


@pytest.mark.parametrize("observing", OBSERVING)
@pytest.mark.parametrize("case", [*CASES, *RACING])
def test_a_program_sees_no_difference(
    new_program: Callable[..., Any], see: Callable[..., Any], case: str, observing: str
) -> None:
    """Results, exceptions, checkpoints, stored rows and calls of runners are the same, observed or not.

    This holds also for a bus that is closed, full, or has subscribers that raise.
    """
    nodes, phases = {**CASES, **RACING}[case]

    def once() -> list[Any]:
        made = {key: phase() if phase is flaky else phase for key, phase in phases.items()}
        program = new_program(nodes, made, durable=case in CASES)
        try:
            return anyio.run(_observations, program, see)
        except SystemExit as error:  # it leaves asyncio's loop at once
            return [error.code, sorted(program.calls), program.rows()]

    if case not in _unobserved:
        _unobserved[case] = once()
    with OBSERVING[observing]():
        observed = once()
    assert _comparable(observed) == _comparable(_unobserved[case])


def test_the_comparison_finds_differences(new_program: Callable[..., Any], see: Callable[..., Any]) -> None:
    """Another program differs in every compared part."""
    nodes, phases = CASES["one failing"]
    failing = anyio.run(_observations, new_program(nodes, phases), see)
    passing = anyio.run(_observations, new_program(nodes, {**phases, "c": passes}), see)
    first, second = failing[0], passing[0]
    assert {key for key in first if first[key] != second[key]} >= {
        "result",
        "error",
        "calls",
        "rows",
        "checkpoint",
    }
    assert failing[0]["calls"] == ["a", "b", "c"]
    assert first["rows"]["workflow_execution_nodes"]


@pytest.fixture
def workflows() -> Any:
    """The module whose function is replaced, before that."""
    module = importlib.import_module("oneiric.domains.workflows")
    assert module.execute_dag is importlib.import_module("oneiric.runtime.dag").execute_dag
    return module


def test_the_original_function_is_restored(workflows: Any, sink: Any) -> None:
    """After the last block the original function is restored.

    Blocks may end in any order.
    """
    before = workflows.execute_dag
    first, second = observe_oneiric(sink), observe_oneiric(EventBus())
    with first:
        second.__enter__()
        wrapper = workflows.execute_dag
        assert wrapper is not before
        assert inspect.iscoroutinefunction(wrapper)
        assert inspect.signature(wrapper) == inspect.signature(before)
    assert workflows.execute_dag is wrapper
    second.__exit__(None, None, None)
    assert workflows.execute_dag is before


async def _execute_one(workflows: Any, oneiric_dag: Any, run_id: str) -> Any:
    graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=passes)])
    return await workflows.execute_dag(graph, run_id=run_id, hooks=None)


def test_later_patches_stay(workflows: Any, oneiric_dag: Any, sink: Any) -> None:
    """A patch made after ours stays and works, and publishes nothing after the block."""
    before = workflows.execute_dag
    with ExitStack() as stack:
        stack.callback(setattr, workflows, "execute_dag", before)
        with observe_oneiric(sink):
            ours = workflows.execute_dag

            async def theirs(*args: Any, **kwargs: Any) -> Any:
                return await ours(*args, **kwargs)

            workflows.execute_dag = theirs
            anyio.run(_execute_one, workflows, oneiric_dag, "r1")
            published = len(sink.events)
            with observe_oneiric(EventBus()):
                anyio.run(_execute_one, workflows, oneiric_dag, "r2")
        assert workflows.execute_dag is theirs
        assert anyio.run(_execute_one, workflows, oneiric_dag, "r3")["run_id"] == "r3"
        assert {event.run_id for event in sink.events} == {"r1", "r2"}
        assert len(sink.events) == 2 * published == 8


def test_a_bus_gets_each_event_once(workflows: Any, oneiric_dag: Any, sink: Any) -> None:
    """A bus that is passed twice gets each event once; each of several buses gets it."""
    other = type(sink)()
    with observe_oneiric(sink), observe_oneiric(sink), observe_oneiric(other):
        anyio.run(_execute_one, workflows, oneiric_dag, "r1")
    assert len(sink.events) == len(other.events) == 4


def test_blocks_may_overlap_in_many_threads(workflows: Any, oneiric_dag: Any, sink: Any) -> None:
    """No event is lost, and the original function is restored."""
    before = workflows.execute_dag

    def observe(number: int) -> None:
        for turn in range(10):
            with observe_oneiric(sink):
                anyio.run(_execute_one, workflows, oneiric_dag, f"{number}.{turn}")

    threads = [threading.Thread(target=observe, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert workflows.execute_dag is before
    assert len(sink.events) == 4 * 10 * 4
    assert len({(event.run_id, type(event)) for event in sink.events}) == 160


def test_the_graph_is_unchanged(workflows: Any, oneiric_dag: Any, sink: Any) -> None:
    """The caller's graph, tasks and hooks are unchanged, also after two runs shared the graph."""
    task = oneiric_dag.DAGTask(key="a", runner=passes)
    graph, hooks = oneiric_dag.build_graph([task]), oneiric_dag.DAGExecutionHooks()

    async def both() -> None:
        async with anyio.create_task_group() as group:
            for run_id in ("r1", "r2"):
                group.start_soon(partial(workflows.execute_dag, graph, run_id=run_id, hooks=hooks))

    with observe_oneiric(sink):
        anyio.run(both)
    assert task.runner is passes
    assert hooks == oneiric_dag.DAGExecutionHooks()
    assert sorted(event.run_id for event in sink.events) == ["r1"] * 4 + ["r2"] * 4


def test_a_failing_hook_fails_as_unobserved(
    workflows: Any, oneiric_dag: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oneiric logs the name of the caller's failing hook, or raises its exception."""

    def fails_softly(**_: Any) -> None:
        raise ValueError("soft")

    def fails_hard(**_: Any) -> None:
        raise KeyError("hard")

    async def execute(hook: Any) -> None:
        graph = oneiric_dag.build_graph([oneiric_dag.DAGTask(key="a", runner=passes)])
        await workflows.execute_dag(graph, hooks=oneiric_dag.DAGExecutionHooks(on_run_start=hook))

    with observe_oneiric(_Broken()):
        anyio.run(execute, fails_softly)
        with pytest.raises(KeyError, match="hard"):
            anyio.run(execute, fails_hard)
    assert "fails_softly" in capsys.readouterr().out


def _missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importlib.import_module("sys").modules, "oneiric.runtime.dag", None)


def _seven(_: str) -> str:
    return "7.1"


def _too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", _seven)


def _other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    async def execute_dag(plan: Any, *, listeners: Any) -> None: ...

    monkeypatch.setattr("oneiric.runtime.dag.execute_dag", execute_dag)


def _other_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneiric.runtime.dag.DAGExecutionHooks", dict)


@pytest.mark.parametrize("change", [_missing, _too_new, _other_arguments, _other_hooks])
def test_an_unknown_oneiric_is_not_changed(
    workflows: Any,
    sink: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """An unknown version or shape of Oneiric gives one warning, and nothing is changed."""
    before = workflows.execute_dag
    known_oneiric._check.cache_clear()
    change(monkeypatch)
    with caplog.at_level(logging.WARNING, "eventbus"), observe_oneiric(sink) as observed:
        assert not observed
        assert workflows.execute_dag is before
    (record,) = caplog.records
    assert record.getMessage().startswith("Oneiric is not observed: ")
    with pytest.raises(IntegrationError):
        dag_hooks(sink)
    known_oneiric._check.cache_clear()


def test_bad_arguments_raise_at_once(workflows: Any) -> None:
    """A value that is not a bus, or an empty session id, raises, and nothing is replaced."""
    before = workflows.execute_dag
    with pytest.raises(TypeError, match="publish"), observe_oneiric("not a bus"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ValueError, match="must not be empty"), observe_oneiric(session_id=""):
        pass
    assert workflows.execute_dag is before
