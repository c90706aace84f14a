"""What the processes of a node learn about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

import anyio
import pytest

from eventbus import PhaseTask, WorkflowEventTracker, session_scope
from eventbus.running_node import NODE_VARIABLE, NodeScope, RunningNode, current_node, node_environment
from tests.vocabulary import run_in_threads

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_node_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODE_VARIABLE, "")


def variable() -> Any:
    text = os.environ[NODE_VARIABLE]
    return json.loads(text) if text else None


async def test_a_phase_hands_its_node_on() -> None:
    """While a `PhaseTask` runs, `EVENTBUS_NODE` names its run, node and attempt; then it is as it was."""
    tracker = WorkflowEventTracker(session_id="s1")
    run_id = tracker.workflow_started("ci")
    code = "import os; print(os.environ['EVENTBUS_NODE'])"

    def start_child() -> str:
        return subprocess.check_output([sys.executable, "-S", "-c", code], text=True)

    await PhaseTask("tests", start_child, tracker).run()
    told = json.loads(await PhaseTask("tests", start_child, tracker).run())
    assert told == {
        "workflow_id": "ci",
        "run_id": run_id,
        "session_id": "s1",
        "node_id": "tests",
        "attempt": 2,
    }
    assert variable() is None


async def test_nodes_at_the_same_time_are_told_apart() -> None:
    """While several nodes run at once, the variable is empty, and each is the current one in its context."""
    tracker = WorkflowEventTracker()
    tracker.workflow_started("ci")
    both = anyio.Event()
    seen: dict[str, Any] = {}

    async def work(name: str) -> None:
        seen[name] = None
        if len(seen) == 2:
            seen["variable"] = variable()
            both.set()
        await both.wait()
        node = current_node()
        seen[name] = node and node.node_id, json.loads(node_environment()[NODE_VARIABLE])["node_id"]

    async with anyio.create_task_group() as tasks:
        for name in ("lint", "types"):
            tasks.start_soon(PhaseTask(name, partial(work, name), tracker).run)
    assert seen == {"lint": ("lint", "lint"), "types": ("types", "types"), "variable": None}
    assert variable() is None


async def test_an_inherited_node_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that works for a node names its own nodes while they run, and then that one again."""
    outer = RunningNode("outer", "r", "s", "n").variables()
    monkeypatch.setenv(NODE_VARIABLE, outer[NODE_VARIABLE])
    assert current_node() == RunningNode("outer", "r", "s", "n")
    with NodeScope(RunningNode("inner")):
        assert variable() == {"workflow_id": "inner", "attempt": 1}
        with NodeScope(None):
            assert current_node() == RunningNode("inner")
    assert current_node() == RunningNode("outer", "r", "s", "n")


@pytest.mark.parametrize("name", ["a\0b", "\udce9", "é\n", "x" * 200_000, '"', "\\u00e9"])
async def test_any_name_leaves_the_phase_and_its_children_alone(name: str) -> None:
    """A node of any name runs, and starts processes; a name that is too long is not handed on."""
    tracker = WorkflowEventTracker()
    with session_scope(name):
        tracker.workflow_started(name)
        child = [sys.executable, "-S", "-c", "import os; print(len(os.environ['EVENTBUS_NODE']))"]
        length = await PhaseTask(name, lambda: subprocess.check_output(child), tracker).run()
    assert (int(length) == 0) == (len(name) > 4_096)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"run_id": "r"}', '{"workflow_id": 3}', "[" * 100_000])
async def test_a_wrong_variable_names_no_node(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names no node counts as unset."""
    assert current_node({NODE_VARIABLE: text}) is None
    monkeypatch.setenv(NODE_VARIABLE, text)
    assert node_environment() == {}


async def test_a_phase_that_fails_ends_its_scope() -> None:
    """A phase that raises is no longer the current one."""
    tracker = WorkflowEventTracker()
    tracker.workflow_started("ci")

    def fail() -> None:
        assert variable()["node_id"] == "tests"
        raise StopIteration

    with pytest.raises((StopIteration, RuntimeError)):
        await PhaseTask("tests", fail, tracker).run()
    assert variable() is None
    assert current_node() is None


async def test_a_tracker_of_another_kind_hands_nothing_on() -> None:
    """A tracker that does not know the node, or fails to say, changes nothing for the phase."""

    class Older(WorkflowEventTracker):
        running_node = None  # type: ignore[assignment]

    assert await PhaseTask("tests", variable, Older()).run() is None


async def test_phases_in_many_threads_leave_nothing_behind() -> None:
    """Phases that begin and end in many threads at once leave no node behind."""
    tracker = WorkflowEventTracker()
    tracker.workflow_started("ci")

    def work() -> None:
        for name in ("lint", "types") * 20:
            anyio.run(PhaseTask(name, node_environment, tracker).run)

    run_in_threads(*[work] * 4)
    assert variable() is None
    with NodeScope(RunningNode("alone")):
        assert variable() is not None
