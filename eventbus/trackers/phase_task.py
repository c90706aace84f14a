"""Observe a phase of an Oneiric workflow as a node of its run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from eventbus.running_node import NodeScope, RunningNode
from eventbus.trackers.outcomes import is_failure
from eventbus.trackers.workflows import WorkflowEventTracker

__all__ = ["PhaseTask"]


class PhaseTask:
    """Runs one phase as Oneiric's own task does, and reports it to a tracker.

    Result, exception and cancellation are exactly those of the runner, whatever the tracker or its
    bus does. Each `run` is one attempt at the node `name`; overlapping runs each end their own. While
    one runs, `EVENTBUS_NODE` names it to the processes that it starts (`eventbus.running_node`).

    Args:
        name: The node's id.
        runner: The phase: a function without parameters, sync or async.
        tracker: The tracker. None: the phase is not observed.
        event_tracker: The name of `tracker` in older code; `tracker` wins.
    """

    def __init__(
        self,
        name: str,
        runner: Callable[[], Any],
        tracker: WorkflowEventTracker | None = None,
        *,
        event_tracker: WorkflowEventTracker | None = None,
    ) -> None:
        self.name = name
        self._runner = runner
        self._tracker = tracker if tracker is not None else event_tracker

    async def run(self, payload: dict[str, Any] | None = None) -> Any:  # noqa: ARG002 - Oneiric passes it
        """Run the phase.

        A cancellation, a `KeyboardInterrupt` or a `SystemExit` ends the node as cancelled, with its
        type. Every other exception ends it as failed.

        Args:
            payload: Passed by Oneiric and not used.

        Returns:
            The runner's result, awaited if necessary.

        Raises:
            RuntimeError: The runner returned False: ``workflow-task-failed: <name>``.
        """
        attempt = self._report_start()
        try:
            with NodeScope(self._node(attempt)):
                result = self._runner()
                if inspect.isawaitable(result):
                    result = await result
            if result is False:
                raise RuntimeError(f"workflow-task-failed: {self.name}")  # noqa: TRY301
        except BaseException as error:
            self._report_end(attempt, error)
            raise
        # Outside the `try`: if reporting the success raised there, a failure would be reported, too.
        self._report_end(attempt, None)
        return result

    def _report_start(self) -> int | None:
        if self._tracker is None:
            return None
        try:
            return self._tracker.node_started(self.name)
        except Exception:  # noqa: BLE001 - a broken tracker must not fail the phase
            return None

    def _node(self, attempt: int | None) -> RunningNode | None:
        if self._tracker is None or attempt is None:
            return None
        try:
            return self._tracker.running_node(self.name, attempt)
        except Exception:  # noqa: BLE001 - as above
            return None

    def _report_end(self, attempt: int | None, error: BaseException | None) -> None:
        if self._tracker is None:
            return
        with suppress(Exception):
            self._tracker.node_completed(
                self.name,
                error is None,
                attempt=attempt,
                status=None if error is None or is_failure(error) else "cancelled",
                error=error,
            )
