"""EventBus: the front door, and how one subscribes.

How an event gets from its publisher into mailboxes is in `router`, how it gets from a mailbox to
its handler in `subscription`, where that runs in `host`, and how it ends in `lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from types import UnionType
from typing import Any, TypedDict, TypeVar, Unpack, overload

import blinker

from eventbus.contracts import DEFAULT_CAPACITY, EventT, EventTypes, Overflow, Subscriber
from eventbus.delivery.decorator_types import Subscribing
from eventbus.delivery.handlers import as_subscriber, check_options, event_classes, name_of
from eventbus.delivery.lifecycle import Lifecycle
from eventbus.delivery.mailbox import new_mailbox
from eventbus.delivery.stream import EventStream
from eventbus.delivery.subscription import Subscription
from eventbus.delivery.switch_interval import SWITCH_INTERVAL_SECONDS
from eventbus.errors import BusStateError, SubscriberError
from eventbus.events import Event, EventsLost

__all__ = ["EventBus", "SubscriptionOptions"]

_EventT1 = TypeVar("_EventT1", bound=Event)
_EventT2 = TypeVar("_EventT2", bound=Event)
_EventT3 = TypeVar("_EventT3", bound=Event)
_HandlerT = TypeVar("_HandlerT", bound=Callable[..., object])


class SubscriptionOptions(TypedDict, total=False):
    """What may be said of a subscription; see `EventBus.subscribe`."""

    name: str | None
    capacity: int
    overflow: Overflow
    key: Callable[[Any], Hashable] | None
    replay: int


class EventBus(Lifecycle):
    """An in-process publish/subscribe bus that never blocks its publishers.

        with EventBus([MySubscriber()]) as bus:        # subscribers on the bus's own thread and loop
            bus.publish(NodeCompleted(workflow_id="ci", node_id="tests"))

        async with EventBus([MySubscriber()]) as bus:  # subscribers in the caller's loop
            ...

    Leaving the block closes the bus: what was published is delivered first.

    Args:
        subscribers: Handlers and `Subscriber` instances to subscribe from the start.
        name: What logs and its thread call it.
        history: How many of the last accepted events are kept for `replay`; 0 for none.
        switch_interval: How many seconds a thread may keep the interpreter while events wait for a
            loop of another thread: `sys.setswitchinterval`, put back as soon as they wait no more.
            None leaves it alone; then a publisher that computes and makes short system calls can
            delay such events by a second.

    Attributes:
        id: 12 hexadecimal digits of its own; ``(bus id, number)`` names an event.
        name: Its name.
        report: What its close delivered and what it did not; None until it has closed.

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
        if history < 0:
            raise ValueError(f"history={history} keeps less than nothing. Pass 0 to turn it off")
        if switch_interval is not None and not switch_interval > 0:
            raise ValueError(f"switch_interval={switch_interval} is no time. Pass None to turn it off")
        super().__init__(name or "eventbus", history, switch_interval)
        for subscriber in subscribers:
            self.subscribe(subscriber)

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "running" if self._is_running else "not entered"
        return f"<EventBus {self.name!r} {self.id} {state}, {len(self._subscriptions)} subscriptions>"

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
        self,
        handler: Subscriber[Any] | Callable[[Any], object],
        events: EventTypes | None = None,
        *,
        name: str | None = None,
        capacity: int | None = None,
        overflow: Overflow | None = None,
        key: Callable[[Any], Hashable] | None = None,
        replay: int = 0,
    ) -> Subscription:
        """Have a handler or subscriber get the events it wants; effective on return.

        What is not said is what the `Subscriber` says, and for a function the defaults. From any
        thread, before or after the bus was entered.

        Args:
            handler: A function of one event, sync or async, or a `Subscriber`.
            events: An event class, or a union of them; subclasses are included. By default what the
                subscriber says, or the annotation of the function's parameter, or `Event`.
            name: What statistics and logs call it; a number is added to make it unique.
            capacity: How many events its mailbox holds, 1 or more.
            overflow: What is sacrificed when the mailbox is full.
            key: With `Overflow.COALESCE`: of the queued events with equal keys only the latest is
                kept. Called in the publisher's thread.
            replay: Begin with up to this many of the last matching events of the bus's history,
                without a gap or a duplicate between them and what comes.

        Returns:
            The handle that ends it.

        Raises:
            SubscriberError: The handler, its events or its options make no sense.
            BusStateError: The bus is closed.
        """
        subscriber = as_subscriber(handler)
        return self._subscribe(
            subscriber,
            subscriber.events if events is None else events,
            name=name or subscriber.name or name_of(subscriber),
            capacity=subscriber.capacity if capacity is None else capacity,
            overflow=subscriber.overflow if overflow is None else overflow,
            key=subscriber.key if key is None else key,
            replay=replay,
        )

    def _subscribe(
        self,
        subscriber: Subscriber[Any] | None,
        events: EventTypes,
        *,
        name: str | None = None,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = Overflow.DROP_OLDEST,
        key: Callable[[Any], Hashable] | None = None,
        replay: int = 0,
    ) -> Subscription:
        classes = event_classes(events)
        check_options(capacity, overflow, key)
        if replay < 0:
            raise SubscriberError(f"replay={replay} is less than nothing. Pass 0 or more")
        tells_losses = any(issubclass(EventsLost, each) for each in classes)
        mailbox = new_mailbox(self._section, capacity, overflow, tells_losses=tells_losses)
        subscription = Subscription(self, name or "stream", mailbox, subscriber, key)
        keys: dict[int, Hashable] = {}
        while unknown := self._inside(partial(self._list, subscription, classes, replay), keys):
            # Worked out here, outside the critical section: a key function is user code.
            keys.update((seq, subscription.key_of(event)) for seq, event in unknown)
        if self._host is not None and subscriber is not None:
            self._host.adopt(subscription)
        return subscription

    def _list(
        self,
        subscription: Subscription,
        classes: tuple[type[Event], ...],
        replay: int,
        keys: dict[int, Hashable],
    ) -> list[tuple[int, Event]]:
        if self._is_closed:
            raise BusStateError(
                "this bus is closed: nothing will be published on it. Subscribe before the close"
            )
        unknown = self._admit(subscription, classes, replay, keys)
        if not unknown:
            name, number = subscription.name, 2
            while subscription.name in self._subscriptions:
                subscription.name = f"{name}-{number}"
                number += 1
            self._subscriptions[subscription.name] = subscription
        return unknown

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
            async def tell(event: NodeCompleted) -> None: ...

            @bus.on
            def tell_too(event: NodeCompleted | SkillCompleted) -> None: ...

        Args:
            events: As for `subscribe`; by default the annotation of the function's parameter.
            **options: As for `subscribe`.
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

        Args:
            events: An event class, or a union of them; subclasses are included.
            **options: As for `subscribe`; the capacity is what it holds for its reader.

        Raises:
            SubscriberError: The events or options make no sense; on opening it.
            BusStateError: The bus is closed; on opening it.
        """
        return EventStream(self, partial(self._subscribe, None, events, **options))

    def tap(self, event_type: type[Event]) -> blinker.Signal:
        """Return the blinker signal of an event class, whose receivers run in the publisher's thread.

            bus.tap(NodeCompleted).connect(print, weak=False)

        Receivers are called with the event, at once, in no defined order; those of a base class too.
        Each is guarded on its own: what it raises is logged and goes no further. They slow the
        publisher down by whatever they do: prefer `subscribe`.

        Args:
            event_type: One event class.

        Raises:
            SubscriberError: It is something else.
        """
        classes = event_classes(event_type)
        if len(classes) != 1:
            raise SubscriberError("a tap is on one event class. Tap each class of the union, or their base")
        return self._inside(self._tap_inside, classes[0])
