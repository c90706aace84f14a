"""Entering, draining and closing a bus.

A bus is made, may be entered once, and is closed once. Its close goes through three steps: intake
stops (`publish` answers False, but for handlers), the subscriptions drain side by side up to the
deadline, and what was delivered and what was not is reported. Whoever asks for the close only begins
it: the host carries it out, so that neither a cancelled caller nor a second one can disturb it.
"""

from __future__ import annotations

import threading
import time
from contextvars import Token
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
import anyio.lowlevel

from eventbus.contracts import EventSink
from eventbus.delivery import current_bus
from eventbus.delivery.doorbell import Waiter
from eventbus.delivery.drain import Drain
from eventbus.delivery.host import Host, remember
from eventbus.delivery.router import Router
from eventbus.delivery.statistics import BusStatistics, DrainReport, SubscriptionStatistics
from eventbus.delivery.subscription import Subscription, check_not_handling
from eventbus.errors import BusStateError
from eventbus.session import new_id

__all__ = ["Lifecycle"]

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long a close lets subscribers drain unless told otherwise."""

CLOSE_GRACE_SECONDS = 0.1
"""How long past its deadline a close waits for what was cancelled then."""


class Lifecycle(Router):
    """A router whose subscriptions run from its entering to its close.

    Args:
        name: What logs and its thread call it.
        history: How many of the last accepted events are kept for `replay`.
        switch_interval: The interpreter's, in seconds, while events wait for a loop of another thread.
    """

    def __init__(self, name: str, history: int, switch_interval: float | None) -> None:
        super().__init__(history, switch_interval)
        self.name: str = name
        self._state_lock = threading.RLock()
        self._token: Token[EventSink | None] | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._begin_new()
        remember(self)

    def _begin_new(self) -> None:
        self.id: str = new_id()
        self.report: DrainReport | None = None
        self._host: Host | None = None
        self._is_running = False
        self._is_finished = False
        self._deadline = float("inf")
        self._close_began = 0.0
        self._fatal: BaseException | None = None
        self._ended = threading.Event()
        self._close_waiters: list[Waiter] = []

    # Entering and leaving.

    def __enter__(self) -> Self:
        """Run the subscribers on a thread of the bus's own, with its own loop.

        Raises:
            BusStateError: The bus has been entered before.
        """
        host = self._enter()
        try:
            host.start_thread()
        except RuntimeError:  # no thread can be started: too many, or the interpreter is ending
            self._finish()
            raise
        self._token = current_bus.push(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the bus."""
        self._leave()
        self.close()

    async def __aenter__(self) -> Self:
        """Run the subscribers in a task group of the calling task.

        Raises:
            BusStateError: The bus has been entered before.
        """
        host = self._enter()
        host.settle_here()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(host.serve, threading.Event())
        self._token = current_bus.push(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the bus."""
        self._leave()
        try:
            await self.aclose()
        finally:
            if self._tasks is not None:
                # Told nothing of the body's exception: it would come out wrapped in a group.
                await self._tasks.__aexit__(None, None, None)

    def _enter(self) -> Host:
        with self._state_lock:
            if self._is_closed:
                raise BusStateError("this bus is closed, and stays so. Make a new EventBus")
            if self._is_running:
                raise BusStateError("this bus has been entered already. Share it, or make another EventBus")
            self._is_running = True
            self._host = host = Host(self)
        for subscription in self._inside(Lifecycle._list_subscriptions, self):
            if not subscription.is_stream:
                host.adopt(subscription)
        current_bus.register(self)
        return host

    def _leave(self) -> None:
        if self._token is not None:
            current_bus.pop(self._token)
            self._token = None

    # Asking.

    def statistics(self) -> BusStatistics:
        """Return the books of the bus and its subscriptions, as they stand at this instant."""
        return self._inside(Lifecycle._read_statistics, self)

    def _read_statistics(self) -> BusStatistics:
        self._distribute()
        books = {name: subscription.read_books() for name, subscription in self._subscriptions.items()}
        return BusStatistics(accepted=self._accepted, rejected=self._rejected, subscriptions=books)

    # Draining and closing.

    async def drain(self, timeout: float | None = None) -> DrainReport:
        """Wait until every event accepted so far has been handled; the bus stays open.

        Streams are not waited for: their readers take what they hold in their own time.

        Args:
            timeout: The most seconds to wait; None for no limit.

        Returns:
            What was delivered. It is not complete when the deadline passed first, or when events are
            queued and the bus is not running.

        Raises:
            WouldDeadlockError: The calling code is a handler of this bus.
        """
        check_not_handling(self, "a drain of its own bus")
        began = time.monotonic()
        await anyio.lowlevel.checkpoint()
        if not self._is_running:
            done = self._is_all_delivered()
            return self._report_since(began, is_done=done) if self.report is None else self.report
        self._route()
        handled = [each for each in tuple(self._subscriptions.values()) if not each.is_stream]
        drain = Drain(handled)
        is_done = False
        try:
            with anyio.move_on_after(timeout):
                await drain.wait()
                is_done = True
        finally:
            drain.forget()
        return self._report_since(began, is_done=is_done)

    def close(self, timeout: float | None = CLOSE_TIMEOUT_SECONDS) -> DrainReport:
        """Stop intake, deliver what is queued, stop the subscribers. From any thread.

        Every subscription is drained at the same time. Closing again returns the same report. In a
        handler, and in the thread of the loop that the subscribers run in, nothing can be waited
        for: there the close begins, and the report says how things stand.

        Args:
            timeout: The most seconds to drain for, then what is left is reported; None for no limit.

        Returns:
            What was delivered and what was not, at most 100 ms after the deadline.

        Raises:
            BaseException: What a subscriber raised that is no `Exception`, such as
                `KeyboardInterrupt`; once, after the others have drained.
        """
        self._begin_close(timeout)
        if self._cannot_wait():
            return self._report_since(self._close_began) if self.report is None else self.report
        limit = self._seconds_left() + CLOSE_GRACE_SECONDS
        self._ended.wait(None if limit == float("inf") else limit)
        return self._closed()

    async def aclose(self, timeout: float | None = CLOSE_TIMEOUT_SECONDS) -> DrainReport:
        """Close from a task, of any loop; see `close`.

        Cancellation does not cut it short: it takes no longer than the deadline, and is then passed
        on if it came by way of asyncio's own `Task.cancel`.

        Args:
            timeout: The most seconds to drain for, then what is left is reported; None for no limit.

        Returns:
            What was delivered and what was not.

        Raises:
            BaseException: What a subscriber raised that is no `Exception`, such as
                `KeyboardInterrupt`; once, after the others have drained.
        """
        self._begin_close(timeout)
        if self._is_handled_here():
            return self._report_since(self._close_began) if self.report is None else self.report
        waiter = Waiter()
        self._close_waiters.append(waiter)
        if self._ended.is_set():
            waiter.notify()
        cancelled: BaseException | None = None
        with anyio.move_on_after(self._seconds_left() + CLOSE_GRACE_SECONDS, shield=True) as limit:
            while not self._ended.is_set() and not limit.cancel_called:
                try:
                    await waiter.wait()
                except anyio.get_cancelled_exc_class() as error:
                    if limit.cancel_called:
                        raise
                    cancelled = error
        if cancelled is not None:
            raise cancelled
        return self._closed()

    def _begin_close(self, timeout: float | None) -> None:
        with self._state_lock:
            if self._is_closed:
                return
            self._close_began = time.monotonic()
            self._deadline = float("inf") if timeout is None else self._close_began + max(0.0, timeout)
            self._inside(Lifecycle._stop_intake, self)
        for subscription in tuple(self._subscriptions.values()):
            subscription.mailbox.tell_room_to_all()  # nobody need wait to publish any more
            subscription.look_around()
        if self._host is None:
            self._finish()
        else:
            self._host.wake()

    async def _drain_and_seal(self) -> None:
        """Wait until nothing is queued and no handler is at work, then let the subscriptions end.

        What a handler publishes on its last events is delivered, too: a correlation that is found as
        the bus closes must reach the log. Chains of events have a limit, so this comes to an end.
        """
        accepted = -1
        while accepted != self._accepted:
            accepted = self._accepted
            await Drain(each for each in self._list_subscriptions() if not each.is_stream).wait()
            self._route()
        self._inside(Lifecycle._seal, self)
        for subscription in self._list_subscriptions():
            subscription.wake()

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _finish(self) -> None:
        """Note that nothing runs any more, and tell those who wait for it."""
        with self._state_lock:
            if self._is_finished:
                return
            self._is_finished = True
            self._inside(Lifecycle._seal, self)
            if self.report is None:  # else its deadline passed before this
                began = self._close_began or time.monotonic()
                self.report = self._report_since(began, is_done=self._is_all_delivered())
            self._is_running = False
            current_bus.unregister(self)
        # Before whoever waits for the end goes on, and outside the lock: a log handler is user code.
        self._say_what_is_undelivered(self.report)
        self._ended.set()
        for waiter in self._close_waiters:
            waiter.notify()
        if self._fatal is not None and self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _closed(self) -> DrainReport:
        """Return the report of the close, after raising what has to come out."""
        fatal, self._fatal = self._fatal, None
        if fatal is not None:
            raise fatal
        with self._state_lock:
            is_late = self.report is None  # a handler blocks its thread, or refuses to be cancelled
            report = self.report = (
                self._report_since(self._close_began) if self.report is None else self.report
            )
        if is_late:
            self._say_what_is_undelivered(report)
        return report

    def _report_since(self, began: float, *, is_done: bool = False) -> DrainReport:
        books, drained = self._inside(Lifecycle._read_what_is_drained, self)
        return DrainReport(
            complete=is_done,
            delivered=sum(each.delivered for each in drained),
            undelivered=0 if is_done else sum(each.queued for each in drained),
            lost=sum(each.lost for each in drained),
            duration_seconds=time.monotonic() - began,
            subscriptions=books.subscriptions,
        )

    def _is_all_delivered(self) -> bool:
        _, drained = self._inside(Lifecycle._read_what_is_drained, self)
        was_cut_short = any(each.was_cut_short() for each in tuple(self._subscriptions.values()))
        return not was_cut_short and not any(each.queued for each in drained)

    def _read_what_is_drained(self) -> tuple[BusStatistics, list[SubscriptionStatistics]]:
        books = self._read_statistics()
        handled = [name for name, each in self._subscriptions.items() if not each.is_stream]
        return books, [books.subscriptions[name] for name in handled]

    def _say_what_is_undelivered(self, report: DrainReport) -> None:
        behind = [
            f"{name!r} ({books.queued})" for name, books in report.subscriptions.items() if books.queued
        ]
        if report.undelivered:
            what = f"closed with {report.undelivered} events undelivered: {', '.join(behind)}"
            self._failure_log.warn("undelivered", what)

    def _cannot_wait(self) -> bool:
        return self._is_handled_here() or (self._host is not None and self._host.is_here())

    # What subscriptions and hosts ask for.

    def _remove(self, subscription: Subscription) -> None:
        """End a subscription and forget it."""
        if self._inside(self._unlist, subscription):
            self._retire(subscription)
            subscription.note_unsubscribed()

    def _unlist(self, subscription: Subscription) -> bool:
        if self._subscriptions.get(subscription.name) is not subscription:
            return False
        del self._subscriptions[subscription.name]
        return True

    def _list_subscriptions(self) -> tuple[Subscription, ...]:
        return tuple(self._subscriptions.values())

    def _retire(self, subscription: Subscription) -> None:
        """End a subscription, but keep its books."""
        self._inside(self._dismiss, subscription)
        subscription.mailbox.tell_room_to_all()

    def _carry_out(self, error: BaseException) -> None:
        """Have the close raise what a subscriber raised that must not be kept from the program."""
        if self._fatal is None:
            self._fatal = error
        if self._tasks is not None:
            self._begin_close(CLOSE_TIMEOUT_SECONDS)

    def _become_new(self) -> None:
        """Begin anew in a forked child: no host, nothing queued, the same subscriptions.

        A bus whose close had ended stays closed.
        """
        has_ended, report = self._ended.is_set(), self.report
        self._state_lock = threading.RLock()
        self._tasks = None
        self._is_closed = False
        self._begin_empty()
        self._begin_new()
        for subscription in self._subscriptions.values():
            subscription.become_new(self._section)
        if has_ended:
            self._begin_close(0)
            self.report = report
