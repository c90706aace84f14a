"""EventBus, the front door; `delivery` does the work: start reading at its `router` and `worker`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import UnionType
from typing import Any, Self, TypeVar, Unpack, overload

import blinker

from eventbus.contracts import EventT, EventTypes, Subscriber
from eventbus.delivery.causality import call_here
from eventbus.delivery.decorator_types import Subscribing
from eventbus.delivery.intake import Intake
from eventbus.delivery.lifecycle import CLOSE_TIMEOUT_SECONDS, Lifecycle
from eventbus.delivery.router import Router
from eventbus.delivery.routing_table import DIRECT, NO_SUBSCRIBER
from eventbus.delivery.statistics import BusStatistics, DrainReport
from eventbus.delivery.stream import EventStream
from eventbus.delivery.subscription import Subscription
from eventbus.delivery.subscription_factory import SubscriptionFactory, SubscriptionOptions
from eventbus.delivery.switch_interval import SWITCH_INTERVAL_SECONDS
from eventbus.delivery.wake_ups import MAX_PENDING
from eventbus.events import Event

__all__ = ["EventBus", "SubscriptionOptions"]

_EventT1 = TypeVar("_EventT1", bound=Event)
_EventT2 = TypeVar("_EventT2", bound=Event)
_EventT3 = TypeVar("_EventT3", bound=Event)
_HandlerT = TypeVar("_HandlerT", bound=Callable[..., object])


class EventBus:
    """An in-process publish/subscribe bus that never blocks its publishers.

        with EventBus([MySubscriber()]) as bus:        # subscribers on the bus's own thread and loop
            bus.publish(NodeCompleted(workflow_id="ci", node_id="tests"))

        async with EventBus([MySubscriber()]) as bus:  # subscribers in the caller's loop
            ...

    Leaving the block closes the bus: published events are delivered first. Entering a bus a second
    time raises `BusStateError`.

    Args:
        subscribers: Handlers and `Subscriber` instances to subscribe from the start.
        name: Its name in logs, and its thread's.
        history: How many of the last accepted events are kept for `replay`; 0 for none.
        switch_interval: `sys.setswitchinterval`, in seconds, while events wait for a loop of another
            thread. With None it is left alone, and a publisher that computes and makes short system
            calls can delay such events by a second.

    Raises:
        SubscriberError: One of `subscribers` cannot be used as a subscriber.
        ValueError: `history` is negative, or `switch_interval` not positive.
    """

    def __init__(
        self,
        subscribers: Iterable[Subscriber[Any] | Callable[[Any], object]] = (),
        *,
        name: str | None = None,
        history: int = 1_024,
        switch_interval: float | None = SWITCH_INTERVAL_SECONDS,
    ) -> None:
        self.name: str = name or "eventbus"
        self._router = Router(history, switch_interval)
        self._intake = Intake(self, self._router)
        self._lifecycle = Lifecycle(self, self._router)
        self._subscriptions = SubscriptionFactory(self, self._router, self._lifecycle.add)
        for subscriber in subscribers:
            self.subscribe(subscriber)

    def __repr__(self) -> str:
        running = "running" if self._lifecycle.is_running else "not entered"
        state = "closed" if self._router.is_closed else running
        return f"<EventBus {self.name!r} {self.id} {state}, {len(self._router.subscriptions)} subscriptions>"

    @property
    def id(self) -> str:
        """Its id, 12 hexadecimal digits; ``(bus id, number)`` names an event."""
        return self._lifecycle.id

    @property
    def report(self) -> DrainReport | None:
        """What its close delivered and what it did not; None until it has closed."""
        return self._lifecycle.report

    def __enter__(self) -> Self:
        """Run the subscribers on a new thread with its own loop."""
        self._lifecycle.enter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the bus."""
        self._lifecycle.leave()
        self.close()

    async def __aenter__(self) -> Self:
        """Run the subscribers in the loop of the calling task."""
        await self._lifecycle.enter_here()
        return self

    async def __aexit__(self, *exc_info: object) -> bool | None:
        """Close the bus."""
        self._lifecycle.leave()
        try:
            await self.aclose()
        finally:
            is_ours = await self._lifecycle.end_block(exc_info[1])
        return is_ours  # a plain bool would tell type checkers that the body's exceptions are swallowed

    # Publishing.

    def publish(self, event: Event) -> bool:
        """Accept an event for every subscription that wants it. Never waits.

        From any thread, inside any loop or none, in a handler, a signal handler or a finalizer.
        Before the bus is entered, events are queued and delivered on entry.

        Returns:
            Whether it was accepted. False: the bus is closed, or the event is at the end of a chain
            of 64 events, each published while handling the one before.

        Raises:
            TypeError: `event` is not an `Event`.
        """
        # This belongs to `Intake.publish`, but a call more would cost 40 ns in 127. Rejected: the
        # intake's method as an attribute of the instance, which costs 28 ns, and hides the overrides
        # of subclasses.
        router = self._router
        plans = router.table.plans
        plan = plans.get(type(event))
        if plan is DIRECT:
            if call_here.get() is None:
                pending = router.pending
                pending.append(event)
                is_done = len(pending) <= router.wake_ups.ring_threshold
                return is_done or self._intake.ring_or_distribute(event)
        elif plan is NO_SUBSCRIBER and call_here.get() is None:
            pending = router.pending
            pending.append(event)
            is_done = router.table.plans is plans and len(pending) <= MAX_PENDING
            return is_done or self._intake.keep_unwanted(event, plans)
        return self._intake.publish(event)

    async def publish_wait(self, event: Event) -> bool:
        """Publish an event once there is room for it in every mailbox whose overflow is `WAIT`.

        Like `publish` otherwise. If it is cancelled while it waits, nothing is published.

        Raises:
            WouldDeadlockError: A handler would wait for room in its own mailbox.
        """
        return await self._intake.publish_wait(event)

    def tap(self, event_type: type[Event]) -> blinker.Signal:
        """Return the blinker signal of an event class, whose receivers run in the publisher's thread.

            bus.tap(NodeCompleted).connect(print, weak=False)

        Receivers are called with the event, at once, in no defined order; those of a base class too.
        An exception of one is logged, and affects nothing else. They slow the publisher: prefer `subscribe`.

        Raises:
            SubscriberError: `event_type` is not one event class.
        """
        return self._router.tap(event_type)

    # Subscribing.

    @overload
    def subscribe(
        self,
        handler: Subscriber[Any] | Callable[[EventT], object],
        events: None = None,
        /,
        **options: Unpack[SubscriptionOptions],
    ) -> Subscription: ...

    @overload
    def subscribe(
        self,
        handler: Callable[[EventT], object],
        events: type[EventT],
        /,
        **options: Unpack[SubscriptionOptions],
    ) -> Subscription: ...

    @overload
    def subscribe(
        self,
        handler: Subscriber[EventT],
        events: type[EventT],
        /,
        **options: Unpack[SubscriptionOptions],
    ) -> Subscription: ...

    @overload
    def subscribe(
        self,
        handler: Subscriber[Any] | Callable[[Any], object],
        events: UnionType | tuple[type[Event], ...],
        /,
        **options: Unpack[SubscriptionOptions],
    ) -> Subscription: ...

    def subscribe(
        self, handler: Subscriber[Any] | Callable[[Any], object], events: Any = None, **options: Any
    ) -> Subscription:
        """Deliver events to a handler or subscriber, and return the handle that ends it.

        Effective on return; from any thread, before or after the bus was entered.

        Args:
            handler: A function of one event, sync or async, or a `Subscriber`.
            events: An event class, or a union of them; subclasses are included. By default the
                subscriber's, or the annotation of the function's parameter, or `Event`.
            **options: See `SubscriptionOptions`.

        Raises:
            SubscriberError: The handler, its events or its options are wrong.
            BusStateError: The bus is closed.
        """
        return self._subscriptions.subscribe(handler, events, **options)

    @overload
    def on(self, events: type[EventT], /, **options: Unpack[SubscriptionOptions]) -> Subscribing[EventT]: ...

    @overload
    def on(
        self,
        events: UnionType | tuple[type[Event], ...] | None = None,
        /,
        **options: Unpack[SubscriptionOptions],
    ) -> Callable[[_HandlerT], _HandlerT]: ...

    @overload
    def on(self, handler: _HandlerT, /) -> _HandlerT: ...

    def on(self, events: Any = None, /, **options: Unpack[SubscriptionOptions]) -> Any:
        """Subscribe the decorated function, which is returned as it is.

            @bus.on(NodeCompleted)
            async def report(event: NodeCompleted) -> None: ...

            @bus.on
            def report_both(event: NodeCompleted | SkillCompleted) -> None: ...

        Events and options are those of `subscribe`.
        """
        if callable(events) and not isinstance(events, type | UnionType):
            self.subscribe(events)
            return events

        def decorate(handler: _HandlerT) -> _HandlerT:
            self.subscribe(handler, events, **options)
            return handler

        return decorate

    @overload
    def stream(
        self, events: type[EventT], /, **options: Unpack[SubscriptionOptions]
    ) -> EventStream[EventT]: ...

    @overload
    def stream(
        self, events: tuple[type[_EventT1], type[_EventT2]], /, **options: Unpack[SubscriptionOptions]
    ) -> EventStream[_EventT1 | _EventT2]: ...

    @overload
    def stream(
        self,
        events: tuple[type[_EventT1], type[_EventT2], type[_EventT3]],
        /,
        **options: Unpack[SubscriptionOptions],
    ) -> EventStream[_EventT1 | _EventT2 | _EventT3]: ...

    @overload
    def stream(
        self, events: UnionType | tuple[type[Event], ...], /, **options: Unpack[SubscriptionOptions]
    ) -> EventStream[Event]: ...

    @overload
    def stream(self, /, **options: Unpack[SubscriptionOptions]) -> EventStream[Event]: ...

    def stream(
        self, events: EventTypes = Event, /, **options: Unpack[SubscriptionOptions]
    ) -> EventStream[Any]:
        """Return a stream of events to read with ``async for``, in any loop.

            async with bus.stream(NodeEvent) as events:  # subscribed before the body runs
                async for event in events: ...

        Events and options are those of `subscribe`, and so are the errors, on opening it.
        """
        return EventStream(self._router, partial(self._subscriptions.open_stream, events, **options))

    # Statistics and closing.

    def statistics(self) -> BusStatistics:
        """Return the statistics of the bus and its subscriptions at this instant."""
        return self._router.read(self._router.statistics)

    async def drain(self, timeout: float | None = None) -> DrainReport:
        """Wait until every event accepted so far has been handled; the bus stays open.

        Streams are not waited for: their readers take the queued events in their own time.

        Args:
            timeout: The most seconds to wait; None for no limit.

        Returns:
            What was delivered. It is not complete when the deadline passed first, or when events are
            queued and the bus is not running.

        Raises:
            WouldDeadlockError: The calling code is a handler of this bus.
        """
        return await self._lifecycle.drain(timeout)

    def close(self, timeout: float | None = CLOSE_TIMEOUT_SECONDS) -> DrainReport:
        """Stop intake, deliver the queued events, stop the subscribers. From any thread.

        All subscriptions are drained in parallel. Closing again returns the same report. In a handler,
        and in the thread of the subscribers' loop, the close only begins, and the report shows the
        state at that moment.

        Args:
            timeout: The most seconds to drain for; None for no limit.

        Returns:
            What was delivered and what was not, at most 100 ms after the deadline.

        Raises:
            BaseException: An exception of a subscriber that is not an `Exception`, such as
                `KeyboardInterrupt`; once, after the others have drained.
        """
        return self._lifecycle.close(timeout)

    async def aclose(self, timeout: float | None = CLOSE_TIMEOUT_SECONDS) -> DrainReport:
        """Close from a task, of any loop; like `close` otherwise.

        Cancellation does not cut it short: it takes no longer than the deadline. asyncio's own
        `Task.cancel` is passed on afterwards.
        """
        return await self._lifecycle.aclose(timeout)
