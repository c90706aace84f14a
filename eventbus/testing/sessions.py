"""Events of realistic sessions, with fixed times and ids: the same arguments make the same events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    NodeStatus,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
    WorkflowStatus,
)

__all__ = ["PHASES", "SessionBuilder", "quality_session"]

PHASES = ("fast_hooks", "tests", "comprehensive_hooks", "publish")
"""The nodes of a run of crackerjack."""

_BEGINNING = datetime(2026, 1, 5, 9, tzinfo=UTC)


class SessionBuilder:
    """Builds the events of one session, in order, on a clock of its own.

        session = SessionBuilder("abc123")
        session.skill_started("crackerjack-run").run_started("ci", nodes=["lint", "tests"])
        session.node("lint", 0.4).node("tests", 22.4, status="failed").run_completed()
        for event in session.events: ...

    Args:
        session_id: The id of the session; None for events without one.
        beginning: The time of its first event.

    Attributes:
        events: The events built so far.
    """

    def __init__(self, session_id: str | None = "session-1", beginning: datetime = _BEGINNING) -> None:
        self.events: list[Event] = []
        self._session_id = session_id
        self._now = beginning
        self._run: dict[str, Any] = {"workflow_id": "workflow", "run_id": None}
        self._run_began = self._skill_began = beginning
        self._skill: dict[str, Any] = {"skill_name": "skill", "invocation_id": "skill-0"}
        self._statuses: list[NodeStatus] = []
        self._runs = self._skills = 0

    def wait(self, seconds: float) -> SessionBuilder:
        """Let time pass; negative seconds set the clock back."""
        self._now += timedelta(seconds=seconds)
        return self

    def add(self, kind: type[Event], **fields: Any) -> SessionBuilder:
        """Add an event of any class."""
        self.events.append(kind(session_id=self._session_id, timestamp=self._now, **fields))
        return self

    def skill_started(self, name: str = "crackerjack-run", path: str | None = "daily") -> SessionBuilder:
        """Begin a skill invocation."""
        self._skills += 1
        self._skill_began = self._now
        self._skill = {"skill_name": name, "invocation_id": f"skill-{self._skills}", "workflow_path": path}
        return self.add(SkillStarted, **self._skill)

    def skill_completed(self, *, completed: bool = True, error_type: str | None = None) -> SessionBuilder:
        """End the skill invocation, completed or abandoned."""
        duration = (self._now - self._skill_began).total_seconds()
        result: dict[str, Any] = {
            "completed": completed,
            "error_type": error_type,
            "duration_seconds": duration,
        }
        return self.add(SkillCompleted, **self._skill, **result)

    def run_started(self, workflow_id: str = "crackerjack", nodes: Sequence[str] = PHASES) -> SessionBuilder:
        """Begin a run."""
        self._runs += 1
        self._run_began = self._now
        self._statuses = []
        self._run = {"workflow_id": workflow_id, "run_id": f"run-{self._runs}"}
        return self.add(WorkflowStarted, **self._run, nodes=tuple(nodes))

    def run_completed(
        self, status: WorkflowStatus | None = None, error_type: str | None = None
    ) -> SessionBuilder:
        """End the run; by default it is as good as its worst node."""
        worst = next((each for each in ("failed", "cancelled") if each in self._statuses), "ok")
        duration = (self._now - self._run_began).total_seconds()
        result: dict[str, Any] = {
            "status": status or worst,
            "error_type": error_type,
            "duration_seconds": duration,
        }
        return self.add(WorkflowCompleted, **self._run, **result)

    def node(
        self,
        node_id: str,
        seconds: float = 1.0,
        status: NodeStatus = "ok",
        *,
        attempt: int = 1,
        steps: int = 0,
    ) -> SessionBuilder:
        """Add an attempt at a node: its start, its progress and its end; a skipped node has an end only.

        Args:
            node_id: The node.
            seconds: How long it takes.
            status: How it ends.
            attempt: The number of the attempt.
            steps: How many events of progress it has.
        """
        node: dict[str, Any] = {**self._run, "node_id": node_id, "attempt": attempt}
        if status != "skipped":
            self.add(NodeStarted, **node)
        for step in range(1, steps + 1):
            self.wait(seconds / (steps + 1))
            self.add(NodeProgress, **node, completed=step, total=steps, message=f"step {step}")
        self.wait(seconds / (steps + 1))
        self._statuses = [*self._statuses, status]
        error_type = "RuntimeError" if status == "failed" else None
        return self.add(NodeCompleted, **node, status=status, duration_seconds=seconds, error_type=error_type)


def quality_session(
    session_id: str | None = "session-1",
    *,
    failed: Collection[str] = (),
    skipped: Collection[str] = (),
    nodes: Sequence[str] = PHASES,
) -> list[Event]:
    """Return the events of a skill that runs a workflow.

    Args:
        session_id: The id of the session.
        failed: The nodes that fail, after a second attempt.
        skipped: The nodes that are skipped.
        nodes: All nodes, in order.
    """
    session = SessionBuilder(session_id).skill_started().wait(2.0).run_started(nodes=nodes)
    for number, node_id in enumerate(nodes):
        seconds = 0.5 + number
        if node_id in failed:
            session.node(node_id, seconds, "failed").node(node_id, seconds, "failed", attempt=2)
        elif node_id in skipped:
            session.node(node_id, 0.0, "skipped")
        else:
            session.node(node_id, seconds, steps=2)
    return session.run_completed().wait(1.0).skill_completed(completed=not failed).events
