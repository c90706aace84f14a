"""Publish through Oneiric's public hooks, for programs that call `execute_dag` themselves.

The hooks report less than `observe_oneiric`: attempts have no events of their own, and an exception's
type is lost. Oneiric does not report the end of a cancelled run: it ends as abandoned when it begins
again, or when 1,024 other runs are open.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from eventbus.contracts import EventSink
from eventbus.events import NodeStatus, WorkflowStatus
from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.integrations.known_oneiric import HOOKS, known_dag
from eventbus.integrations.observed_dag import ChainedHook
from eventbus.integrations.observed_run import ObservedRun
from eventbus.trackers.guards import GuardedSink, as_text, finite

__all__ = ["dag_hooks"]

MAX_OPEN_RUNS = 1_024
"""If more runs are open, the oldest one ends as abandoned."""


def dag_hooks(
    bus: EventSink | None = None,
    *,
    then: Any = None,
    session_id: str | None = None,
    error_messages: bool = False,
) -> Any:
    """Return a `DAGExecutionHooks` that publishes runs and nodes.

        await execute_dag(graph, workflow_key="quality", hooks=dag_hooks(bus))

    It may serve any number of runs, also concurrent ones.

    Args:
        bus: Where to publish. None: to the current bus, looked up at each event.
        then: Hooks to call after these, exactly as Oneiric would call them, such as those of its
            durable store.
        session_id: The session of all runs. None: each run has the session it begins in.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private.

    Raises:
        TypeError: `bus` has no `publish` method.
        IntegrationError: Oneiric cannot be imported, or the installed one is not a known one.
    """
    ours = _PublishingHooks(GuardedSink(bus), session_id, error_messages)
    hooks = known_dag().DAGExecutionHooks() if then is None else copy.copy(then)
    for name in HOOKS:
        setattr(hooks, name, ChainedHook(getattr(ours, name), getattr(hooks, name)))
    return hooks


class _PublishingHooks:
    """Hooks that publish, under Oneiric's names for them, and the open runs."""

    def __init__(self, sink: GuardedSink, session_id: str | None, error_messages: bool) -> None:
        self._new_run = partial(ObservedRun, sink, session_id=session_id, error_messages=error_messages)
        self._open: dict[object, ObservedRun] = {}
        self._lock = ForkSafeLock()

    def on_run_start(self, *, run_id: object, workflow_key: object, **_: Any) -> None:
        run, overdue = self._new_run(workflow_key, run_id), None
        with self._lock:
            replaced = self._open.pop(run_id, None)
            self._open[run_id] = run
            if len(self._open) > MAX_OPEN_RUNS:
                overdue = self._open.pop(next(iter(self._open)))
        for abandoned in (replaced, overdue):
            if abandoned is not None:
                abandoned.end(status="cancelled", details={"abandoned": True})
        run.begin()

    def on_node_start(self, *, run_id: object, node: object, **_: Any) -> None:
        run = self._open.get(run_id)
        if run is not None:
            run.start_node(as_text(node))

    def on_node_complete(self, *, run_id: object, node: object, **report: Any) -> None:
        self._end_node(run_id, node, "ok", report)

    def on_node_skip(self, *, run_id: object, node: object, **report: Any) -> None:
        self._end_node(run_id, node, "skipped", report)

    def on_node_error(self, *, run_id: object, node: object, **report: Any) -> None:
        self._end_node(run_id, node, "failed", report)

    def on_run_complete(self, *, run_id: object, **_: Any) -> None:
        self._end_run(run_id, "ok")

    def on_run_error(self, *, run_id: object, **_: Any) -> None:
        self._end_run(run_id, "failed")

    def _end_node(self, run_id: object, node: object, status: NodeStatus, report: dict[str, Any]) -> None:
        run = self._open.get(run_id)
        if run is not None:
            run.end_node(
                as_text(node),
                status=status,
                duration=finite(report.get("duration")),
                details={"attempts": report["attempts"]} if report.get("attempts", 1) != 1 else None,
                text=report.get("error"),
            )

    def _end_run(self, run_id: object, status: WorkflowStatus) -> None:
        with self._lock:
            run = self._open.pop(run_id, None)
        if run is not None:
            run.end(status=status)
