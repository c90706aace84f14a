"""Read events with ``async for``, in any loop, whichever host the bus has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Generic, Self, cast

import anyio

from eventbus.contracts import EventT
from eventbus.delivery.doorbell import Doorbell
from eventbus.delivery.entries import event_of
from eventbus.delivery.router import Router
from eventbus.delivery.running_loop import Sleeper, current_loop, new_sleeper
from eventbus.delivery.statistics import SubscriptionStatistics
from eventbus.delivery.subscription import Subscription
from eventbus.delivery.turn import EVENTS_PER_LOOK, Turn
from eventbus.errors import StreamStateError

__all__ = ["EventStream"]


class EventStream(Generic[EventT]):
    """A subscription that its reader empties, made by `EventBus.stream`.

    It is subscribed from entering its ``async with`` block to leaving it. When the bus closes, the
    queued events can still be read; then the stream ends. One task reads it at a time.
    """

    def __init__(self, router: Router, open_subscription: Callable[[], Subscription]) -> None:
        self._router = router
        self._open_subscription = open_subscription
        self._subscription: Subscription | None = None
        self._settled: tuple[object, Doorbell, Sleeper] | None = None  # in the loop it is read in
        self._is_being_read = False
        self._turn = Turn()
        self._until_look = EVENTS_PER_LOOK

    async def __aenter__(self) -> Self:
        """Subscribe."""
        self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unsubscribe; queued events are lost."""
        self.close()

    def __aiter__(self) -> Self:
        """Iterate over the events as they come."""
        return self

    async def __anext__(self) -> EventT:
        """Return the next event; stop when the bus has closed and nothing is queued."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def open(self) -> None:
        """Subscribe, as entering the ``async with`` block does; does nothing if it is open."""
        if self._subscription is None:
            self._subscription = self._open_subscription()

    def close(self) -> None:
        """Unsubscribe, as leaving the block does; queued events are lost. Any number of times."""
        if self._subscription is not None:
            self._subscription.unsubscribe()
        self._unsettle()

    def statistics(self) -> SubscriptionStatistics:
        """Return the statistics of its subscription.

        Raises:
            StreamStateError: It has not been opened.
        """
        return self._opened().statistics()

    def receive_nowait(self) -> EventT:
        """Return the next event if one is queued.

        Raises:
            anyio.WouldBlock: No event is queued.
            anyio.EndOfStream: No event is queued, and none will come: the bus or the stream is closed.
            StreamStateError: The stream has not been opened.
        """
        mailbox = self._opened().mailbox
        is_last_look = mailbox.closed or self._router.queue.is_sealed  # read first: nothing is put afterwards
        if not mailbox.contents:
            self._router.distribute()
        try:
            return cast("EventT", event_of(mailbox.take()))
        except IndexError:
            if is_last_look:
                raise anyio.EndOfStream from None
            raise anyio.WouldBlock from None

    async def receive(self) -> EventT:
        """Return the next event, waiting for it if none is queued.

        If it is cancelled while it waits, no event is lost.

        Raises:
            anyio.EndOfStream: No event is queued, and none will come: the bus or the stream is closed.
            StreamStateError: The stream has not been opened, or another task is reading it.
        """
        self._until_look -= 1
        if not self._until_look:  # a reader of a full mailbox must not keep the loop to itself
            self._until_look = EVENTS_PER_LOOK
            if self._turn.is_over():
                await self._turn.give_way()
        while True:
            try:
                return self.receive_nowait()
            except anyio.WouldBlock:
                await self._wait_for_mail()

    async def wait_for(self, predicate: Callable[[EventT], bool], timeout: float | None = None) -> EventT:
        """Return the next event for which a predicate is true, waiting for it.

            async with bus.stream(NodeCompleted) as events:
                failed = await events.wait_for(lambda event: not event.success, timeout=30)

        The events before it are consumed: they come no more, neither here nor from `receive`.
        Cancelled while it waits, it has consumed only events that the predicate rejected. If the
        predicate raises, its event is consumed, and the exception is passed on.

        Args:
            predicate: A quick function of an event that is not async.
            timeout: The most seconds to wait; None for no limit.

        Raises:
            TimeoutError: No such event came in time.
            anyio.EndOfStream: The bus or the stream was closed before.
            StreamStateError: As for `receive`.
        """
        rejected = 0
        with anyio.move_on_after(timeout):
            while True:
                event = await self.receive()
                if predicate(event):
                    return event
                rejected += 1
        name = getattr(predicate, "__qualname__", None) or repr(predicate)
        raise TimeoutError(
            f"no event for which {name} is true came within {timeout:g} s; it was false for {rejected} others"
        )

    async def _wait_for_mail(self) -> None:
        if self._is_being_read:
            raise StreamStateError("another task is reading this stream. Open one stream for each reader")
        doorbell, sleeper = self._settled_here()
        subscription = self._opened()
        mailbox = subscription.mailbox
        self._is_being_read = True
        try:
            # Set before looking again: it is called when an event is put, or the bus closes, after the look.
            mailbox.on_ready = subscription.wake = partial(doorbell.wake, sleeper)
            self._router.distribute()
            if not (mailbox.contents or mailbox.closed or self._router.queue.is_sealed):
                await sleeper.sleep()
                self._turn.begin()
        finally:
            self._is_being_read = False

    def _settled_here(self) -> tuple[Doorbell, Sleeper]:
        """Return what wakes a reader in the running loop, which may differ from the last one."""
        loop = current_loop()
        if self._settled is None or self._settled[0] is not loop:
            self._unsettle()
            self._settled = (loop, self._router.share_doorbell(), new_sleeper())
        return self._settled[1], self._settled[2]

    def _unsettle(self) -> None:
        if self._settled is not None:
            self._router.return_doorbell(self._settled[1])
            self._settled = None

    def _opened(self) -> Subscription:
        if self._subscription is None:
            raise StreamStateError(
                "this stream is not open. Read it inside `async with bus.stream(...) as events:`"
            )
        return self._subscription
