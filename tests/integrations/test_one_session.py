"""A skill and a workflow of the real Oneiric, in two processes, are one session."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("oneiric") is None,
    reason="SKIPPED: oneiric is not installed (it needs Python 3.13 or newer): make test-oneiric",
)

WORKFLOW = """
import anyio
from oneiric.core.config import LayerSettings
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.domains.tasks import TaskBridge
from oneiric.domains.workflows import WorkflowBridge
from eventbus import EventBus
from eventbus.integrations.oneiric import observe_oneiric
from eventbus_subscribers import JsonPersister

class Task:
    async def run(self, payload=None):
        return "done"

resolver = Resolver()
resolver.register(Candidate(domain="task", key="a", provider="p", factory=Task))
nodes = [{"id": "a", "task": "a"}, {"id": "b", "task": "a", "depends_on": ["a"]}]
resolver.register(
    Candidate(domain="workflow", key="w", provider="p", factory=object, metadata={"dag": {"nodes": nodes}})
)
lifecycle, settings = LifecycleManager(resolver), LayerSettings()
tasks = TaskBridge(resolver, lifecycle, settings)
bridge = WorkflowBridge(resolver, lifecycle, settings, task_bridge=tasks)
with EventBus([JsonPersister()]) as bus, observe_oneiric(bus):
    anyio.run(bridge.execute_dag, "w")
"""
SKILL = """
import subprocess, sys
from eventbus import EventBus, track_skill
from eventbus_subscribers import JsonPersister
with EventBus([JsonPersister()]):
    complete = track_skill("quality", "daily")
    complete(completed=subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode == 0)
"""


def test_one_session_in_two_processes(tmp_path: Path) -> None:
    """`eventbus report` shows a skill and a workflow with the same session id as one session."""
    environment = {**os.environ, "EVENTBUS_SESSION_ID": "s1", "EVENTBUS_DIR": str(tmp_path)}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True,
            timeout=60, check=True,
        ).stdout  # fmt: skip

    run("-c", SKILL, WORKFLOW)
    report = run("-m", "eventbus", "report")
    assert len(list((tmp_path / "events").iterdir())) == 2
    assert "Total Sessions: 1" in report
    assert "Session: s1" in report
    assert "Skills Completed: 1" in report
    assert "Workflow Nodes: 2" in report


def test_a_command_that_is_run_shares_its_session(tmp_path: Path) -> None:
    """`eventbus run` shows the nodes of a workflow in another process."""
    run = [sys.executable, "-m", "eventbus", "run", "--dir", str(tmp_path), "--"]
    shown = subprocess.run(
        [*run, sys.executable, "-c", WORKFLOW],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shown.returncode == 0
    assert "done   w/a" in shown.stderr
    assert "done   w/b" in shown.stderr
    assert any(line.split()[1:3] == ["end", "workflow"] for line in shown.stderr.splitlines())
