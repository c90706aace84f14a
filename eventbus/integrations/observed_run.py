"""Publish the events of one observed run; every start gets an end.

It does not use a `WorkflowEventTracker`: the observer knows the run of each event without a look-up,
and two observed runs may have the same id.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
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
from eventbus.running_node import RunningNode
from eventbus.session import current_session_id
from eventbus.trackers.guards import GuardedSink, as_text, as_texts
from eventbus.trackers.outcomes import MAX_ERROR_MESSAGE, is_failure
from eventbus.trackers.workflow_runs import Run

__all__ = ["ObservedRun", "run_details"]

_MAX_CAUSES = 64
_details: ContextVar[Mapping[str, Any] | None] = ContextVar("eventbus_run_details", default=None)


@contextmanager
def run_details(details: Mapping[str, Any]) -> Generator[None]:
    """Add metadata to all events of the runs that begin in the block.

    Args:
        details: The metadata; not copied.
    """
    token = _details.set(details)
    try:
        yield
    finally:
        with suppress(ValueError):  # an unfinished coroutine may be closed in another context
            _details.reset(token)


class ObservedRun:
    """Publishes the events of one run and its nodes. No method raises an `Exception`.

    Any thread may call `report_progress`; the other methods may be called from one thread at a time.

    Args:
        sink: Where to publish.
        workflow_id: The workflow's name.
        run_id: The run's id.
        session_id: The session of all its events. None: the current one.
        error_messages: Whether to keep the texts of exceptions.
    """

    __slots__ = (
        "_attempts",
        "_details",
        "_error_messages",
        "_expected",
        "_open",
        "_publish",
        "_run",
        "_sink",
    )

    def __init__(
        self,
        sink: GuardedSink,
        workflow_id: object,
        run_id: object,
        *,
        session_id: str | None = None,
        error_messages: bool = False,
    ) -> None:
        self._sink = sink
        self._publish = sink.publish_unguarded  # every method here has a `try` of its own
        self._error_messages = error_messages
        session_id = current_session_id() if session_id is None else session_id
        self._run = Run(as_text(workflow_id), as_text(run_id), session_id)
        self._details = _details.get()
        # Nodes that Oneiric has announced and that have not started.
        self._expected: set[str] = set()
        self._attempts: dict[str, int] = {}
        self._open: dict[str, float] = {}

    def begin(self, nodes: Iterable[str] = ()) -> None:
        """Publish the run's start.

        Args:
            nodes: The ids of the planned nodes, in order.
        """
        try:
            self._run.begin(time.perf_counter())
            self._publish(WorkflowStarted(**self._header(), nodes=as_texts(nodes)))
        except Exception as error:  # noqa: BLE001 - here and below: the observed run must not be disturbed
            self._sink.record_failure(error)

    def expect_node(self, node_id: str) -> None:
        """Note that a node is about to start. If it never does, it ends with the run."""
        self._expected.add(node_id)

    def start_node(self, node_id: str) -> None:
        """Publish the start of the next attempt at a node."""
        try:
            self._attempts[node_id] = number = self._attempts.get(node_id, 0) + 1
            self._expected.discard(node_id)
            self._open[node_id] = time.perf_counter()
            run = self._run
            if self._details:
                self._publish(NodeStarted(**self._header(), node_id=node_id, attempt=number))
                return
            # Naming the fields takes half the time that `**` does.
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
            self._sink.record_failure(error)

    def running_node(self, node_id: str) -> RunningNode:
        """Return the current attempt at a node, to tell child processes of it."""
        run = self._run
        attempt = self._attempts.get(node_id, 1)
        return RunningNode(run.workflow_id, run.run_id, run.session_id, node_id, attempt)

    def report_progress(self, node_id: str, **progress: Any) -> None:
        """Publish the progress of the current attempt at a node.

        Args:
            node_id: The node.
            **progress: ``completed``, ``total``, ``message`` and ``metadata`` of `NodeProgress`.
        """
        try:
            header: dict[str, Any] = {**progress, **self._header(progress.get("metadata"))}
            self._publish(NodeProgress(**header, node_id=node_id, attempt=self._attempts.get(node_id, 1)))
        except Exception as error:  # noqa: BLE001
            self._sink.record_failure(error)

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
        """Publish the end of the current attempt at a node, or of a node that did not start.

        Args:
            node_id: The node.
            error: The exception that ended it.
            status: How it ended; by default this follows from `error`.
            duration: Its seconds, if the node began later than `start_node` was called.
            text: The text of the exception, if there is no `error`.
            details: Any further metadata.
        """
        now = time.perf_counter()
        try:
            began = self._open.pop(node_id, None)
            if began is None:
                self._expected.discard(node_id)
                self._attempts[node_id] = self._attempts.get(node_id, 0) + 1
            elif duration is None:
                duration = now - began
            if error is None and status is None and not self._details:
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
            self._sink.record_failure(broken)

    def _publish_success(self, node_id: str, duration: float | None) -> None:
        """Publish the most frequent end, without an error, in a third of the time."""
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
            "error_type": None if error is None else type(_first_cause(error)).__name__,
            "error_message": self._text_of(text if error is None else error),
        }

    def end(
        self,
        error: BaseException | None = None,
        *,
        status: WorkflowStatus | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish the end of the run, and before it the ends of its open nodes, as cancelled.

        Args:
            error: The exception that ended it.
            status: How it ended; by default this follows from `error`.
            details: Any further metadata.
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
            self._sink.record_failure(broken)

    def _header(self, details: dict[str, Any] | None = None) -> dict[str, Any]:
        run, own = self._run, self._details
        return {
            "session_id": run.session_id,
            "workflow_id": run.workflow_id,
            "run_id": run.run_id,
            "metadata": {**own, **(details or {})} if own else details or {},
        }

    def _text_of(self, error: object) -> str | None:
        return as_text(error)[:MAX_ERROR_MESSAGE] if self._error_messages and error is not None else None


def _first_cause(error: BaseException) -> BaseException:
    """Follow ``raise ... from cause``: what wraps every failure of a phase says nothing about it.

    Rejected: to follow `__context__`, since what was being handled need not be the cause; to look into
    groups, since one exception of several is no better than the group.
    """
    seen = {id(error)}
    with suppress(Exception):  # an exception's class may define `__cause__`
        while (cause := error.__cause__) is not None and id(cause) not in seen and len(seen) <= _MAX_CAUSES:
            seen.add(id(cause))
            error = cause
    return error


def _status_of(error: BaseException | None) -> WorkflowStatus:
    if error is None:
        return "ok"
    return "failed" if is_failure(error) else "cancelled"
