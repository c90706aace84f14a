"""Make subscriptions from handlers, subscribers and the options given for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from eventbus.contracts import DEFAULT_CAPACITY, EventTypes, Overflow, Subscriber
from eventbus.delivery.callables import name_of
from eventbus.delivery.coalescing_mailbox import new_mailbox
from eventbus.delivery.handlers import Handler, as_subscriber, check_not_its_own, check_options
from eventbus.delivery.router import Router
from eventbus.delivery.subscription import Subscription
from eventbus.errors import SubscriberError
from eventbus.event_classes import event_classes
from eventbus.events import EventsLost

if TYPE_CHECKING:
    from eventbus.bus import EventBus

__all__ = ["SubscriptionFactory", "SubscriptionOptions"]


class SubscriptionOptions(TypedDict, total=False):
    """The options of a subscription; by default those of the `Subscriber`.

    Attributes:
        name: Its name in statistics and logs; a number is added to make it unique.
        capacity: How many events its mailbox holds, 1 or more.
        overflow: Which events are lost when the mailbox is full.
        key: With `Overflow.COALESCE`: of the queued events with equal keys only the latest is kept.
            Called in the publisher's thread.
        replay: Begin with up to this many of the last matching events of the bus's history, without
            a gap or a duplicate between them and new events.
    """

    name: str | None
    capacity: int
    overflow: Overflow
    key: Callable[[Any], Hashable] | None
    replay: int


class SubscriptionFactory:
    """Makes the subscriptions of one bus.

    Args:
        bus: The bus.
        router: Its router.
        on_attached: Called with each subscription that needs a worker.
    """

    __slots__ = ("_bus", "_on_attached", "_router")

    def __init__(self, bus: EventBus, router: Router, on_attached: Callable[[Subscription], None]) -> None:
        self._bus = bus
        self._router = router
        self._on_attached = on_attached

    def subscribe(
        self,
        handler: Handler | Subscriber[Any],
        events: EventTypes | None,
        **options: Unpack[SubscriptionOptions],
    ) -> Subscription:
        """Subscribe a handler or subscriber; options that are not given are the subscriber's own."""
        check_not_its_own(handler, self._bus)
        subscriber = as_subscriber(handler, events)
        key = options.get("key")
        own: SubscriptionOptions = {"capacity": subscriber.capacity, "overflow": subscriber.overflow}
        named: SubscriptionOptions = {
            "name": options.get("name") or subscriber.name or name_of(subscriber),
            "key": subscriber.key if key is None else key,
        }
        given: SubscriptionOptions = {**own, **options, **named}
        subscription = self._attach(subscriber, subscriber.events if events is None else events, **given)
        try:
            self._on_attached(subscription)
        except BaseException:
            self._router.end(subscription)
            raise
        return subscription

    def open_stream(self, events: EventTypes, **options: Unpack[SubscriptionOptions]) -> Subscription:
        """Subscribe a stream."""
        return self._attach(None, events, **options)

    def _attach(
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
        check_options(capacity, overflow, key, replay)
        if not isinstance(name, str | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SubscriberError(f"name={name!r} is not a text. Pass a str")
        reports_losses = any(issubclass(EventsLost, each) for each in classes)
        mailbox = new_mailbox(self._router.section, capacity, overflow, reports_losses=reports_losses)
        subscription = Subscription(
            self._bus, self._router, name=name or "stream", mailbox=mailbox, subscriber=subscriber, key=key
        )
        try:
            self._router.attach(subscription, classes, replay)
        except BaseException:
            self._router.end(subscription)  # an exception may have struck half-way
            raise
        return subscription
