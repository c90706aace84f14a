"""One subscription: a mailbox, and the task that empties it.

The rules:

- Events are handed to the handler one at a time (or one batch at a time), in order, in one task.
- What the handler raises is counted and reported, and the next event is delivered. After ten
  failures in a row the subscription is quarantined: ended, and said so.
- `KeyboardInterrupt`, `SystemExit` and the like end the subscription, and the bus carries them out,
  once, when the others have drained. Cancellation is never swallowed.
- The handler runs in no publisher's context: it sees no session scope, and what it publishes is
  one step deeper in the chain of events caused by events.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from itertools import repeat
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import anyio
import anyio.lowlevel

from eventbus.contracts import Subscriber
from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.doorbell import Doorbell, Sleeper, is_cancellation, new_sleeper
from eventbus.delivery.handlers import awaited, call
from eventbus.delivery.mailbox import Envelope, Mailbox, event_of, new_mailbox
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.delivery.statistics import SubscriptionState, SubscriptionStatistics
from eventbus.errors import WouldDeadlockError
from eventbus.events import Event, EventsLost, SubscriberFailed
from eventbus.session import leave_all_scopes

if TYPE_CHECKING:
    from eventbus.bus import EventBus
    from eventbus.delivery.drain import Drain

__all__ = ["FAILURES_BEFORE_QUARANTINE", "Subscription", "check_not_handling", "depth_here", "handling"]

FAILURES_BEFORE_QUARANTINE = 10
"""After this many handler calls in a row that raised, a subscription is quarantined."""

EVENTS_PER_TURN = 256
"""After this many events a task gives the loop's other tasks a turn, even if no handler waits."""

MAX_CHAIN_DEPTH = 64
"""An event published by a handler is one deeper than the one handled; deeper ones are rejected."""

STOP_GRACE_SECONDS = 0.05
"""How long a subscriber may take to stop once the deadline of the close has passed."""

_logger = logging.getLogger("eventbus")

_Handle: TypeAlias = Callable[[Any], Awaitable[object]]

depth_here: ContextVar[int] = ContextVar("eventbus_depth", default=0)
"""The depth of what this context publishes: 0 outside handlers, 1 in the handler of such an event."""

handling: ContextVar[Subscription | None] = ContextVar("eventbus_handling", default=None)
"""Whose handler this code was called from, directly or through the tasks it started."""


