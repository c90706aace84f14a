"""Oneiric's public hooks, as they publish: for who executes a graph oneself, and patches nothing.

They tell less than `observe_oneiric`: attempts are not told apart, an exception's type is lost, and
of a run that is cancelled nothing more is heard: it is ended as abandoned when it begins again, or
when 1,024 others have begun since.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from eventbus.contracts import EventSink
from eventbus.events import NodeStatus, WorkflowStatus
from eventbus.fork_safety import ForkSafeLock
from eventbus.integrations.known_oneiric import HOOKS, known_dag
from eventbus.integrations.observed_dag import ChainedHook
from eventbus.integrations.observed_run import ObservedRun
from eventbus.trackers.guards import QuietSink, as_text, finite

__all__ = ["dag_hooks"]

MAX_OPEN_RUNS = 1_024
"""Beyond this the oldest open run is taken for abandoned."""


def dag_hooks(
    bus: EventSink | None = None,
    *,
    then: Any = None,
    session_id: str | None = None,
    error_messages: bool = False,
) -> Any:
    """Return a `DAGExecutionHooks` that publishes the runs and nodes it hears of.

        await execute_dag(graph, workflow_key="quality", hooks=dag_hooks(bus))

    It may serve any number of runs, at once, too.

    Args:
        bus: Where to publish. None: to the current bus, asked for at each event.
        then: Hooks to call after these, such as those of Oneiric's durable store; exactly as Oneiric
            itself would call them.
        session_id: The session of all runs. None: the one each run begins in.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private.

    Raises:
        TypeError: `bus` has no `publish` method.
        IntegrationError: Oneiric is not installed, or is another than is known.
    """
    telling = _TellingHooks(QuietSink(bus), session_id, error_messages)
    hooks = known_dag().DAGExecutionHooks() if then is None else copy.copy(then)
    for name in HOOKS:
        setattr(hooks, name, ChainedHook(getattr(telling, name), getattr(hooks, name)))
    return hooks


class _TellingHooks:
    """The hooks by their names, and the runs they have heard of and not heard the end of."""

    def __init__(self, sink: QuietSink, session_id: str | None, error_messages: bool) -> None:
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

    def on_node_complete(self, *, run_id: object, node: object, **told: Any) -> None:
        self._end_node(run_id, node, "ok", told)

    def on_node_skip(self, *, run_id: object, node: object, **told: Any) -> None:
        self._end_node(run_id, node, "skipped", told)

    def on_node_error(self, *, run_id: object, node: object, **told: Any) -> None:
        self._end_node(run_id, node, "failed", told)

    def on_run_complete(self, *, run_id: object, **_: Any) -> None:
        self._end_run(run_id, "ok")

    def on_run_error(self, *, run_id: object, **_: Any) -> None:
        self._end_run(run_id, "failed")

    def _end_node(self, run_id: object, node: object, status: NodeStatus, told: dict[str, Any]) -> None:
        run = self._open.get(run_id)
        if run is not None:
            run.end_node(
                as_text(node),
                status=status,
                duration=finite(told.get("duration")),
                details={"attempts": told["attempts"]} if told.get("attempts", 1) != 1 else None,
                text=told.get("error"),
            )

    def _end_run(self, run_id: object, status: WorkflowStatus) -> None:
        with self._lock:
            run = self._open.pop(run_id, None)
        if run is not None:
            run.end(status=status)
