"""Build and publish the events of tracked runs, and keep the latest of them.

The fields are named one by one, without `**`: that takes half the time.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from eventbus.events import (
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.trackers.guards import GuardedSink
from eventbus.trackers.workflow_runs import Run

__all__ = ["RunEvents"]


class RunEvents:
    """Publishes the events of one tracker's runs.

    Args:
        sink: Where to publish.
        history: How many events `latest` holds.

    Attributes:
        latest: The latest events, without progress.
    """

    def __init__(self, sink: GuardedSink, history: int) -> None:
        self._sink = sink
        self.latest: deque[WorkflowEvent] = deque(maxlen=history)

    def run_started(self, run: Run, nodes: tuple[str, ...], details: dict[str, Any]) -> None:
        """Publish the start of a run, with the nodes it plans to execute."""
        self._publish(
            WorkflowStarted(
                session_id=run.session_id,
                workflow_id=run.workflow_id,
                run_id=run.run_id,
                metadata=details,
                nodes=nodes,
            )
        )

    def node_started(self, run: Run, node_id: str, attempt: int, details: dict[str, Any]) -> None:
        """Publish the start of an attempt."""
        self._publish(
            NodeStarted(
                session_id=run.session_id,
                workflow_id=run.workflow_id,
                run_id=run.run_id,
                metadata=details,
                node_id=node_id,
                attempt=attempt,
            )
        )

    def node_progress(
        self, run: Run, node_id: str, attempt: int, progress: dict[str, Any], details: dict[str, Any]
    ) -> None:
        """Publish the progress of an attempt: ``completed``, ``total`` and ``message``."""
        self._sink.publish(
            NodeProgress(
                session_id=run.session_id,
                workflow_id=run.workflow_id,
                run_id=run.run_id,
                metadata=details,
                node_id=node_id,
                attempt=attempt,
                **progress,
            )
        )

    def node_completed(
        self, run: Run, node_id: str, attempt: int, outcome: dict[str, Any], details: dict[str, Any]
    ) -> None:
        """Publish the end of an attempt: status, success, ``duration_seconds`` and error."""
        self._publish(
            NodeCompleted(
                session_id=run.session_id,
                workflow_id=run.workflow_id,
                run_id=run.run_id,
                metadata=details,
                node_id=node_id,
                attempt=attempt,
                **outcome,
            )
        )

    def run_completed(self, run: Run, outcome: dict[str, Any], details: dict[str, Any]) -> None:
        """Publish the end of a run: status, success, ``duration_seconds`` and error type."""
        self._publish(
            WorkflowCompleted(
                session_id=run.session_id,
                workflow_id=run.workflow_id,
                run_id=run.run_id,
                metadata=details,
                **outcome,
            )
        )

    def _publish(self, event: WorkflowEvent) -> None:
        self.latest.append(event)
        self._sink.publish(event)
