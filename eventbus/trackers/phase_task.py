"""A phase of an Oneiric workflow, observed: the same outcome, and a started and an ended node."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from eventbus.trackers.outcomes import is_failure
from eventbus.trackers.workflows import WorkflowEventTracker

__all__ = ["PhaseTask"]


class PhaseTask:
    """Runs one phase as Oneiric's own task does, and tells a tracker about it.

    Result, exception and cancellation are exactly those of the runner: nothing the tracker or its
    bus does changes them. Each `run` is one attempt at the node `name`; overlapping ones each end
    their own.

    Args:
        name: The node's id.
        runner: The phase: a function without parameters, sync or async.
        tracker: Where to tell; None runs unobserved.
        event_tracker: The same, under the name by which older code passes it; `tracker` wins.
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
        type: the phase was cut short, it did not fail. Every other exception ends it as failed.

        Args:
            payload: Oneiric's; phases take nothing from it.

        Returns:
            What the runner returned, or what it returned to be awaited gave.

        Raises:
            RuntimeError: The runner answered False: ``workflow-task-failed: <name>``.
        """
        attempt = self._tell_start()
        try:
            result = self._runner()
            if inspect.isawaitable(result):
                result = await result
            if result is False:
                raise RuntimeError(f"workflow-task-failed: {self.name}")  # noqa: TRY301
        except BaseException as error:
            self._tell_end(attempt, error)
            raise
        # Outside the try: a success that is told inside, badly, would be told again as a failure.
        self._tell_end(attempt, None)
        return result

    def _tell_start(self) -> int | None:
        if self._tracker is None:
            return None
        try:
            return self._tracker.node_started(self.name)
        except Exception:  # noqa: BLE001 - a broken tracker is no reason to fail the phase
            return None

    def _tell_end(self, attempt: int | None, error: BaseException | None) -> None:
        if self._tracker is None:
            return
        with suppress(Exception):  # as above
            self._tracker.node_completed(
                self.name,
                error is None,
                attempt=attempt,
                status=None if error is None or is_failure(error) else "cancelled",
                error=error,
            )
