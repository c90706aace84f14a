"""Track workflows: what a runner tells about runs and nodes becomes events.

    tracker = WorkflowEventTracker(bus, session_id="abc123")
    tracker.workflow_started("crackerjack")
    tracker.node_started("fast_hooks")
    tracker.node_completed("fast_hooks")
    tracker.workflow_completed()

Which run is meant when nobody says: the innermost one begun in the calling context, else the latest
one still open, else an implicit one, of the workflow ``unknown``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from eventbus.contracts import EventSink
from eventbus.events import (
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    NodeStatus,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
    WorkflowStatus,
)
from eventbus.events.records import workflow_event_record
from eventbus.session import new_id
from eventbus.trackers.guards import QuietSink, as_text, as_texts, copied, finite, ordinal, truth
from eventbus.trackers.open_runs import OpenRuns
from eventbus.trackers.outcomes import failure, outcome_of
from eventbus.trackers.workflow_runs import Run

__all__ = ["WorkflowEventTracker"]


class WorkflowEventTracker:
    """Publishes what is told of workflow runs and their nodes.

    Its methods may be called from any thread and never raise: not for what their arguments hold,
    not for what the bus does. Every node that was started ends exactly once: by being completed, or
    as cancelled when its run is. A second end of the same attempt, and what is told of a run after
    its end, is ignored. A completion without a start has no duration.

    Args:
        bus: Where to publish. None: to the current bus, asked for at each event; where there is
            none, events are kept here and not published.
        session_id: The session of all runs. None: the one each run begins in.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private: without this, ``error_message`` is taken out of metadata, too.
        history: How many events `events` holds.

    Raises:
        TypeError: `bus` has no `publish` method.
        ValueError: `history` is negative.
    """

    def __init__(
        self,
        bus: EventSink | None = None,
        session_id: str | None = None,
        *,
        error_messages: bool = False,
        history: int = 4_096,
    ) -> None:
        self.session_id: str | None = None if session_id is None else as_text(session_id)
        self._sink = QuietSink(bus)
        self._error_messages = error_messages
        self._events: deque[WorkflowEvent] = deque(maxlen=history)
        self._runs = OpenRuns(self.session_id)

    def workflow_started(
        self,
        workflow_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        nodes: Iterable[str] = (),
    ) -> str:
        """Begin a run; its session is marked as active until it is completed.

        Args:
            workflow_id: The workflow's name.
            metadata: Anything else to say.
            run_id: Which execution of it. By default a new id. A run that is open already is not
                begun again; one that has ended is resumed, and its attempts are numbered on.
            nodes: The ids of the nodes it plans to execute, in order.

        Returns:
            The run's id.
        """
        run_id = new_id() if run_id is None else as_text(run_id)
        try:
            details, planned = self._details(metadata), as_texts(nodes)
            run, new = self._runs.begin(as_text(workflow_id), run_id, time.perf_counter())
            if new:
                self._publish(WorkflowStarted(**_header(run, details), nodes=planned))
            self._end_overdue()
        except Exception as error:  # noqa: BLE001
            self._sink.failed(error)
        return run_id

    def node_started(
        self,
        node_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        attempt: int | None = None,
    ) -> int:
        """Begin an attempt at a node.

        Args:
            node_id: The node's name.
            metadata: Anything else to say.
            run_id: The run it belongs to; see the module for the default.
            attempt: Its number. By default the next one in this run, from 1. An attempt that is
                open already is not begun again.

        Returns:
            The attempt's number.
        """
        number = ordinal(attempt) or 1
        try:
            details, node_id = self._details(metadata), as_text(node_id)
            run, number, new = self._runs.start_node(
                node_id, _id(run_id), ordinal(attempt), time.perf_counter()
            )
            if run is not None and new:
                self._publish(NodeStarted(**_header(run, details), node_id=node_id, attempt=number))
            self._end_overdue()
        except Exception as error:  # noqa: BLE001
            self._sink.failed(error)
        return number

    def node_progress(
        self,
        node_id: str,
        completed: float = 0,
        total: float | None = None,
        message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Tell how far a node got. Published, but not kept in `events`: it is about now.

        Args:
            node_id: The node's name.
            completed: How much is done, in units of the caller's choice.
            total: How much there is to do, if that is known.
            message: What is being done now.
            metadata: Anything else to say.
            run_id: The run it belongs to; see the module for the default.
            attempt: The attempt's number. By default the one begun in the calling context, else the
                latest one.
        """
        try:
            details, node_id = self._details(metadata), as_text(node_id)
            run, number = self._runs.current_attempt(node_id, _id(run_id), ordinal(attempt))
            if run is None:
                return
            self._sink.publish(
                NodeProgress(
                    **_header(run, details),
                    node_id=node_id,
                    attempt=number,
                    completed=finite(completed) or 0,
                    total=finite(total),
                    message=None if message is None else as_text(message),
                )
            )
            self._end_overdue()
        except Exception as error:  # noqa: BLE001
            self._sink.failed(error)

    def node_completed(
        self,
        node_id: str,
        success: bool = True,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        attempt: int | None = None,
        status: NodeStatus | None = None,
        error: BaseException | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
    ) -> None:
        """End an attempt at a node.

        Args:
            node_id: The node's name.
            success: Whether it succeeded; where `status` says otherwise, the worse one holds.
            metadata: Anything else to say; ``error_type`` and ``error_message`` in it stand for the
                arguments of these names.
            run_id: The run it belongs to; see the module for the default.
            attempt: The attempt's number. By default the one begun in the calling context, else the
                latest one open.
            status: How it ended. By default ``ok`` or ``failed``.
            error: The exception that ended it, for its type and, if asked for, its text.
            error_type: The type's name, where the exception is not at hand.
            error_message: Its text, where the exception is not at hand.
        """
        try:
            details, node_id = copied(metadata), as_text(node_id)
            kind, text = failure(details, error, error_type, error_message, with_text=self._error_messages)
            outcome = outcome_of(truth(success) and error is None, status, NodeStatus)
            run, number, duration = self._runs.end_node(
                node_id, _id(run_id), ordinal(attempt), time.perf_counter()
            )
            if run is None:
                return
            self._publish(
                NodeCompleted(
                    **_header(run, details),
                    **outcome,
                    node_id=node_id,
                    attempt=number,
                    duration_seconds=duration,
                    error_type=kind,
                    error_message=text,
                )
            )
            self._end_overdue()
        except Exception as broken:  # noqa: BLE001
            self._sink.failed(broken)

    def node_skipped(
        self,
        node_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """End a node as skipped, whether or not it was started: it had nothing left to do."""
        self.node_completed(node_id, True, metadata, run_id=run_id, attempt=attempt, status="skipped")

    def workflow_completed(
        self,
        success: bool = True,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        status: WorkflowStatus | None = None,
        error_type: str | None = None,
    ) -> None:
        """End a run; its nodes that are still open end first, as cancelled.

        Args:
            success: Whether every node succeeded; where `status` says otherwise, the worse holds.
            metadata: Anything else to say; ``error_type`` in it stands for the argument.
            run_id: Which run; see the module for the default.
            status: How it ended. By default ``ok`` or ``failed``.
            error_type: The type of the exception that ended it, if one did.
        """
        try:
            details = copied(metadata)
            kind, text = failure(details, None, error_type, None, with_text=self._error_messages)
            if text is not None:
                details["error_message"] = text
            outcome = outcome_of(truth(success), status, WorkflowStatus)
            run = self._runs.take(_id(run_id))
            if run is not None:
                self._end_run(run, details, outcome, kind)
        except Exception as broken:  # noqa: BLE001
            self._sink.failed(broken)

    @property
    def events(self) -> list[WorkflowEvent]:
        """A copy of the latest events, the oldest first, without progress."""
        return list(self._events)

    def get_events(self) -> list[dict[str, Any]]:
        """Return `events` as dictionaries; see `eventbus.events.records.workflow_event_record`."""
        return [workflow_event_record(event) for event in self.events]

    def get_node_duration(self, node_id: str, *, run_id: str | None = None) -> float | None:
        """Return the seconds of the attempt at a node that ended last, in any run or in one.

        Returns:
            None when none has ended, when its start was not seen, or when it is long ago: the
            latest 4,096 are remembered.
        """
        return self._runs.duration(as_text(node_id), _id(run_id))

    @property
    def publish_failures(self) -> int:
        """How many exceptions, of the bus or of arguments, were kept from the observed work."""
        return self._sink.failures

    def _publish(self, event: WorkflowEvent) -> None:
        self._events.append(event)
        self._sink.publish(event)

    def _end_run(
        self, run: Run, details: dict[str, Any], outcome: dict[str, Any], error_type: str | None
    ) -> None:
        now = time.perf_counter()
        for node_id, number, duration in self._runs.end_open_nodes(run, now):
            self._publish(
                NodeCompleted(
                    **_header(run, {}),
                    node_id=node_id,
                    attempt=number,
                    status="cancelled",
                    success=False,
                    duration_seconds=duration,
                )
            )
        self._publish(
            WorkflowCompleted(
                **_header(run, details), **outcome, duration_seconds=run.end(now), error_type=error_type
            )
        )

    def _end_overdue(self) -> None:
        """End the oldest of too many open runs: whoever began it will not."""
        run = self._runs.take_overdue()
        if run is not None:
            self._end_run(run, {"abandoned": True}, {"status": "cancelled", "success": False}, None)

    def _details(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        details = copied(metadata)
        if not self._error_messages:
            details.pop("error_message", None)
        return details


def _header(run: Run, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "session_id": run.session_id,
        "workflow_id": run.workflow_id,
        "run_id": run.run_id,
        "metadata": details,
    }


def _id(value: str | None) -> str | None:
    return None if value is None else as_text(value)
