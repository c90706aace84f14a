"""Which subscriptions and taps an event of a class goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import blinker

from eventbus.events import Event

if TYPE_CHECKING:
    from eventbus.delivery.subscription import Subscription

__all__ = ["DIRECT", "NO_SUBSCRIBER", "PublishPlan", "Route", "RoutingTable"]

Route: TypeAlias = "tuple[Subscription, ...]"
"""The subscriptions that an event goes to."""


class PublishPlan:
    """What publishing an event of one class takes.

    Attributes:
        has_subscribers: Whether a subscription wants the class.
        taps: The signals to send.
        keyed: The subscriptions whose keys are computed when publishing.
    """

    __slots__ = ("has_subscribers", "keyed", "taps")

    def __init__(
        self,
        *,
        has_subscribers: bool,
        taps: tuple[blinker.Signal, ...] = (),
        keyed: Route = (),
    ) -> None:
        self.has_subscribers = has_subscribers
        self.taps = taps
        self.keyed = keyed


DIRECT = PublishPlan(has_subscribers=True)
"""The plan of most classes: append the event, and that is all."""

NO_SUBSCRIBER = PublishPlan(has_subscribers=False)
"""The plan of a class that no subscription and no tap wants."""


class RoutingTable:
    """Maps event classes to subscriptions and taps.

    Changed in the critical section only; `plans` and `new_plan` are used by publishers outside it.

    Attributes:
        plans: The plan for each class published since the last change. Replaced at each change, not
            cleared: a publisher may be about to store a plan that the change has made wrong.
        routes: The route of each class that `route_of` was asked for since the last change.
    """

    __slots__ = ("_classes", "_is_closed", "_taps", "_wanted", "plans", "routes")

    def __init__(self) -> None:
        self._wanted: dict[type[Event], dict[Subscription, None]] = {}  # a dict: an ordered set
        self._classes: dict[Subscription, tuple[type[Event], ...]] = {}
        self._taps: dict[type[Event], blinker.Signal] = {}
        self.routes: dict[type, Route] = {}
        self.reopen()

    def reopen(self) -> None:
        """Store plans again, after `close`."""
        self._is_closed = False
        self._forget_routes()

    def close(self) -> None:
        """Store no more plans, so that each publisher has to ask for one."""
        self._is_closed = True
        self._forget_routes()

    def attach(self, subscription: Subscription, classes: tuple[type[Event], ...]) -> None:
        """Route these classes and their subclasses to a subscription."""
        self._classes[subscription] = classes  # first: an attach that is interrupted must be undone
        for cls in classes:
            self._wanted.setdefault(cls, {})[subscription] = None
        self._forget_routes()

    def detach(self, subscription: Subscription) -> None:
        """Route nothing more to a subscription; repeated, if it was interrupted."""
        for cls in self._classes.get(subscription, ()):
            wanting = self._wanted.get(cls, {})
            wanting.pop(subscription, None)
            if not wanting:
                self._wanted.pop(cls, None)
        self._forget_routes()
        self._classes.pop(subscription, None)

    def tap(self, cls: type[Event]) -> blinker.Signal:
        """Return the signal of a class, which is published to from now on."""
        signal = self._taps.setdefault(cls, blinker.Signal())
        self._forget_routes()
        return signal

    def new_plan(self, cls: type[Event]) -> PublishPlan:
        """Work out how to publish an event of a class, and store the plan."""
        plans = self.plans  # read first: the plan must not be stored after a change
        wanting = self._wanting(cls)
        taps = tuple(self._taps[base] for base in cls.__mro__ if base in self._taps)
        keyed = tuple(each for each in wanting if each.key is not None)
        if taps or keyed:
            plan = PublishPlan(has_subscribers=bool(wanting), taps=taps, keyed=keyed)
        else:
            plan = DIRECT if wanting else NO_SUBSCRIBER
        if not self._is_closed:
            plans[cls] = plan
        return plan

    def route_of(self, cls: type) -> Route:
        """Return the subscriptions that want a class."""
        route = self.routes.get(cls)
        if route is None:
            route = self.routes[cls] = self._wanting(cls)
        return route

    def _wanting(self, cls: type) -> Route:
        # Copying is atomic: a publisher may ask while a subscription comes or goes.
        found = (each for base in cls.__mro__ for each in list(self._wanted.get(base, ())))
        return tuple(dict.fromkeys(found))

    def _forget_routes(self) -> None:
        self.routes.clear()
        self.plans: dict[type, PublishPlan] = {}
