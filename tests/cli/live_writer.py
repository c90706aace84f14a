"""A process that publishes events into a log, one by one, when it is told to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WRITER = """
import sys
from eventbus import EventBus
from eventbus.events import NodeCompleted, NodeStarted, WorkflowCompleted, WorkflowStarted
from eventbus_subscribers import JsonPersister

run = {"session_id": sys.argv[2], "workflow_id": "ci", "run_id": "r"}
steps = {
    "start": lambda: WorkflowStarted(**run, nodes=("lint", "tests")),
    "lint": lambda: NodeStarted(**run, node_id="lint"),
    "linted": lambda: NodeCompleted(**run, node_id="lint", duration_seconds=1.0),
    "fail": lambda: NodeCompleted(**run, node_id="tests", duration_seconds=2, success=False, error_type="E"),
    "end": lambda: WorkflowCompleted(**run, duration_seconds=3.0),
    "failed": lambda: WorkflowCompleted(**run, duration_seconds=3.0, success=False),
}
with EventBus([JsonPersister(sys.argv[1])]) as bus:
    for line in sys.stdin:
        bus.publish(steps[line.strip()]())
        print("published", flush=True)
"""


class Writer:
    """A process that publishes what it is told to."""

    def __init__(self, directory: Path, session: str = "s1") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory), session],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def publish(self, *steps: str) -> None:
        """Publish the events of these steps, and return when it has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for step in steps:
            self.process.stdin.write(f"{step}\n")
            assert self.process.stdout.readline() == "published\n"

    def end(self) -> None:
        """Close its input, and wait for its end."""
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        """Kill it, so that it closes nothing."""
        self.process.kill()
        self.end()
