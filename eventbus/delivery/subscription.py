"""A subscription: the handle on a subscriber, its statistics, and the drains that wait for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from eventbus.contracts import Subscriber
from eventbus.delivery.callables import reject_unrun
from eventbus.delivery.coalescing_mailbox import new_mailbox
from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.isolation import exit_in
from eventbus.delivery.mailbox import Mailbox
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.delivery.statistics import SubscriptionState, SubscriptionStatistics
from eventbus.events import Event

if TYPE_CHECKING:
    from eventbus.bus import EventBus
    from eventbus.delivery.causality import Call
    from eventbus.delivery.drain import Drain
    from eventbus.delivery.router import Router

__all__ = ["Subscription"]

_logger = logging.getLogger("eventbus")


class Subscription:
    """A subscriber's handle on a bus, made by `EventBus.subscribe`.

    Attributes:
        name: Its name in statistics, logs and `SubscriberFailed`; unique on its bus.
        bus: The bus it is on.
        state: What it is doing.
        subscriber: What its events are delivered to.
        mailbox: Its queue.
        key: With `Overflow.COALESCE`: queued events for which it returns equal keys are replaced.
        is_stream: Whether a stream's reader empties the mailbox, and not a worker.
        wake: Wakes its worker or reader, from anywhere.
        failed: How many handler calls raised.
        call: The call of its subscriber that is running.
        waits: What this call waits for: functions that return subscriptions; see `waiting`.
        drains: The drains that wait for it, each with the number of events that are done with by then.
        needs_attention: Whether the worker has to check for drains, a close, or failures to forget.
        failure_log: Where its failures are logged.
    """

    def __init__(
        self,
        bus: EventBus,
        router: Router,
        *,
        name: str,
        mailbox: Mailbox,
        subscriber: Subscriber[Any] | None,
        key: Callable[[Any], Hashable] | None,
    ) -> None:
        self._router = router
        self.name: str = name
        self.bus: EventBus = bus
        self.mailbox: Mailbox = mailbox
        self.key: Callable[[Any], Hashable] | None = key
        self.failure_log: RateLimitedLog = RateLimitedLog(_logger, f"subscriber {name!r}:")
        self.subscriber: Subscriber[Any] = Subscriber() if subscriber is None else subscriber
        self.is_stream: bool = subscriber is None
        self._begin()

    def _begin(self) -> None:
        self.state: SubscriptionState = "running" if self.is_stream else "waiting"
        self.wake: Callable[[], None] = _wake_nothing
        self.failed: int = 0
        self.call: Call | None = None
        self.waits: list[Callable[[], Iterable[Subscription]]] = []
        self.needs_attention: bool = False
        self.drains: list[tuple[int, Drain]] = []

    def __repr__(self) -> str:
        return f"<Subscription {self.name!r} {self.state}, {len(self.mailbox)} queued>"

    def __enter__(self) -> Self:
        """Return the subscription itself."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unsubscribe."""
        self.unsubscribe()

    def unsubscribe(self) -> None:
        """End the subscription; once this has returned, no further event is taken for its handler.

        A call that has started runs to its end. In the bus's own thread the call for an event that was
        taken already may still begin. Queued events are lost. From anywhere, any number of
        times.
        """
        self._router.end(self)

    def statistics(self) -> SubscriptionStatistics:
        """Return its current statistics, also after it has ended."""
        return self._router.read(self.snapshot)

    def snapshot(self) -> SubscriptionStatistics:
        """Return its statistics; only inside `Router.read`."""
        mailbox = self.mailbox
        queued = len(mailbox)  # read once: the consumer may take without the critical section
        return SubscriptionStatistics(
            name=self.name,
            state=self.state,
            accepted=mailbox.accepted,
            delivered=mailbox.accepted - mailbox.lost - queued,
            lost=mailbox.lost,
            queued=queued,
            high_water=mailbox.high_water,
            failed=self.failed,
            lag=mailbox.lag(),
        )

    def key_of(self, event: Event) -> Hashable:
        """Return the key of an event; a new one if the key function fails."""
        try:
            key = copy_context().run(self.key, event) if self.key is not None else object()
            hash(key)
            reject_unrun(key)
        except BaseException as error:  # publishing must not fail because of a subscriber
            if exit_in(error) is not None:
                raise
            cause, what = type(error).__name__, f"could not get the key of a {type(event).__name__}"
            self.failure_log.warn(f"key {cause}", what, error)
            return object()
        return key

    # Its state.

    def has_ended(self) -> bool:
        """Whether nothing more is delivered."""
        return self.state not in ("waiting", "running")

    def was_cut_short(self) -> bool:
        """Whether it ended at the deadline of a close, possibly during a handler call."""
        return self.state == "cancelled" and not self.mailbox.closed

    def end(self, state: SubscriptionState) -> None:
        """Deliver nothing more, for the reason that `state` gives; the first reason counts."""
        if not self.has_ended():
            self.state = state

    def notice_closing(self) -> None:
        """Have the worker notice soon that the bus is closing."""
        self.needs_attention = True
        self.wake()

    def note_unsubscribed(self) -> None:
        """Have the worker notice that the mailbox has been closed."""
        self.end("ended")
        self.wake()
        if self.wake is _wake_nothing:
            self.notify_drains()

    def reset_after_fork(self, section: CriticalSection) -> None:
        """Begin again with an empty mailbox and no statistics."""
        old = self.mailbox
        contents: Any = old.contents
        contents.clear()  # a copy of the parent's worker may go on; `close` might wait for the parent's lock
        self.mailbox = new_mailbox(section, old.capacity, old.overflow, reports_losses=old.reports_losses)
        self._begin()

    # Drains.

    def is_at_rest(self) -> bool:
        """Whether every event in its mailbox has been handled, and its worker sleeps."""
        # In this order: the worker sets `on_ready` when it has handled what it took before.
        return not self.mailbox.contents and self.mailbox.on_ready is not None

    def add_drain(self, drain: Drain) -> None:
        """Notify a drain, once, when every event accepted so far has been handled or lost."""
        self.drains.append((self.mailbox.accepted, drain))
        self.needs_attention = True
        self.wake()
        if self.has_ended():
            self.notify_drains()

    def remove_drain(self, drain: Drain) -> None:
        """Undo `add_drain`; does nothing if the drain has been notified."""
        for each in tuple(self.drains):
            if each[1] is drain:
                with suppress(ValueError):  # notified just now
                    self.drains.remove(each)  # in place: another thread may be adding one

    def has_drain(self, drain: Drain) -> bool:
        """Whether a drain still has to be notified."""
        return any(each is drain for _, each in tuple(self.drains))

    def notify_drains(self) -> None:
        """Notify the drains whose events are done with; never during a handler call."""
        if self.drains:
            ended = self.has_ended()
            done = self.mailbox.accepted - len(self.mailbox)
            for each in tuple(self.drains):
                target, drain = each
                if ended or done >= target:
                    try:
                        self.drains.remove(each)
                    except ValueError:
                        continue  # another thread has just notified it
                    drain.note_handled()

    def events_until_drained(self, limit: int) -> int:
        """Notify drains, and return after how many events the next is to be notified, from 1 to `limit`."""
        if not self.drains:
            return limit
        self.notify_drains()
        done = self.mailbox.accepted - len(self.mailbox)
        left = min((target - done for target, _ in tuple(self.drains)), default=limit)
        return max(1, min(left, limit))


def _wake_nothing() -> None:
    """Stand in until a worker or reader sets `wake`."""
