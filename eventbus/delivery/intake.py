"""The publisher's side: accept an event, or reject it.

An accepted event is appended to the pending events. Then a doorbell is rung, or the publisher
distributes them itself; see `router`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial

from eventbus.contracts import Overflow
from eventbus.delivery.callables import reject_unrun
from eventbus.delivery.causality import MAX_CHAIN_DEPTH, depth_here, handling, is_handling
from eventbus.delivery.doorbell import Waiter
from eventbus.delivery.entries import Entry, Envelope, event_of
from eventbus.delivery.isolation import exit_in
from eventbus.delivery.mailbox import Mailbox
from eventbus.delivery.router import Router
from eventbus.delivery.routing_table import PublishPlan
from eventbus.delivery.subscription import Subscription
from eventbus.delivery.waiting import waiting_for
from eventbus.delivery.wake_ups import MAX_PENDING, WakeUps
from eventbus.errors import WouldDeadlockError
from eventbus.events import Event

__all__ = ["Intake"]


class Intake:
    """Accepts events from any thread.

    Args:
        bus: The bus, whose handlers may publish while it drains.
        router: The bus's router.
    """

    __slots__ = ("_bus", "_router")

    def __init__(self, bus: object, router: Router) -> None:
        self._bus = bus
        self._router = router

    def publish(self, event: Event) -> bool:
        """Accept an event of any class, from anywhere; `EventBus.publish` has a short cut for most."""
        router = self._router
        plans = router.table.plans
        plan = self._plan_for(event)
        entry = self._prepared(event, plan)
        if entry is None:
            return False
        router.pending.append(entry)
        if plan.has_subscribers:
            is_enough = len(router.pending) <= router.wake_ups.ring_threshold
            accepted = is_enough or self.ring_or_distribute(entry)
        else:
            accepted = self.keep_unwanted(entry, plans)
        if accepted and plan.taps:
            self._call_taps(event)
        return accepted

    def keep_unwanted(self, entry: Entry, plans: dict[type, PublishPlan]) -> bool:
        """Return whether a pending entry is accepted that had no subscriber according to `plans`.

        No doorbell is rung for it, unless it has got a subscriber since then.
        """
        router = self._router
        if router.table.plans is not plans:
            return self.ring_or_distribute(entry)
        if len(router.pending) > MAX_PENDING:
            router.distribute()
        return True

    def ring_or_distribute(self, entry: Entry) -> bool:
        """Have a pending entry distributed; return whether it is accepted: the bus may have closed."""
        try:
            return self._ring_or_distribute(entry)
        except BaseException:
            self._router.take_up()
            raise

    def _ring_or_distribute(self, entry: Entry) -> bool:
        router = self._router
        if router.is_orphaned:
            self._warn_of_orphan()
        if router.is_closed:
            if self._accepts_from_here():
                router.distribute()
            return not router.run_inside(self._withdraw, entry)
        if len(router.pending) > MAX_PENDING:
            router.distribute()
        wake_ups = router.wake_ups
        doorbells = wake_ups.doorbells
        if len(doorbells) == 1:
            router.section.run(WakeUps.expect_look, wake_ups)
            doorbells[0].ring()
            if wake_ups.doorbells is doorbells:
                return True
        router.section.run(WakeUps.expect_no_look, wake_ups)
        router.distribute()
        return True

    async def publish_wait(self, event: Event) -> bool:
        """Accept an event once there is room for it; see `EventBus.publish_wait`."""
        # The first attempt needs no waiter, which costs more than a publish.
        waiter: Waiter | None = None
        waited_for: tuple[Mailbox, ...] = ()
        while True:
            full = self._publish_or_wait(event, waiter)
            for mailbox in waited_for:
                if full and mailbox not in full:
                    mailbox.offer_room()  # it had room for this event, which must wait for another
            if full is None:
                return False
            if not full:
                self._call_taps(event)
                return True
            if waiter is not None:
                await self._wait_for_room(waiter, event, full)
            waiter, waited_for = Waiter(), full

    def _publish_or_wait(self, event: Event, waiter: Waiter | None) -> tuple[Mailbox, ...] | None:
        entry = self._prepared(event, self._plan_for(event))
        if entry is None:
            return None
        return self._router.run_inside(partial(self._publish_if_room, entry), waiter)

    async def _wait_for_room(self, waiter: Waiter, event: Event, full: tuple[Mailbox, ...]) -> None:
        def still_full() -> list[Subscription]:
            wanting = self._router.table.route_of(type(event))
            return [each for each in wanting if each.mailbox in full and each.mailbox.is_full()]

        try:
            with waiting_for(still_full, "room in a full mailbox"):
                await waiter.wait()
        except BaseException:
            self._router.run_inside(partial(_leave_waiting_rooms, full), waiter.notify)
            for mailbox in full:
                mailbox.offer_room()  # the place may have been offered to this task
            raise
        self._router.run_inside(partial(_leave_waiting_rooms, full), waiter.notify)

    def _plan_for(self, event: Event) -> PublishPlan:
        cls: type = type(event)  # not __class__, which may lie
        plan = self._router.table.plans.get(cls)
        if plan is not None:
            return plan
        if not issubclass(cls, Event):
            self._router.run_inside(Intake._count_rejected, self)
            raise TypeError(f"only events can be published, not {cls.__name__}. Subclass eventbus.Event")
        return self._router.table.new_plan(cls)

    def _prepared(self, event: Event, plan: PublishPlan) -> Entry | None:
        """Return what to append to the pending events; None when the event is rejected."""
        depth = depth_here()
        if not self._accepts_from_here():
            self._router.run_inside(Intake._count_rejected, self)
            return None
        if depth > MAX_CHAIN_DEPTH:
            self._router.run_inside(Intake._count_rejected, self)
            self._warn_of_cut_chain(event)
            return None
        if not depth and not plan.keyed:
            return event
        # Keys are computed here, in the publisher's thread: no user code runs in the section.
        return Envelope(event, depth, {each: each.key_of(event) for each in plan.keyed})

    def _accepts_from_here(self) -> bool:
        """Whether an event is accepted from the calling code: from handlers during a drain, too."""
        return not self._router.is_closed or (not self._router.queue.is_sealed and is_handling(self._bus))

    def _warn_of_cut_chain(self, event: Event) -> None:
        cause = handling()
        handler = "a handler" if cause is None else f"the handler of {cause.name!r}"
        self._router.failure_log.warn(
            f"chain {handler}",
            f"a chain of {MAX_CHAIN_DEPTH} events, each published while handling the one before, is cut: "
            f"{handler} published a {type(event).__name__}",
        )

    def _warn_of_orphan(self) -> None:
        router = self._router
        router.is_orphaned = False
        router.section.run(WakeUps.expect_no_look, router.wake_ups)
        if not router.is_closed:
            router.failure_log.warn(
                "orphaned",
                "it ran in the process that this one was forked from, and runs nowhere here: events are "
                "queued, and delivered when it is entered. Enter it in each child",
            )

    def _call_taps(self, event: Event) -> None:
        for signal in self._plan_for(event).taps:
            if not signal.receivers:
                continue
            # One by one: blinker's send would skip the others at the first exception.
            for receiver in tuple(signal.receivers_for(event)):
                try:
                    reject_unrun(copy_context().run(receiver, event))  # it cannot change the publisher's
                except BaseException as error:
                    if exit_in(error) is not None:
                        raise
                    cause = f"tap {type(error).__name__}"
                    self._router.failure_log.warn(cause, f"a tap failed: {type(error).__name__}", error)

    def _count_rejected(self) -> None:
        self._router.rejected += 1

    def _withdraw(self, entry: Entry) -> bool:
        """Take back an entry that was appended while the bus closed; False if it was distributed."""
        is_withdrawn = self._router.queue.withdraw(entry)
        self._router.rejected += is_withdrawn
        return is_withdrawn

    def _publish_if_room(self, entry: Entry, waiter: Waiter | None) -> tuple[Mailbox, ...] | None:
        """Publish if no mailbox is full; otherwise wait in the full ones, and return them.

        Returns None if the bus has been closed. Inside the critical section.
        """
        router = self._router
        if not self._accepts_from_here():
            router.rejected += 1
            return None
        router.queue.distribute()
        wanting = router.table.route_of(type(event_of(entry)))
        full = [each for each in wanting if each.mailbox.overflow is Overflow.WAIT and each.mailbox.is_full()]
        if not full:
            router.pending.append(entry)
            router.queue.distribute()
            return ()
        me = handling()
        if me is not None and me in full:
            raise WouldDeadlockError(
                f"the handler of {me.name!r} cannot wait for room in its own mailbox. "
                "Use publish, or a larger capacity"
            )
        mailboxes = tuple(each.mailbox for each in full)
        if waiter is not None:
            try:
                for mailbox in mailboxes:
                    mailbox.wait_for_room(waiter.notify)
            except BaseException:
                _leave_waiting_rooms(mailboxes, waiter.notify)
                raise
        return mailboxes


def _leave_waiting_rooms(mailboxes: tuple[Mailbox, ...], notify: Callable[[], None]) -> None:
    for mailbox in mailboxes:
        mailbox.waiting_room.remove(notify)
