"""One run of a workflow as its observer tells it: every event has its run, and every start its end.

The books of a run are its own, not a tracker's: whoever observes knows which run each thing belongs
to, needs nothing looked up, and two runs may well have one id.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from eventbus.events import (
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    NodeStatus,
    WorkflowCompleted,
    WorkflowStarted,
    WorkflowStatus,
)
from eventbus.session import current_session_id
from eventbus.trackers.guards import QuietSink, as_text, as_texts
from eventbus.trackers.outcomes import MAX_ERROR_MESSAGE, is_failure
from eventbus.trackers.workflow_runs import Run

__all__ = ["ObservedRun"]


class ObservedRun:
    """Publishes what happens to one run and its nodes. No method raises an `Exception`.

    One thread at a time tells it, but for `tell_progress`, which any thread may call.

    Args:
        sink: Where to publish.
        workflow_id: The workflow's name.
        run_id: Which execution of it.
        session_id: The session of all its events. None: the one it is made in.
        error_messages: Whether to keep the texts of exceptions.
    """

    __slots__ = ("_attempts", "_error_messages", "_expected", "_open", "_publish", "_run", "_sink")

    def __init__(
        self,
        sink: QuietSink,
        workflow_id: object,
        run_id: object,
        *,
        session_id: str | None = None,
        error_messages: bool = False,
    ) -> None:
        self._sink = sink
        self._publish = sink.unguarded  # every method here is a guard itself
        self._error_messages = error_messages
        session_id = current_session_id() if session_id is None else session_id
        self._run = Run(as_text(workflow_id), as_text(run_id), session_id)
        # Nodes that are about to start, of which nothing has been told yet.
        self._expected: set[str] = set()
        self._attempts: dict[str, int] = {}
        self._open: dict[str, float] = {}

    def begin(self, nodes: Iterable[str] = ()) -> None:
        """Tell that it began.

        Args:
            nodes: The ids of the nodes it plans to execute, in order.
        """
        try:
            self._run.begin(time.perf_counter())
            self._publish(WorkflowStarted(**self._header(), nodes=as_texts(nodes)))
        except Exception as error:  # noqa: BLE001 - here and below: whatever it is, the run goes on
            self._sink.failed(error)

    def expect_node(self, node_id: str) -> None:
        """Note that a node is about to start; if it does not come to that, it ends with the run."""
        self._expected.add(node_id)

    def start_node(self, node_id: str) -> None:
        """Tell that an attempt at a node began: the first one, or one more."""
        try:
            self._attempts[node_id] = number = self._attempts.get(node_id, 0) + 1
            self._expected.discard(node_id)
            self._open[node_id] = time.perf_counter()
            run = self._run
            # Its fields by name, not `**`: half the time, in the one place where it matters.
            self._publish(
                NodeStarted(
                    session_id=run.session_id,
                    workflow_id=run.workflow_id,
                    run_id=run.run_id,
                    node_id=node_id,
                    attempt=number,
                )
            )
        except Exception as error:  # noqa: BLE001
            self._sink.failed(error)

    def tell_progress(self, node_id: str, **how_far: Any) -> None:
        """Tell how far the attempt at a node got.

        Args:
            node_id: The node.
            **how_far: ``completed``, ``total``, ``message`` and ``metadata`` of `NodeProgress`.
        """
        try:
            header: dict[str, Any] = {**self._header(), **how_far}
            self._publish(NodeProgress(**header, node_id=node_id, attempt=self._attempts.get(node_id, 1)))
        except Exception as error:  # noqa: BLE001
            self._sink.failed(error)

    def end_node(
        self,
        node_id: str,
        error: BaseException | None = None,
        *,
        status: NodeStatus | None = None,
        duration: float | None = None,
        text: object = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell that the attempt at a node ended, or that there was none to begin.

        Args:
            node_id: The node.
            error: What ended it, if something did.
            status: How it ended, where `error` does not say so.
            duration: Its seconds, where it really began later than `start_node` was told.
            text: The text of an exception that is not at hand.
            details: Anything else to say.
        """
        now = time.perf_counter()
        try:
            began = self._open.pop(node_id, None)
            if began is None:
                self._expected.discard(node_id)
                self._attempts[node_id] = self._attempts.get(node_id, 0) + 1
            elif duration is None:
                duration = now - began
            if error is None and status is None:
                self._publish_success(node_id, duration)
            else:
                outcome = self._outcome(error, text, status or _status_of(error))
                header = self._header(dict(details or {}))
                self._publish(
                    NodeCompleted(
                        **header,
                        **outcome,
                        node_id=node_id,
                        attempt=self._attempts[node_id],
                        duration_seconds=duration,
                    )
                )
        except Exception as broken:  # noqa: BLE001
            self._sink.failed(broken)

    def _publish_success(self, node_id: str, duration: float | None) -> None:
        """Do what the general way would do, in a third of the time: nearly every node comes to this."""
        run = self._run
        self._publish(
            NodeCompleted(
                session_id=run.session_id,
                workflow_id=run.workflow_id,
                run_id=run.run_id,
                node_id=node_id,
                attempt=self._attempts[node_id],
                duration_seconds=duration,
            )
        )

    def _outcome(self, error: BaseException | None, text: object, status: NodeStatus) -> dict[str, Any]:
        return {
            "status": status,
            "success": status in ("ok", "skipped"),
            "error_type": None if error is None else type(error).__name__,
            "error_message": self._text_of(text if error is None else error),
        }

    def end(
        self,
        error: BaseException | None = None,
        *,
        status: WorkflowStatus | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell that the run ended; its nodes that did not end first, as cancelled.

        Args:
            error: What ended it, if something did.
            status: How it ended, where `error` does not say so.
            details: Anything else to say.
        """
        try:
            for node_id in (*self._open, *sorted(self._expected)):
                self.end_node(node_id, status="cancelled")
            status = status or _status_of(error)
            text = self._text_of(error)
            self._publish(
                WorkflowCompleted(
                    **self._header({**(details or {}), **({} if text is None else {"error_message": text})}),
                    status=status,
                    success=status == "ok",
                    duration_seconds=self._run.end(time.perf_counter()),
                    error_type=None if error is None else type(error).__name__,
                )
            )
        except Exception as broken:  # noqa: BLE001
            self._sink.failed(broken)

    def _header(self, details: dict[str, Any] | None = None) -> dict[str, Any]:
        run = self._run
        return {
            "session_id": run.session_id,
            "workflow_id": run.workflow_id,
            "run_id": run.run_id,
            "metadata": details or {},
        }

    def _text_of(self, error: object) -> str | None:
        return as_text(error)[:MAX_ERROR_MESSAGE] if self._error_messages and error is not None else None


def _status_of(error: BaseException | None) -> WorkflowStatus:
    if error is None:
        return "ok"
    return "failed" if is_failure(error) else "cancelled"
