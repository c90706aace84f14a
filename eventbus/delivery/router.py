"""The parts that bring an event from its publisher to the mailboxes that want it, and their one lock.

Publishing (`intake`) appends to one queue, which is one atomic step and needs no lock. Pending events
are numbered and put into mailboxes in batches (`event_queue`), by the first of these:

- the loop that consumes: publishing into an idle bus rings its doorbell, and until it has looked,
  further publishes just append;
- a publisher, when more than `MAX_PENDING` events are pending: they must not pile up;
- a publisher, each time, while consumers sleep in several loops: one of those may be blocked for
  seconds, and the others' events must not wait for it;
- a caller that asks for statistics, subscribes, unsubscribes, drains or closes: it finds all events
  that were published before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.doorbell import Doorbell
from eventbus.delivery.entries import event_of
from eventbus.delivery.event_queue import EventQueue
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.delivery.routing_table import RoutingTable
from eventbus.delivery.running_loop import current_loop
from eventbus.delivery.statistics import BusStatistics
from eventbus.delivery.wake_ups import WakeUps
from eventbus.errors import BusStateError, SubscriberError
from eventbus.event_classes import event_classes
from eventbus.events import Event

if TYPE_CHECKING:
    import blinker

    from eventbus.delivery.subscription import Subscription

__all__ = ["Router"]

_logger = logging.getLogger("eventbus")

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class Router:
    """Puts pending events into the mailboxes of the subscriptions they match.

    Args:
        history: How many of the last accepted events are kept for `replay`.
        switch_interval: The interpreter's switch interval, in seconds, while events wait for a loop
            of another thread; None leaves it alone.

    Attributes:
        is_closed: Whether intake has stopped, except from handlers.
        is_orphaned: Whether this is a forked child, whose parent ran the bus, and nobody has published yet.
        rejected: How many events were rejected.
        subscriptions: The current subscriptions, by name.
        failure_log: Where the bus's own failures are logged.
        section: The critical section for all changes of the parts, except appending to `pending`.
        table: Which subscriptions an event goes to.
        wake_ups: The doorbells, and the consumers to be woken.
        queue: The events.
        pending: The queue's pending events.
    """

    __slots__ = (
        "_history",
        "_numbers",
        "_switch_interval",
        "failure_log",
        "is_closed",
        "is_orphaned",
        "pending",
        "queue",
        "rejected",
        "section",
        "subscriptions",
        "table",
        "wake_ups",
    )

    def __init__(self, history: int, switch_interval: float | None) -> None:
        if history < 0:
            raise ValueError(f"history={history} is negative. Pass 0 to keep no events")
        self._history = history
        self._switch_interval = switch_interval
        self.failure_log: RateLimitedLog = RateLimitedLog(_logger, "the bus:")
        self.subscriptions: dict[str, Subscription] = {}
        self._numbers: dict[str, int] = {}  # by name: the last that made it unique, never looked for again
        self.table: RoutingTable = RoutingTable()
        self._begin()

    def _begin(self) -> None:
        self.is_closed: bool = False
        self.is_orphaned: bool = False
        self.rejected: int = 0
        self.section: CriticalSection = CriticalSection(self.distribute)
        self.wake_ups: WakeUps = WakeUps(self._on_ring, self._switch_interval)
        self.queue: EventQueue = EventQueue(self.table, self.wake_ups, self._history)
        self.pending = self.queue.pending  # here, too: `EventBus.publish` is shorter by a look-up

    def reset_after_fork(self, *, was_running: bool) -> None:
        """Drop all events and statistics, and accept events again."""
        self._begin()
        self.is_orphaned = was_running
        self.wake_ups.ring_threshold = 0 if was_running else self.wake_ups.ring_threshold
        self.table.reopen()
        for subscription in self.subscriptions.values():
            subscription.reset_after_fork(self.section)

    # Distributing.

    def distribute(self) -> bool:
        """Put pending events into mailboxes and wake their consumers; return whether there were any."""
        try:
            distributed = self.section.run_unless_inside(self.queue.distribute)
            self.wake_ups.wake_scheduled()
        except BaseException:
            self.wake_ups.wake_scheduled()
            raise
        return bool(distributed)

    def take_up(self) -> None:
        """Take up what an exception has interrupted: nothing expects a look, and nothing is pending."""
        self.section.run(WakeUps.expect_no_look, self.wake_ups)
        self.distribute()

    def run_inside(self, work: Callable[[_Given], _Result], given: _Given) -> _Result:
        """Return ``work(given)``, done in the critical section, and wake the consumers it scheduled."""
        try:
            result = self.section.run(work, given)
            self.wake_ups.wake_scheduled()
        except BaseException:
            self.wake_ups.wake_scheduled()
            raise
        return result

    def read(self, read: Callable[[], _Result]) -> _Result:
        """Return ``read()``, done in the critical section with nothing pending."""
        return self.run_inside(self._read_inside, read)

    def _read_inside(self, read: Callable[[], _Result]) -> _Result:
        self.queue.distribute()
        return read()

    def statistics(self) -> BusStatistics:
        """Return the statistics; only inside `read`."""
        return BusStatistics(
            accepted=self.queue.accepted,
            rejected=self.rejected,
            subscriptions={name: each.snapshot() for name, each in self.subscriptions.items()},
        )

    def handled_subscriptions(self) -> list[Subscription]:
        """Return the subscriptions that have handlers; the others are streams."""
        return [each for each in tuple(self.subscriptions.values()) if not each.is_stream]

    def share_doorbell(self) -> Doorbell:
        """Return the doorbell of the running loop, until it is returned."""
        return self.run_inside(self.wake_ups.share_doorbell, current_loop())

    def return_doorbell(self, doorbell: Doorbell) -> None:
        """Return a doorbell that is not needed any more."""
        self.run_inside(self.wake_ups.return_doorbell, doorbell)

    def _on_ring(self, doorbell: Doorbell) -> bool:
        """Distribute, in the doorbell's loop; return whether to look again on the loop's next turn."""
        wake_ups = self.wake_ups
        is_busy = self.distribute() or self.run_inside(WakeUps.is_backlog_changing, wake_ups)
        if wake_ups.doorbells == (doorbell,):  # events are coming: publishers are spared the ring
            if doorbell.linger(has_found=is_busy):
                return False
            if is_busy:
                return True
        self.section.run(WakeUps.expect_no_look, wake_ups)
        if self.pending:  # appended just before: its publisher saw no need to ring
            for each in wake_ups.doorbells:
                each.ring()
        return False

    # Stopping.

    def stop_intake(self) -> None:
        """Reject further events, except from handlers; distribute the accepted ones."""
        self.run_inside(Router._stop_intake_inside, self)

    def seal(self) -> None:
        """Reject further events from handlers, too; distribute the accepted ones."""
        self.run_inside(Router._seal_inside, self)

    def _stop_intake_inside(self) -> None:
        self.wake_ups.close()
        self.table.close()
        self.is_closed = True  # last: publishers ask only when the others have sent them
        self.queue.distribute()

    def _seal_inside(self) -> None:
        self._stop_intake_inside()
        self.queue.is_sealed = True

    # Subscriptions and taps.

    def attach(self, subscription: Subscription, classes: tuple[type[Event], ...], replay: int) -> None:
        """Make a subscription effective, beginning with up to `replay` earlier events."""
        keys: dict[int, Hashable] = {}
        while unknown := self.run_inside(partial(self._attach_inside, subscription, classes, replay), keys):
            # Computed here, outside the critical section: a key function is user code.
            keys.update((seq, subscription.key_of(event)) for seq, event in unknown)

    def detach(self, subscription: Subscription) -> None:
        """Put nothing more into a subscription's mailbox, and lose its queued events."""
        self.run_inside(self._detach_inside, subscription)
        subscription.mailbox.waiting_room.notify_all()

    def end(self, subscription: Subscription) -> None:
        """Detach a subscription and forget it."""
        # In this order, and each time: a call before this one may have been interrupted.
        self.detach(subscription)
        subscription.note_unsubscribed()
        self.run_inside(self._forget, subscription)

    def tap(self, event_type: type[Event]) -> blinker.Signal:
        """Return the signal of an event class; see `EventBus.tap`."""
        classes = event_classes(event_type)
        if len(classes) != 1:
            raise SubscriberError("a tap is on one event class. Tap each class of the union, or their base")
        return self.run_inside(self.table.tap, classes[0])

    def _attach_inside(
        self,
        subscription: Subscription,
        classes: tuple[type[Event], ...],
        replay: int,
        keys: dict[int, Hashable],
    ) -> list[tuple[int, Event]]:
        """Attach, or return the events to replay whose keys are not in `keys`, with their numbers."""
        if self.is_closed:
            raise BusStateError(
                "this bus is closed: no more events will be published on it. Subscribe before the close"
            )
        self.queue.distribute()
        replayed = self.queue.latest(classes, replay)
        if subscription.key is not None:
            unknown = [(seq, event_of(entry)) for seq, entry in replayed if seq not in keys]
            if unknown:
                return unknown
        for seq, entry in replayed:
            subscription.mailbox.put_keyed(seq, entry, keys.get(seq))
        self.table.attach(subscription, classes)
        self._name(subscription)
        return []

    def _name(self, subscription: Subscription) -> None:
        """List a subscription by its name, with a number added to make it unique."""
        name = subscription.name
        while subscription.name in self.subscriptions:
            self._numbers[name] = number = self._numbers.get(name, 1) + 1
            subscription.name = f"{name}-{number}"
        self.subscriptions[subscription.name] = subscription

    def _detach_inside(self, subscription: Subscription) -> None:
        self.queue.distribute()
        self.table.detach(subscription)
        subscription.mailbox.close()

    def _forget(self, subscription: Subscription) -> None:
        if self.subscriptions.get(subscription.name) is subscription:
            del self.subscriptions[subscription.name]
            self._numbers.pop(subscription.name, None)  # the name itself is free, and numbers begin again
