"""Run a coroutine step by step: from one suspension to the next, as its event loop does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any

from eventbus.delivery.running_loop import is_cancellation

__all__ = ["SteppedCall"]


class SteppedCall:
    """An awaitable that runs another one, and measures how long each of its steps keeps the loop.

    Args:
        awaitable: What to run.
        on_suspended: Called with the number of each suspension, from 1.

    Attributes:
        longest_step: The seconds of its longest step.
        swallowed_cancellation: Whether it was cancelled, and returned nevertheless.
    """

    def __init__(
        self, awaitable: Awaitable[Any], on_suspended: Callable[[int], object] | None = None
    ) -> None:
        self._awaitable = awaitable
        self._on_suspended = on_suspended
        self.longest_step: float = 0.0
        self.swallowed_cancellation: bool = False

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run it."""
        inner: Any = self._awaitable.__await__()
        step = partial(next, inner)
        suspensions, was_cancelled = 0, False
        while True:
            try:
                yielded = self._timed(step)
            except StopIteration as end:
                self.swallowed_cancellation = was_cancelled
                return end.value
            suspensions += 1
            if self._on_suspended is not None:
                self._on_suspended(suspensions)
            try:
                sent = yield yielded
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's to see
                was_cancelled = was_cancelled or is_cancellation(error)
                step = partial(inner.throw, error)
            else:
                # An awaitable need not be a generator: `send` is asked for only when it is needed.
                step = partial(next, inner) if sent is None else partial(inner.send, sent)

    def _timed(self, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return step()
        finally:
            self.longest_step = max(self.longest_step, time.perf_counter() - began)
