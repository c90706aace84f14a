"""Where a bus's subscriptions run: in the caller's task group, or in a thread with its own loop.

Either way one coroutine, `serve`, runs them all: it starts a task for each subscription, waits for
the close, lets them drain until the deadline, and then cancels the rest. It is shielded from the
caller's cancellation, so that a program that is being cancelled still has its events delivered.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio

from eventbus.delivery.alarm import Alarm
from eventbus.delivery.deadline import Deadline
from eventbus.delivery.doorbell import Doorbell, Waiter
from eventbus.delivery.drain import Drain
from eventbus.delivery.latch import Latch
from eventbus.delivery.router import Router
from eventbus.delivery.running_loop import Sleeper, new_sleeper
from eventbus.delivery.subscription import Subscription
from eventbus.delivery.worker import Worker
from eventbus.errors import BusStateError

__all__ = ["Host"]

_logger = logging.getLogger("eventbus")


class Host:
    """Runs the subscriptions of one bus, from its entering to its close.

    Args:
        name: The bus's name.
        router: The bus's router.
        deadline: When the close of the bus has to end.
        raise_on_close: Called with an exception of a subscriber that the close must raise.
        on_end: Called when nothing runs any more; possibly twice.
    """

    def __init__(
        self,
        name: str,
        router: Router,
        deadline: Deadline,
        raise_on_close: Callable[[BaseException], None],
        on_end: Callable[[], None],
    ) -> None:
        self._name = name
        self._router = router
        self._deadline = deadline
        self._raise_on_close = raise_on_close
        self._on_end = on_end
        self._newcomers: deque[Subscription] = deque()
        self._settled: tuple[Doorbell, Sleeper] | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None  # why its thread could not begin to serve
        self._pid = os.getpid()

    def start_thread(self) -> None:
        """Serve in a new thread; return when it is ready.

        Raises:
            BusStateError: It cannot serve: there are too many threads, or no descriptors for its loop.
        """
        ready = Latch()
        # A daemon: an ordinary thread would keep the interpreter from ever reaching atexit.
        self._thread = threading.Thread(
            target=self._run_thread, args=(ready,), name=f"{self._name}-host", daemon=True
        )
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            self._failure = error
        else:
            ready.wait()
        if self._failure is not None:
            raise BusStateError(
                f"bus {self._name!r} cannot run its subscribers in a thread: {self._failure}. "
                "Free what is missing, or run them in a loop of yours: async with"
            ) from self._failure

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, if there is one, at most this many seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def settle_here(self) -> tuple[Doorbell, Sleeper]:
        """Take the running loop as the one to serve in."""
        if self._settled is None:
            self._settled = (self._router.share_doorbell(), new_sleeper())
        return self._settled

    def is_here(self) -> bool:
        """Whether the calling thread is the one this host runs in."""
        return self._settled is not None and self._settled[0].is_here()

    def add(self, subscription: Subscription) -> None:
        """Run one more subscription. From anywhere."""
        self._newcomers.append(subscription)
        self.wake()

    def wake(self) -> None:
        """Have `serve` look for new subscriptions and the close. From anywhere."""
        if self._settled is not None:
            doorbell, sleeper = self._settled
            doorbell.wake(sleeper)

    def notice_closing(self) -> None:
        """Have `serve` look for the close, even if a ring has been interrupted. From anywhere."""
        self.wake()
        if self._settled is not None:
            self._settled[0].ring_again()

    async def serve(self, ready: Latch) -> None:
        """Run subscriptions until the bus closes, then drain them.

        Args:
            ready: Opened when events are being delivered.
        """
        if self._is_forked():
            return
        router = self._router
        doorbell, sleeper = self.settle_here()
        alarm = Alarm()
        try:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as tasks:
                    ready.open()
                    while True:
                        is_last_look = router.is_closed  # read first: no newcomer follows a close
                        while self._newcomers:
                            worker = self._worker_for(self._newcomers.popleft())
                            tasks.start_soon(worker.run, doorbell, tasks.cancel_scope)
                        router.distribute()
                        if is_last_look:
                            break
                        await sleeper.sleep()
                    alarm.set(tasks.cancel_scope, self._deadline.seconds_left())
                    await self._drain_and_seal()
        finally:
            alarm.turn_off()
            if not self._is_forked():
                router.return_doorbell(doorbell)
                self._on_end()

    def _is_forked(self) -> bool:
        """Whether this is the copy of a host in a forked child."""
        return self._pid != os.getpid()

    def _worker_for(self, subscription: Subscription) -> Worker:
        return Worker(subscription, self._router, self._deadline, self._raise_on_close)

    async def _drain_and_seal(self) -> None:
        """Wait until nothing is queued and no handler is running, then let the subscriptions end.

        Events that handlers publish during the drain are delivered, too: a correlation found as the
        bus closes must reach the log. Chains of events have a limit, so this comes to an end.
        """
        router = self._router
        accepted = -1
        while accepted != router.queue.accepted:
            accepted = router.queue.accepted
            waiter = Waiter()
            Drain(router.handled_subscriptions(), waiter.notify)
            await waiter.wait()
            router.distribute()
        router.seal()
        for subscription in tuple(router.subscriptions.values()):
            subscription.wake()

    def _run_thread(self, ready: Latch) -> None:
        _wake_on_time()
        try:
            anyio.run(self.serve, ready)
        except BaseException as error:
            if ready.is_open():
                _logger.exception("the thread of bus %r died", self._name)
            else:
                self._failure = error
        finally:
            ready.open()
            self._on_end()


def _wake_on_time() -> None:
    """Have the kernel end this thread's waits when they are due, not up to 50 us later.

    It does so by default to end several waits at once. But a wait for the interpreter's lock that ends
    after a further release of the lock has to begin again, see `switch_interval`.
    """
    with suppress(OSError):  # only Linux has it: `proc_pid_timerslack_ns(5)`
        Path(f"/proc/{threading.get_native_id()}/timerslack_ns").write_text("1000", encoding="ascii")
