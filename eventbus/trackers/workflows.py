"""Track workflows: calls about runs and nodes become events.

    tracker = WorkflowEventTracker(bus, session_id="abc123")
    tracker.workflow_started("crackerjack")
    tracker.node_started("fast_hooks")
    tracker.node_completed("fast_hooks")
    tracker.workflow_completed()

A call without a `run_id` means the innermost run begun in the calling context, or the latest one
still open, or an implicit run of the workflow ``unknown``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from eventbus.contracts import EventSink
from eventbus.events import NodeStatus, WorkflowEvent, WorkflowStatus
from eventbus.events.records import workflow_event_record
from eventbus.running_node import RunningNode
from eventbus.session import new_id
from eventbus.trackers.guards import (
    GuardedSink,
    as_bool,
    as_text,
    as_texts,
    attempt_number,
    finite,
    metadata_copy,
)
from eventbus.trackers.open_runs import OpenRuns
from eventbus.trackers.outcomes import pop_error, status_and_success
from eventbus.trackers.run_events import RunEvents
from eventbus.trackers.workflow_runs import Run

__all__ = ["WorkflowEventTracker"]


class WorkflowEventTracker:
    """Publishes an event for each start and end of a run or a node that it is called with.

    Its methods may be called from any thread and never raise, whatever their arguments hold and
    whatever the bus does. Every started node ends exactly once: with its completion, or as cancelled
    with its run. A second end of the same attempt is ignored, and so is a call about a run that has
    ended. A completion without a start has no duration.

    Args:
        bus: Where to publish. None: to the current bus, looked up at each event. If there is none,
            events are kept here and not published.
        session_id: The session of all runs. None: each run has the session it begins in.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private: without this, ``error_message`` is removed from metadata, too.
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
        self._sink = GuardedSink(bus)
        self._error_messages = error_messages
        self._published = RunEvents(self._sink, history)
        self._runs = OpenRuns(self.session_id)

    def workflow_started(
        self,
        workflow_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        nodes: Iterable[str] = (),
    ) -> str:
        """Begin a run; its session is active until the run is completed.

        Args:
            workflow_id: The workflow's name.
            metadata: Any further details.
            run_id: The run's id; by default a new one. A run that is open is not begun again; a run
                that has ended is resumed, and the numbers of its attempts continue.
            nodes: The ids of the planned nodes, in order.

        Returns:
            The run's id.
        """
        run_id = new_id() if run_id is None else as_text(run_id)
        try:
            details, planned = self._details(metadata), as_texts(nodes)
            run, new = self._runs.begin(as_text(workflow_id), run_id, time.perf_counter())
            if new:
                self._published.run_started(run, planned, details)
            self._end_overdue()
        except Exception as error:  # noqa: BLE001
            self._sink.record_failure(error)
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
            metadata: Any further details.
            run_id: The node's run; the module describes the default.
            attempt: The attempt's number; by default the next one in this run, from 1. An attempt
                that is open is not begun again.

        Returns:
            The attempt's number.
        """
        number = attempt_number(attempt) or 1
        try:
            details, node_id = self._details(metadata), as_text(node_id)
            run, number, new = self._runs.start_node(
                node_id, _id(run_id), attempt_number(attempt), time.perf_counter()
            )
            if run is not None and new:
                self._published.node_started(run, node_id, number, details)
            self._end_overdue()
        except Exception as error:  # noqa: BLE001
            self._sink.record_failure(error)
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
        """Publish a node's progress. `events` does not keep it.

        Args:
            node_id: The node's name.
            completed: How much is done, in any unit.
            total: How much there is to do, if known.
            message: The current step.
            metadata: Any further details.
            run_id: The node's run; the module describes the default.
            attempt: The attempt's number; by default that of the attempt begun in the calling
                context, or of the latest one.
        """
        try:
            details, node_id = self._details(metadata), as_text(node_id)
            progress = {
                "completed": finite(completed) or 0,
                "total": finite(total),
                "message": None if message is None else as_text(message),
            }
            run, number = self._runs.current_attempt(node_id, _id(run_id), attempt_number(attempt))
            if run is not None:
                self._published.node_progress(run, node_id, number, progress, details)
                self._end_overdue()
        except Exception as error:  # noqa: BLE001
            self._sink.record_failure(error)

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
            success: Whether it succeeded. If `status` contradicts it, the worse of the two holds.
            metadata: Any further details; ``error_type`` and ``error_message`` in it stand for the
                arguments of these names.
            run_id: The node's run; the module describes the default.
            attempt: The attempt's number; by default that of the attempt begun in the calling
                context, or of the latest one open.
            status: How it ended; by default ``ok`` or ``failed``.
            error: The exception that ended it.
            error_type: The exception's type; it wins over that of `error`.
            error_message: The exception's text; it wins over that of `error`.
        """
        try:
            details, node_id = metadata_copy(metadata), as_text(node_id)
            outcome = status_and_success(as_bool(success) and error is None, status, NodeStatus)
            outcome["error_type"], outcome["error_message"] = pop_error(
                details, error, error_type, error_message, with_text=self._error_messages
            )
            ended = self._runs.end_node(node_id, _id(run_id), attempt_number(attempt), time.perf_counter())
            if ended is not None:
                run, number, outcome["duration_seconds"] = ended
                self._published.node_completed(run, node_id, number, outcome, details)
                self._end_overdue()
        except Exception as broken:  # noqa: BLE001
            self._sink.record_failure(broken)

    def node_skipped(
        self,
        node_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """End a node as skipped, started or not: there was nothing left to do."""
        self.node_completed(node_id, True, metadata, run_id=run_id, attempt=attempt, status="skipped")

    def running_node(self, node_id: str, attempt: int | None = None) -> RunningNode | None:
        """Return an attempt that is open, to tell a child process of it; None if its run has ended.

        Args:
            node_id: The node's name.
            attempt: The attempt's number; by default that of the attempt begun in the calling context.
        """
        run, number = self._runs.current_attempt(as_text(node_id), None, attempt_number(attempt))
        if run is None:
            return None
        return RunningNode(run.workflow_id, run.run_id, run.session_id, as_text(node_id), number)

    def workflow_completed(
        self,
        success: bool = True,
        metadata: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        status: WorkflowStatus | None = None,
        error_type: str | None = None,
    ) -> None:
        """End a run; first its open nodes end, as cancelled.

        Args:
            success: Whether every node succeeded. If `status` contradicts it, the worse one holds.
            metadata: Any further details; ``error_type`` in it stands for the argument.
            run_id: Which run; the module describes the default.
            status: How it ended; by default ``ok`` or ``failed``.
            error_type: The type of the exception that ended it.
        """
        try:
            details = metadata_copy(metadata)
            outcome = status_and_success(as_bool(success), status, WorkflowStatus)
            outcome["error_type"], text = pop_error(
                details, None, error_type, None, with_text=self._error_messages
            )
            if text is not None:
                details["error_message"] = text
            run = self._runs.take(_id(run_id))
            if run is not None:
                self._end_run(run, outcome, details)
        except Exception as broken:  # noqa: BLE001
            self._sink.record_failure(broken)

    @property
    def events(self) -> list[WorkflowEvent]:
        """A copy of the latest events, the oldest first, without progress."""
        return list(self._published.latest)

    def get_events(self) -> list[dict[str, Any]]:
        """Return `events` as dictionaries; see `eventbus.events.records.workflow_event_record`."""
        return [workflow_event_record(event) for event in self.events]

    def get_node_duration(self, node_id: str, *, run_id: str | None = None) -> float | None:
        """Return the seconds of a node's latest ended attempt, in any run or in one.

        Returns:
            None if no attempt has ended, if its start was not seen, or if it is not among the latest
            4,096.
        """
        return self._runs.duration(as_text(node_id), _id(run_id))

    @property
    def publish_failures(self) -> int:
        """How many exceptions, of the bus or of arguments, were kept from the observed work."""
        return self._sink.failures

    def _end_run(self, run: Run, outcome: dict[str, Any], details: dict[str, Any]) -> None:
        now = time.perf_counter()
        for node_id, number, duration in self._runs.end_open_nodes(run, now):
            self._published.node_completed(
                run, node_id, number, {**_CANCELLED, "duration_seconds": duration}, {}
            )
        self._published.run_completed(run, {**outcome, "duration_seconds": run.end(now)}, details)

    def _end_overdue(self) -> None:
        """End the oldest run if too many are open: its producer has abandoned it."""
        run = self._runs.take_overdue()
        if run is not None:
            self._end_run(run, _CANCELLED, {"abandoned": True})

    def _details(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        details = metadata_copy(metadata)
        if not self._error_messages:
            details.pop("error_message", None)
        return details


_CANCELLED: dict[str, Any] = {"status": "cancelled", "success": False}


def _id(value: str | None) -> str | None:
    return None if value is None else as_text(value)