class Subscription:
    """A subscriber's handle on a bus, made by `EventBus.subscribe`.

    Attributes:
        name: What statistics, logs and `SubscriberFailed` call it; unique on its bus.
        bus: The bus it is on.
        state: What it is doing.
        mailbox: Its queue.
        key: What says which events replace each other, with `Overflow.COALESCE`.
        is_stream: Whether its reader empties it, and no task of the host's.
        wake: Have its task look around, from anywhere.
    """

    def __init__(
        self,
        bus: EventBus,
        name: str,
        mailbox: Mailbox,
        subscriber: Subscriber[Any] | None,
        key: Callable[[Any], Hashable] | None,
    ) -> None:
        self.name: str = name
        self.bus: EventBus = bus
        self.mailbox: Mailbox = mailbox
        self.key: Callable[[Any], Hashable] | None = key
        self.failure_log: RateLimitedLog = RateLimitedLog(_logger, f"subscriber {name!r}:")
        self._subscriber = subscriber or Subscriber()
        self.is_stream: bool = subscriber is None
        self._begin_new()

    def _begin_new(self) -> None:
        self.state: SubscriptionState = "running" if self.is_stream else "waiting"
        self.wake: Callable[[], None] = _nobody_to_wake
        self._failed = 0
        self._failures_in_row = 0
        self._drains: list[tuple[int, Drain]] = []  # who waits for how many events to be done with
        self._needs_attention = False  # failures to forget, or a drain to tell

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
        """End the subscription; once this has returned, no further handler call starts.

        A call that is under way runs to its end. What is still queued is lost. From anywhere, any
        number of times.
        """
        self.bus._remove(self)

    def statistics(self) -> SubscriptionStatistics:
        """Return its books as they stand now, also after it has ended."""
        return self.bus._inside(Subscription._distribute_and_read, self)

    def _distribute_and_read(self) -> SubscriptionStatistics:
        self.bus._distribute()
        return self.read_books()

    def read_books(self) -> SubscriptionStatistics:
        """Return its books; only in the bus's critical section, with nothing pending."""
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
            failed=self._failed,
            lag=mailbox.lag(),
        )

    def key_of(self, event: Event) -> Hashable:
        """Return what says which event this one replaces; a key of its own when that cannot be had."""
        try:
            key = self.key(event) if self.key is not None else object()
            hash(key)
        except Exception as error:  # noqa: BLE001 - a publisher is never broken by who observes it
            what = f"could not get the key of a {type(event).__name__}"
            self.failure_log.warn(f"key {_name(error)}", what, error)
            return object()
        return key

    def look_around(self) -> None:
        """Notice, soon, that the bus is closing."""
        self._needs_attention = True
        self.wake()

    def note_unsubscribed(self) -> None:
        """Look around: the mailbox has been closed."""
        if self.state in ("waiting", "running"):
            self.state = "ended"
        self.wake()
        if self.wake is _nobody_to_wake:
            self._tell_drains()

    def was_cut_short(self) -> bool:
        """Whether the deadline of a close ended it, possibly amid a handler call."""
        return self.state == "cancelled" and not self.mailbox.closed

    def become_new(self, section: CriticalSection) -> None:
        """Begin anew in a forked child: nothing queued, nothing counted."""
        old = self.mailbox
        self.mailbox = new_mailbox(section, old.capacity, old.overflow, tells_losses=old.tells_losses)
        self._begin_new()

    # Delivery: what the host runs, in one task.

    async def _deliver(self, doorbell: Doorbell, scope: anyio.CancelScope) -> None:
        """Start the subscriber, hand it its events until no more will come, stop it.

        Args:
            doorbell: That of the host's loop.
            scope: The host's, cancelled at the deadline of the close.
        """
        if self.state != "waiting":
            return  # unsubscribed before the bus was entered
        leave_all_scopes()
        handling.set(self)
        depth_here.set(1)
        sleeper = new_sleeper()
        self.wake = partial(doorbell.ring_for, sleeper)
        self.state = "running"
        try:
            await call(self._subscriber.start, self.bus)
            await self._deliver_until_closed(sleeper)
            self._end("ended")
        except BaseException as error:  # it harms nobody else
            self._end_for(error, scope)
            if is_cancellation(error) and scope.cancel_called:
                raise
        finally:
            self._tell_drains()
            await self._stop(scope)

    async def _deliver_until_closed(self, sleeper: Sleeper) -> None:
        mailbox = self.mailbox
        subscriber = self._subscriber
        if subscriber.handles_batches:
            deliver = partial(self._deliver_batches, awaited(subscriber.handle_batch))
        else:
            deliver = partial(self._deliver_singly, awaited(subscriber.handle))
        while self.state == "running":
            await deliver()
            if self._drains:
                self._tell_drains()
            is_last_look = mailbox.closed or self.bus._is_sealed  # before the look: nothing is put after
            # Set before looking once more: whoever puts after the look calls it.
            mailbox.alarm = self.wake
            if mailbox.contents:
                mailbox.alarm = None  # not at rest
                continue
            if is_last_look:
                return
            await sleeper.sleep()

    async def _deliver_singly(self, handle: _Handle) -> None:  # noqa: C901 - a call for each event would cost a fifth of it
        """Hand over event by event until none is queued. The hot loop: every step in it counts."""
        mailbox = self.mailbox
        depth = 0
        while mailbox.contents:
            self._needs_attention = self._failures_in_row > 0  # for all else, look now
            for _ in repeat(None, self._next_check()):
                try:
                    event: Any = mailbox.take()
                except IndexError:
                    break  # all taken, or unsubscribed meanwhile
                if type(event) is Envelope:
                    depth = event.depth
                    depth_here.set(depth + 1)
                    event = event.event
                elif depth:
                    depth = 0
                    depth_here.set(1)
                try:
                    await handle(event)
                except Exception as error:  # noqa: BLE001
                    self._fail(error, [event])
                else:
                    if self._needs_attention:
                        self._needs_attention = False
                        self._failures_in_row = 0
                        break
            if mailbox.contents:
                await self._give_others_a_turn()
        if depth:
            depth_here.set(1)

    async def _deliver_batches(self, handle_batch: _Handle) -> None:
        """Hand over batch by batch until nothing is queued."""
        mailbox = self.mailbox
        while mailbox.contents:
            batch = mailbox.take_batch(self._subscriber.max_batch)
            if not batch:
                break  # unsubscribed meanwhile
            events = cast("list[Event]", batch)
            depth = 0
            if Envelope in set(map(type, batch)):
                events = list(map(event_of, batch))
                depth = max(each.depth for each in batch if type(each) is Envelope)
            depth_here.set(depth + 1)
            try:
                await handle_batch(events)
            except Exception as error:  # noqa: BLE001
                self._fail(error, events)
            else:
                self._failures_in_row = 0
            self._tell_drains()
            await self._give_others_a_turn()

    async def _give_others_a_turn(self) -> None:
        await anyio.lowlevel.checkpoint()
        # The deadline of a close cancels this task at a checkpoint. A handler that never suspends
        # may keep the loop from noticing in time that it has passed.
        while self.bus._is_closed and not self.bus._seconds_left():
            await anyio.lowlevel.checkpoint()

    async def _stop(self, scope: anyio.CancelScope) -> None:
        # Past the deadline of a close everything is being cancelled: then it has this much left.
        late = scope.cancel_called
        try:
            with anyio.move_on_after(STOP_GRACE_SECONDS if late else None, shield=late):
                await call(self._subscriber.stop)
        except BaseException as error:  # it harms nobody else
            self._end_for(error, scope)
            if is_cancellation(error) and scope.cancel_called:
                raise

    # Failure.

    def _fail(self, error: Exception, events: Sequence[Event]) -> None:
        self._failed += 1
        self._failures_in_row += 1
        self._needs_attention = True
        quarantined = self._failures_in_row >= FAILURES_BEFORE_QUARANTINE
        name = _name(error)
        self.failure_log.warn(name, f"failed to handle a {type(events[-1]).__name__}: {name}", error)
        if quarantined:
            self._end("quarantined")
            times = f"it failed {self._failures_in_row} times in a row"
            self.failure_log.warn("quarantine", f"is quarantined: {times}")
        if quarantined or not all(isinstance(event, EventsLost | SubscriberFailed) for event in events):
            self._publish_failure(name, events[-1].session_id, quarantined=quarantined)
        if quarantined:
            self._tell_drains()  # only now: who drains hears of the quarantine, too

    def _end_for(self, error: BaseException, scope: anyio.CancelScope) -> None:
        """End for what came out of the subscriber, or of the host's cancelling it."""
        if is_cancellation(error):
            self._end("cancelled")
            if scope.cancel_called:
                return
            # Otherwise it came by way of asyncio's own Task.cancel, or the handler raised it. It was
            # meant for this task alone, which ends here: passed on, it would end the host's others.
        else:
            self._end("failed")
        self._failed += 1
        name = _name(error)
        self.failure_log.warn(name, f"is ended: {name}", error)
        self._publish_failure(name, None, quarantined=False)
        if not isinstance(error, Exception) and not is_cancellation(error):
            self.bus._carry_out(error)

    def _publish_failure(self, name: str, session_id: str | None, *, quarantined: bool) -> None:
        failure = SubscriberFailed(
            session_id=session_id, subscriber=self.name, error_type=name, quarantined=quarantined
        )
        # At the end of a chain too: what it leads to is cut one step on.
        token = depth_here.set(min(depth_here.get(), MAX_CHAIN_DEPTH))
        self.bus.publish(failure)
        depth_here.reset(token)

    def _end(self, state: SubscriptionState) -> None:
        if self.state in ("waiting", "running"):
            self.state = state
        if not self.bus._is_closed or state != "cancelled":
            self.bus._retire(self)  # else what is left is reported as undelivered

    # Drains.

    def _next_check(self) -> int:
        """Tell the drains that are done; return after how many events to look again."""
        if self.bus._is_closed:
            self._tell_drains()
            return 1  # no handler call may start after the deadline
        if not self._drains:
            return EVENTS_PER_TURN
        self._tell_drains()
        done = self.mailbox.accepted - len(self.mailbox)
        left = min((target - done for target, _ in tuple(self._drains)), default=EVENTS_PER_TURN)
        return max(1, min(left, EVENTS_PER_TURN))

    def is_at_rest(self) -> bool:
        """Whether all that was put into its mailbox has been handled, and its task sleeps."""
        # In this order: the task sets the alarm when it has handled what it took out before.
        return not self.mailbox.contents and self.mailbox.alarm is not None

    def tell_when_handled(self, drain: Drain) -> None:
        """Have a drain told, once, when every event accepted so far has been handled or lost."""
        self._drains.append((self.mailbox.accepted, drain))
        self._needs_attention = True
        self.wake()
        if self.state not in ("waiting", "running"):
            self._tell_drains()

    def forget_drain(self, drain: Drain) -> None:
        """Tell a drain nothing more: nobody waits."""
        for each in tuple(self._drains):
            if each[1] is drain:
                with suppress(ValueError):  # told just now
                    self._drains.remove(each)  # in place: another thread may be adding one

    def _tell_drains(self) -> None:
        """Notify whose events are done with. Never while a handler call is under way."""
        ended = self.state not in ("waiting", "running")
        done = self.mailbox.accepted - len(self.mailbox)
        for each in tuple(self._drains):
            target, drain = each
            if ended or done >= target:
                try:
                    self._drains.remove(each)
                except ValueError:
                    continue  # told by another thread just now
                drain.note_handled()


def check_not_handling(bus: object, what: str) -> None:
    """Check that the calling code is not a handler of the bus's, which would wait for itself.

    Raises:
        WouldDeadlockError: It is.
    """
    subscription = handling.get()
    if subscription is not None and subscription.bus is bus:
        raise WouldDeadlockError(
            f"a handler of {subscription.name!r} cannot wait for {what}: that waits for the handler. "
            "Do it from another task, or publish an event that asks for it"
        )


def _nobody_to_wake() -> None:
    """Stand in until the subscription's task runs."""


def _name(error: BaseException) -> str:
    return type(error).__name__
