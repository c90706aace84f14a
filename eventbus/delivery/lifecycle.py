"""Entering, draining and closing a bus.

A bus is made, may be entered once, and is closed once. Its close goes through three steps: intake
stops (`publish` returns False, except in handlers), the subscriptions drain in parallel up to the
deadline, and a report says what was delivered and what was not. Closing only begins the close: the
host carries it out, so that neither a cancelled caller nor a second one can disturb it.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from contextvars import Token
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from eventbus.contracts import EventSink
from eventbus.delivery import current_bus, switch_interval
from eventbus.delivery.alarm import move_on_after
from eventbus.delivery.block import Block, begin_block
from eventbus.delivery.causality import check_not_handling, is_handling
from eventbus.delivery.clock import elapsed_seconds
from eventbus.delivery.deadline import CLOSE_TIMEOUT_SECONDS, Deadline
from eventbus.delivery.doorbell import Waiter
from eventbus.delivery.drain import Drain
from eventbus.delivery.host import Host
from eventbus.delivery.interpreter_exit import close_at_exit
from eventbus.delivery.latch import Latch
from eventbus.delivery.router import Router
from eventbus.delivery.statistics import BusStatistics, DrainReport, drain_report, undelivered_text
from eventbus.delivery.subscription import Subscription
from eventbus.delivery.waiting import waiting_for
from eventbus.errors import BusStateError
from eventbus.session import new_id

if TYPE_CHECKING:
    from eventbus.bus import EventBus

__all__ = ["CLOSE_TIMEOUT_SECONDS", "Lifecycle"]

CLOSE_GRACE_SECONDS = 0.1
"""How long past its deadline a close waits for the tasks that were cancelled then."""


class Lifecycle:
    """Runs a bus's subscriptions from its entering to its close.

    Args:
        bus: The bus.
        router: Its router.

    Attributes:
        id: The bus's id.
        report: What its close delivered and what it did not; None until it has closed.
        is_running: Whether it has been entered, and its close has not ended.
    """

    def __init__(self, bus: EventBus, router: Router) -> None:
        self._bus = bus
        self._router = router
        self._token: Token[EventSink | None] | None = None
        self._begin()
        _lifecycles.add(self)

    def _begin(self) -> None:
        self.id: str = new_id()
        self.report: DrainReport | None = None
        self.is_running: bool = False
        self._block: Block | None = None
        self._host: Host | None = None
        self._has_warned = False
        self._deadline = Deadline()
        self._fatal: BaseException | None = None
        self._ended = Latch()
        self._close_waiters: list[Waiter] = []

    # Entering and leaving.

    def enter(self) -> None:
        """Run the subscriptions in a new thread with its own loop."""
        host = self._enter()
        try:
            host.start_thread()
        except BaseException:
            self._finish()
            raise
        self._token = current_bus.push(self._bus)

    async def enter_here(self) -> None:
        """Run the subscriptions in the calling task's loop."""
        host = self._enter()
        try:
            host.settle_here()
        except RuntimeError as error:
            self._finish()
            raise BusStateError(
                f"no loop runs here ({error}): the bus is closed. Enter a new one in a task, "
                "or with a plain `with`"
            ) from error
        self._block = await begin_block(partial(host.serve, Latch()), f"{self._bus.name}-host")
        self._token = current_bus.push(self._bus)

    def leave(self) -> None:
        """Note that the bus's block is left; the close follows."""
        if self._token is not None:
            current_bus.pop(self._token)
            self._token = None

    async def end_block(self, error: object) -> bool:
        """Wait for the host of `enter_here`, after the close; return whether the body's `error` is ours."""
        raised = error if isinstance(error, BaseException) else None
        return self._block is not None and await self._block.end(raised)

    def add(self, subscription: Subscription) -> None:
        """Run a subscription that has been attached, if the bus has been entered."""
        if self._host is not None:
            self._host.add(subscription)

    def _enter(self) -> Host:
        host = self._router.run_inside(Lifecycle._enter_inside, self)
        for subscription in self._router.handled_subscriptions():
            host.add(subscription)
        current_bus.register(self._bus)
        self._router.is_orphaned = False
        close_at_exit(self)
        return host

    def _enter_inside(self) -> Host:
        router = self._router
        if router.is_closed:
            raise BusStateError("this bus is closed, and cannot be entered again. Make a new EventBus")
        if self.is_running:
            raise BusStateError("this bus has been entered already. Share it, or make another EventBus")
        self.is_running = True
        self._host = host = Host(self._bus.name, router, self._deadline, self._raise_on_close, self._finish)
        return host

    # Draining and closing.

    async def drain(self, timeout: float | None) -> DrainReport:
        """Wait until every event accepted so far has been handled; see `EventBus.drain`."""
        check_not_handling(self._bus, "a drain of its own bus")
        began = elapsed_seconds()
        await anyio.lowlevel.checkpoint()
        if not self.is_running:
            if self.report is not None:
                return self.report
            return self._report_since(began, is_complete=self._is_all_delivered())
        router = self._router
        router.distribute()
        waiter = Waiter()
        drain = Drain(router.handled_subscriptions(), waiter.notify)
        is_complete = False
        try:
            with waiting_for(drain.unhandled, "a drain of another bus"), move_on_after(timeout):
                await waiter.wait()
                is_complete = True
        finally:
            drain.close()
        return self._report_since(began, is_complete=is_complete)

    def close(self, timeout: float | None) -> DrainReport:
        """Close from any thread; see `EventBus.close`."""
        self._begin_close(timeout)
        if is_handling(self._bus) or (self._host is not None and self._host.is_here()):
            return self._report_so_far()
        limit = self._deadline.seconds_left() + CLOSE_GRACE_SECONDS
        wait = partial(self._ended.wait, None if limit == float("inf") else limit)
        # In a signal handler this thread may be inside what the host needs to enter.
        if self._router.section.is_inside():
            self._router.queue.finish_interrupted()
        switch_interval.run_released(partial(self._router.section.run_released, wait))
        return self._report_or_raise()

    async def aclose(self, timeout: float | None) -> DrainReport:
        """Close from a task, of any loop; see `EventBus.aclose`."""
        self._begin_close(timeout)
        if is_handling(self._bus):
            return self._report_so_far()
        if self._ended.is_open():  # also where no loop runs: in a forked child of a task
            return self._report_or_raise()
        waiter = Waiter()
        self._close_waiters.append(waiter)
        if self._ended.is_open():
            waiter.notify()
        cancelled: BaseException | None = None
        with move_on_after(self._deadline.seconds_left() + CLOSE_GRACE_SECONDS, shield=True) as limit:
            while not self._ended.is_open() and not limit.cancel_called:
                try:
                    await waiter.wait()
                except anyio.get_cancelled_exc_class() as error:
                    if limit.cancel_called:
                        raise
                    cancelled = error
        if cancelled is not None and self._fatal is None:  # otherwise it may be what cancelled the body
            raise cancelled
        return self._report_or_raise()

    def _begin_close(self, timeout: float | None) -> None:
        """Begin the close, or finish beginning it: the call that began it may have been interrupted."""
        if self._ended.is_open():
            return
        self._router.run_inside(self._deadline.begin, timeout)
        self._stop_intake()
        if self._host is None:
            self._finish()
        else:
            self._host.notice_closing()

    def _stop_intake(self) -> None:
        self._router.stop_intake()
        for subscription in tuple(self._router.subscriptions.values()):
            subscription.mailbox.waiting_room.notify_all()  # no publisher need wait any more
            subscription.notice_closing()
            if subscription.state == "waiting":  # its `subscribe` may be interrupted by this very call
                self.add(subscription)

    def _finish(self) -> None:
        """Note that nothing runs any more, and notify the callers that wait for it."""
        self._router.run_inside(Lifecycle._finish_inside, self)
        self._stop_intake()  # a host may end without a close, too
        self._ended.open()
        for waiter in self._close_waiters:
            waiter.notify()
        if self._fatal is not None and self._block is not None:
            self._block.cancel()
        self._clean_up()

    def _finish_inside(self) -> None:
        self._router.seal()
        if self.report is None:  # otherwise its deadline passed before this
            began = self._deadline.began or elapsed_seconds()
            self.report = self._report_since(began, is_complete=self._is_all_delivered())
        self.is_running = False

    def _clean_up(self) -> None:
        """Do what needs other locks, of the program's too: in each thread that sees the end.

        The host must not do it before it notifies the waiting callers: one of them may be a signal
        handler that has interrupted a thread which holds such a lock.
        """
        current_bus.unregister(self._bus)
        if self.report is not None:
            self._warn_of_undelivered(self.report)

    def _raise_on_close(self, error: BaseException) -> None:
        """Have the close raise an exception of a subscriber that must not be kept from the program."""
        if self._fatal is None:
            self._fatal = error
        if self._block is not None:
            self._begin_close(CLOSE_TIMEOUT_SECONDS)

    # Reports.

    def _report_or_raise(self) -> DrainReport:
        """Return the report of the close, or raise what a subscriber raised."""
        fatal, self._fatal = self._fatal, None
        if fatal is not None:
            raise fatal
        # There is none yet if a handler blocks its thread, or refuses to be cancelled.
        report = self._router.run_inside(Lifecycle._settle_report, self)
        if self._ended.is_open():
            self._clean_up()
        else:
            self._warn_of_undelivered(report)
        return report

    def _settle_report(self) -> DrainReport:
        self.report = self._report_so_far()
        return self.report

    def _report_so_far(self) -> DrainReport:
        """Return the report of the close; before its end, an incomplete one."""
        return self._report_since(self._deadline.began) if self.report is None else self.report

    def _report_since(self, began: float, *, is_complete: bool = False) -> DrainReport:
        statistics, handled = self._router.read(self._statistics_and_handled)
        return drain_report(statistics, handled, elapsed_seconds() - began, is_complete=is_complete)

    def _is_all_delivered(self) -> bool:
        statistics, handled = self._router.read(self._statistics_and_handled)
        was_cut_short = any(each.was_cut_short() for each in tuple(self._router.subscriptions.values()))
        return not was_cut_short and not any(statistics.subscriptions[name].queued for name in handled)

    def _statistics_and_handled(self) -> tuple[BusStatistics, list[str]]:
        """Return the statistics and the names of the subscriptions that have handlers."""
        handled = [each.name for each in self._router.handled_subscriptions()]
        return self._router.statistics(), handled

    def _warn_of_undelivered(self, report: DrainReport) -> None:
        if report.undelivered and not self._has_warned:
            self._has_warned = True
            self._router.failure_log.warn("undelivered", undelivered_text(report))

    # The end of the interpreter, and forked children.

    def drain_at_exit(self) -> Latch:
        """Return a latch that is open when every event accepted so far has been handled."""
        drained = Latch()
        self._router.distribute()
        is_stopped = self._host is None or self._host.is_here()  # its loop has been left and runs no more
        Drain([] if is_stopped else self._router.handled_subscriptions(), drained.open)
        return drained

    def begin_close_at_exit(self, timeout: float) -> None:
        """Begin the close of a bus that is still running when the interpreter exits."""
        with suppress(BaseException):
            self._begin_close(timeout)

    def end_close_at_exit(self) -> None:
        """Wait for the close, and let its thread report: the interpreter's end would cut it short."""
        with suppress(BaseException):
            self._bus.close()
            if self._host is not None and self._ended.is_open():
                self._host.join(CLOSE_GRACE_SECONDS)

    def reset_after_fork(self) -> None:
        """Begin again in a forked child: no host, nothing queued, the same subscriptions.

        A bus whose close had ended stays closed.
        """
        has_ended, report = self._ended.is_open(), self.report
        self._router.reset_after_fork(was_running=self.is_running)
        self._begin()
        if has_ended:
            self._begin_close(0)
            self.report = report


_lifecycles: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    current_bus.forget_all()
    for lifecycle in tuple(_lifecycles):
        lifecycle.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
