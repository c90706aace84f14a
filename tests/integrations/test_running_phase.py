"""What the processes of an observed phase learn about it; no Oneiric is needed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from eventbus.integrations.observed_dag import ObservedDag, exporting_nodes
from eventbus.integrations.observed_run import ObservedRun
from eventbus.running_node import NODE_VARIABLE, RunningNode, current_node
from eventbus.trackers.guards import GuardedSink
from tests.vocabulary import ListSink

pytestmark = pytest.mark.anyio


def executed(runner: Any) -> tuple[Any, Any]:
    """Return an observed call of one task, and the task."""
    hooks = SimpleNamespace(on_run_start=None, on_node_skip=None, on_node_start=None)
    module: Any = SimpleNamespace(DAGExecutionHooks=lambda: hooks)
    task = SimpleNamespace(key="tests", runner=runner)
    graph: Any = SimpleNamespace(nodes={"tests": {"task": task}})
    sink = GuardedSink(ListSink())
    return ObservedDag(module, graph, None, lambda run_id, key: [ObservedRun(sink, key, run_id)]), task


@pytest.mark.parametrize("is_exported", [True, False])
async def test_a_phase_names_itself_to_its_processes(
    is_exported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phase of crackerjack is named in the environment; a node of any Oneiric in its context."""
    monkeypatch.setenv(NODE_VARIABLE, "")
    seen: list[Any] = []

    async def runner() -> None:
        seen.extend([current_node(), current_node(os.environ)])

    dag, task = executed(runner)
    with ExitStack() as stack:
        if is_exported:
            stack.enter_context(exporting_nodes())
        with dag.executing():
            dag.hooks.on_run_start(run_id="r", workflow_key="crackerjack")
            await task.runner()
    node = RunningNode("crackerjack", "r", None, "tests", 1)
    assert seen == [node, node if is_exported else None]
    assert current_node() is None
