"""Where a bus's subscriptions run: in the caller's task group, or in a thread with its own loop.

Either way one coroutine, `serve`, runs them all: it starts a task for each subscription, waits for
the close, lets them drain to the deadline, and cancels what is left then. It is shielded from the
caller's cancellation, so that a program that is being cancelled still has its events delivered.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from eventbus.delivery import current_bus
from eventbus.delivery.doorbell import Doorbell, Sleeper, new_sleeper

if TYPE_CHECKING:
    from eventbus.delivery.lifecycle import Lifecycle
    from eventbus.delivery.subscription import Subscription

__all__ = ["Host"]

_logger = logging.getLogger("eventbus")


class Host:
    """Runs the subscriptions of one bus, from its entering to its close.

    Args:
        bus: The bus.
    """

    def __init__(self, bus: Lifecycle) -> None:
        self._bus = bus
        self._newcomers: deque[Subscription] = deque()
        self._settled: tuple[Doorbell, Sleeper] | None = None

    def start_thread(self) -> None:
        """Serve in a thread of its own; return when it is ready."""
        ready = threading.Event()
        # A daemon: an ordinary thread would keep the interpreter from ever reaching atexit.
        thread = threading.Thread(
            target=self._run_thread, args=(ready,), name=f"{self._bus.name}-host", daemon=True
        )
        thread.start()
        ready.wait()

    def settle_here(self) -> tuple[Doorbell, Sleeper]:
        """Take the running loop as the one to serve in."""
        if self._settled is None:
            self._settled = (self._bus._doorbell_here(), new_sleeper())
        return self._settled

    def is_here(self) -> bool:
        """Whether the calling thread is the one this host runs in."""
        return self._settled is not None and self._settled[0].is_here()

    def adopt(self, subscription: Subscription) -> None:
        """Run one more subscription. From anywhere."""
        self._newcomers.append(subscription)
        self.wake()

    def wake(self) -> None:
        """Have `serve` look around. From anywhere."""
        if self._settled is not None:
            doorbell, sleeper = self._settled
            doorbell.ring_for(sleeper)

    async def serve(self, ready: threading.Event) -> None:
        """Run subscriptions until the bus closes, then drain them.

        Args:
            ready: Set when events are being delivered.
        """
        bus = self._bus
        doorbell, sleeper = self.settle_here()
        try:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as tasks:
                    ready.set()
                    while True:
                        is_last_look = bus._is_closed  # before the look: nobody comes after
                        while self._newcomers:
                            tasks.start_soon(self._newcomers.popleft()._deliver, doorbell, tasks.cancel_scope)
                        bus._route()
                        if is_last_look:
                            break
                        await sleeper.sleep()
                    tasks.cancel_scope.deadline = anyio.current_time() + bus._seconds_left()
                    await bus._drain_and_seal()
        finally:
            bus._give_back(doorbell)
            bus._finish()

    def _run_thread(self, ready: threading.Event) -> None:
        _wake_on_time()
        try:
            anyio.run(self.serve, ready)
        except BaseException:
            _logger.exception("the thread of bus %r died", self._bus.name)
        finally:
            ready.set()
            self._bus._finish()


def _wake_on_time() -> None:
    """Let the kernel end this thread's waits when they are due, not up to 50 us later.

    It gathers what ends about the same time. But a wait for the interpreter's lock that ends after the
    lock has been released once more has to begin anew, see `switch_interval`.
    """
    with suppress(OSError):  # only Linux has it: `proc_pid_timerslack_ns(5)`
        Path(f"/proc/{threading.get_native_id()}/timerslack_ns").write_text("1000", encoding="ascii")


_buses: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def remember(bus: Lifecycle) -> None:
    """Drain this bus at interpreter exit, and make it anew in a forked child."""
    _buses.add(bus)


@atexit.register
def _close_at_exit() -> None:
    for bus in tuple(_buses):
        if bus._is_running:
            with suppress(BaseException):
                bus.close()


def _after_fork_in_child() -> None:
    current_bus.forget_all()
    for bus in tuple(_buses):
        bus._become_new()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
