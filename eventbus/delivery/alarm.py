"""Timeouts that do not depend on the clock of the loop.

A test of the program may have replaced it: under freezegun an asyncio loop's timers are never due, or at
once; trio has a `MockClock`. A close must end nevertheless, and not before its time: its subscribers may run
in another loop. So a thread waits for the time to pass. Only where none can be started the loop's own
clock has to do.
"""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio

from eventbus.delivery.doorbell import Doorbell
from eventbus.delivery.latch import Latch

__all__ = ["Alarm", "move_on_after"]


class Alarm:
    """Cancels a scope of the running loop when a time has passed; make it in that loop."""

    __slots__ = ("_doorbell", "_is_off", "_scope")

    def __init__(self) -> None:
        self._scope: anyio.CancelScope | None = None
        self._doorbell = Doorbell(self._cancel)
        self._is_off = Latch()

    def set(self, scope: anyio.CancelScope, seconds: float | None) -> None:
        """Cancel a scope in this many seconds, or never for None and infinity."""
        if seconds is None or seconds == float("inf"):
            return
        if seconds <= 0:
            scope.cancel()
            return
        self._scope = scope
        try:
            start_new_thread(_ring_later, (seconds, self._is_off, self._doorbell.ring))
        except RuntimeError:  # there are too many threads, or the interpreter is exiting
            scope.deadline = anyio.current_time() + seconds

    def turn_off(self) -> None:
        """Cancel nothing any more."""
        self._is_off.open()

    def _cancel(self, _: Doorbell) -> bool:
        if self._scope is not None and not self._is_off.is_open():
            self._scope.cancel()
        return False


@contextmanager
def move_on_after(seconds: float | None, *, shield: bool = False) -> Generator[anyio.CancelScope]:
    """Cancel the block when a time has passed, like `anyio.move_on_after`."""
    with anyio.CancelScope(shield=shield) as scope:
        alarm = Alarm()
        alarm.set(scope, seconds)
        try:
            yield scope
        finally:
            alarm.turn_off()


def _ring_later(seconds: float, is_off: Latch, ring: Callable[[], None]) -> None:
    if not is_off.wait(seconds):
        ring()
