"""The task that delivers a subscription's events.

The rules:

- Events are handed to the handler one at a time (or one batch at a time), in order, in one task.
- An exception of the handler is counted and reported, and the next event is delivered. After ten
  failures in a row the subscription is quarantined: ended, with a warning and an event.
- `KeyboardInterrupt` and `SystemExit` end the subscription, and the bus raises them, once, when the
  others have drained. Cancellation is never swallowed. All else is a failure, also what is no `Exception`.
- The handler does not run in its publishers' context: it sees no session scope, and its events are
  one step deeper in the chain of events caused by events. Nor does it see what an earlier call set.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeAlias, cast

import anyio

from eventbus.delivery.alarm import move_on_after
from eventbus.delivery.causality import Call, call_here
from eventbus.delivery.deadline import Deadline
from eventbus.delivery.doorbell import Doorbell
from eventbus.delivery.entries import Entry, Envelope, event_of
from eventbus.delivery.failures import is_failure, is_only_cancellation, publish_failure
from eventbus.delivery.handlers import call_maybe_async, ensure_async
from eventbus.delivery.isolation import exit_in, has_changed_since, in_context
from eventbus.delivery.router import Router
from eventbus.delivery.running_loop import Sleeper, is_cancellation, new_sleeper
from eventbus.delivery.statistics import SubscriptionState
from eventbus.delivery.subscription import Subscription
from eventbus.delivery.turn import EVENTS_PER_LOOK, Turn
from eventbus.events import Event, EventsLost, SubscriberFailed
from eventbus.session import leave_all_scopes

__all__ = ["FAILURES_BEFORE_QUARANTINE", "Worker"]

FAILURES_BEFORE_QUARANTINE = 10
"""After this many handler calls in a row that raised, a subscription is quarantined."""

CALLS_TO_TELL_APART = 256
"""After this many handler calls in a row that have not suspended, the next share one `Call`: nothing that
an earlier one started in this loop can run during one of them, and a new one costs more than the rest
of a delivery."""

STOP_GRACE_SECONDS = 0.05
"""How long a subscriber may take to stop once the deadline of the close has passed."""

_Handle: TypeAlias = Callable[[Any], Awaitable[object]]


class Worker:
    """Hands a subscription's events to its subscriber.

    Args:
        subscription: The subscription.
        router: The router that fills its mailbox.
        deadline: When the close of the bus has to end.
        raise_on_close: Called with an exception of the subscriber that the close must raise.
    """

    __slots__ = (
        "_call_here",
        "_calls_to_tell_apart",
        "_context",
        "_deadline",
        "_failures_in_row",
        "_pid",
        "_raise_on_close",
        "_router",
        "_running",
        "_subscription",
        "_turn",
    )

    def __init__(
        self,
        subscription: Subscription,
        router: Router,
        deadline: Deadline,
        raise_on_close: Callable[[BaseException], None],
    ) -> None:
        self._subscription = subscription
        self._router = router
        self._deadline = deadline
        self._raise_on_close = raise_on_close
        self._pid = os.getpid()
        self._failures_in_row = 0
        self._calls_to_tell_apart = CALLS_TO_TELL_APART
        self._call_here: Call = (subscription, 0)  # of depth 0 when the next must not be taken for it
        self._running = self._context = copy_context()  # the one that calls run in, and what it was like
        self._turn = Turn()

    async def run(self, doorbell: Doorbell, scope: anyio.CancelScope) -> None:
        """Start the subscriber, hand it its events until no more will come, stop it.

        Args:
            doorbell: The doorbell of the host's loop.
            scope: The host's, cancelled at the deadline of the close.
        """
        subscription = self._subscription
        if subscription.state != "waiting" or self._is_forked():
            return  # unsubscribed before the bus was entered
        leave_all_scopes()
        sleeper = new_sleeper()
        subscription.wake = partial(doorbell.wake, sleeper)
        subscription.state = "running"
        try:
            await self._call(subscription.subscriber.start, subscription.bus)
            leave_all_scopes()  # `start` may have left one open
            self._turn.begin()
            await self._deliver_until_closed(sleeper)
            if not self._is_forked():
                self._end("ended")
        except BaseException as error:  # it harms no other subscription
            if not self._is_forked():
                self._end_for(error, scope)
            if is_cancellation(error) and scope.cancel_called:
                raise  # a group is not passed on: it may contain failures, too
        finally:
            if not self._is_forked():
                subscription.notify_drains()
                await self._stop(scope)

    def _is_forked(self) -> bool:
        """Whether this is the copy of a worker in a forked child, which must leave what is the parent's."""
        return self._pid != os.getpid()

    async def _deliver_until_closed(self, sleeper: Sleeper) -> None:
        clean = copy_context()  # as `start` left it
        is_spoilt = True
        while is_spoilt:
            # A call that changed a context variable has spoilt the context: the next gets a fresh one.
            self._call_here, self._context = (self._subscription, 0), clean
            self._running = running = clean.copy()
            delivering = self._deliver_until_spoilt(sleeper)
            is_spoilt = await in_context(running, delivering, self._note_suspended)

    async def _deliver_until_spoilt(self, sleeper: Sleeper) -> bool:
        """Deliver; return True when a call has spoilt the context, and False when no more will come."""
        subscription = self._subscription
        mailbox = subscription.mailbox
        deliver = self._delivery()
        while subscription.state == "running":
            if await deliver():
                return True
            if subscription.drains:
                subscription.notify_drains()
            # Read before the look: nothing is put afterwards.
            is_last_look = mailbox.closed or self._router.queue.is_sealed
            # Set before looking once more: it is called for an event that is put after the look.
            mailbox.on_ready = subscription.wake
            if mailbox.contents:
                mailbox.on_ready = None  # not at rest
                await self._yield_when_due()
                continue
            if is_last_look:
                break
            await sleeper.sleep()
            self._turn.begin()
        return False

    def _delivery(self) -> Callable[[], Coroutine[Any, Any, bool]]:
        subscriber = self._subscription.subscriber
        if subscriber.handles_batches:
            return partial(self._deliver_batches, ensure_async(subscriber.handle_batch))
        return partial(self._deliver_singly, ensure_async(subscriber.handle))

    async def _deliver_singly(self, handle: _Handle) -> bool:  # noqa: C901 - a call more would cost a delivery
        """Hand over event by event until none is queued, or a call has spoilt the context.

        The hot loop: every step in it counts.
        """
        subscription = self._subscription
        mailbox = subscription.mailbox
        running, router = self._running, self._router
        while mailbox.contents:
            subscription.needs_attention = self._failures_in_row > 0  # the rest is looked at here
            is_watched = subscription.drains or router.is_closed
            limit = self._events_until_check() if is_watched else EVENTS_PER_LOOK
            entries, are_plain = mailbox.entries(limit)
            shares_call = are_plain and not self._calls_to_tell_apart and self._call_here[1] == 1
            context = self._context
            event: Any = None
            failure: BaseException | None = None
            is_spoilt = False
            # It stays set between two calls: nothing else of this loop runs there.
            subscription.call = self._call_here
            try:
                for event in entries:
                    if not shares_call:
                        event, context = self._begin_call(event)  # noqa: PLW2901
                    try:
                        await handle(event)
                        if running != context:  # one pointer is compared, until something is set
                            is_spoilt = True
                            break
                        if subscription.needs_attention:
                            self._failures_in_row = 0
                            break
                    except BaseException as error:
                        if not is_failure(error):
                            raise
                        failure = error
                        break
            except IndexError:  # all taken, or just unsubscribed
                pass
            if failure is not None:
                is_spoilt = has_changed_since(context)
                self._fail(failure, [cast("Event", event)])
                failure = None  # it holds this frame
            subscription.call = None
            if is_spoilt or mailbox.contents:
                await self._yield_when_due()
            if is_spoilt:
                return True
        return False

    def _begin_call(self, entry: Entry) -> tuple[Event, Context]:
        """Give the call for an entry an identity of its own; return its event, and the context as it is."""
        depth = entry.depth + 1 if type(entry) is Envelope else 1
        self._call_here = self._subscription.call = call = (self._subscription, depth)
        call_here.set(call)
        self._context = context = copy_context()
        self._calls_to_tell_apart -= self._calls_to_tell_apart > 0
        return event_of(entry), context

    async def _deliver_batches(self, handle_batch: _Handle) -> bool:
        """Hand over batch by batch until nothing is queued, or a call has spoilt the context."""
        subscription = self._subscription
        mailbox = subscription.mailbox
        while mailbox.contents:
            await self._yield_when_due()  # also: no handler call may start after the deadline
            batch = mailbox.take_batch(subscription.subscriber.max_batch)
            if not batch:
                break  # just unsubscribed
            events = cast("list[Event]", batch)
            depth = 0
            if mailbox.had_envelopes:
                events = list(map(event_of, batch))
                depth = max((each.depth for each in batch if type(each) is Envelope), default=0)
            subscription.call = call = (subscription, depth + 1)
            call_here.set(call)
            context = copy_context()
            try:
                await handle_batch(events)
            except BaseException as error:
                if not is_failure(error):
                    raise
                self._fail(error, events)
            else:
                self._failures_in_row = 0
            subscription.call = None
            subscription.notify_drains()
            if has_changed_since(context):
                return True
        return False

    def _events_until_check(self) -> int:
        """Notify the drains that are done; return after how many events to check again."""
        limit = self._subscription.events_until_drained(EVENTS_PER_LOOK)
        if self._router.is_closed:  # no handler call may start after the deadline
            return 0 if self._deadline.has_passed() else 1
        return limit

    async def _yield_when_due(self) -> None:
        if self._turn.is_over():
            await self._turn.give_way()
        # The deadline of a close cancels this task at a checkpoint. A handler that never suspends
        # may keep the loop from noticing in time that it has passed.
        while self._deadline.has_passed():
            await self._turn.give_way()

    async def _stop(self, scope: anyio.CancelScope) -> None:
        is_late = scope.cancel_called  # then everything is being cancelled, and it has this long left
        try:
            with move_on_after(STOP_GRACE_SECONDS if is_late else None, shield=is_late):
                await self._call(self._subscription.subscriber.stop)
        except BaseException as error:  # it harms no other subscription
            self._end_for(error, scope)
            if is_cancellation(error) and scope.cancel_called:
                raise

    async def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call `start` or `stop`."""
        subscription = self._subscription
        subscription.call = call = (subscription, 1)
        call_here.set(call)
        try:
            await call_maybe_async(function, *arguments)
        finally:
            subscription.call = None

    def _note_suspended(self) -> None:
        if self._subscription.call is not None:  # otherwise the worker itself sleeps
            if not self._calls_to_tell_apart:
                self._subscription.needs_attention = True  # the rest of these events shall not share a call
            self._calls_to_tell_apart = CALLS_TO_TELL_APART

    # Failure.

    def _fail(self, error: BaseException, events: Sequence[Event]) -> None:
        subscription = self._subscription
        subscription.failed += 1
        subscription.needs_attention = True
        self._failures_in_row += 1
        is_quarantined = self._failures_in_row >= FAILURES_BEFORE_QUARANTINE
        name = type(error).__name__
        subscription.failure_log.warn(name, f"failed to handle a {type(events[-1]).__name__}: {name}", error)
        if is_quarantined:
            self._end("quarantined")
            times = f"it failed {self._failures_in_row} times in a row"
            subscription.failure_log.warn("quarantine", f"is quarantined: {times}")
        if is_quarantined or not all(isinstance(event, EventsLost | SubscriberFailed) for event in events):
            publish_failure(subscription, name, events[-1].session_id, quarantined=is_quarantined)
        if is_quarantined:
            subscription.notify_drains()  # only now: a drain waits for the event about the quarantine, too

    def _end_for(self, error: BaseException, scope: anyio.CancelScope) -> None:
        """End because of an exception of the subscriber, or because the host cancelled it."""
        if is_only_cancellation(error):
            self._end("cancelled")
            if scope.cancel_called:
                return
            # Otherwise asyncio's own Task.cancel was called, or the handler raised it. It was meant
            # for this task alone, which ends here: passed on, it would end the host's others.
        else:
            self._end("failed")
        subscription = self._subscription
        subscription.failed += 1
        name = type(error).__name__
        subscription.failure_log.warn(name, f"is ended: {name}", error)
        publish_failure(subscription, name, None, quarantined=False)
        exit_ = exit_in(error)
        if exit_ is not None:
            self._raise_on_close(exit_)

    def _end(self, state: SubscriptionState) -> None:
        self._subscription.end(state)
        if not self._router.is_closed or state != "cancelled":
            self._router.detach(self._subscription)  # otherwise queued events are reported as undelivered
