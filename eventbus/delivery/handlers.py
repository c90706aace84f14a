"""Turn the handlers given to `EventBus.subscribe` into subscribers.

A handler is a function of one event, sync or async: a plain function, a bound method, a partial, an
object with `__call__`. The annotation of its first parameter may give the events it wants.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeAlias, cast

from eventbus.contracts import EventTypes, Overflow, Subscriber
from eventbus.delivery.callables import (
    check_callable,
    function_of,
    is_async,
    name_of,
    reject_unrun,
    signature_of,
    without_partials,
)
from eventbus.errors import SubscriberError
from eventbus.event_classes import events_of_annotation
from eventbus.events import Event
from eventbus.events.type_hints import resolved

__all__ = [
    "Handler",
    "annotated_events",
    "as_subscriber",
    "call_maybe_async",
    "check_not_its_own",
    "check_options",
    "check_subscriber",
    "ensure_async",
]

Handler: TypeAlias = "Callable[[Any], Awaitable[object] | object]"
"""A function of one event; its result is awaited if it is awaitable, and otherwise ignored."""


class _FunctionSubscriber(Subscriber[Any]):
    """A handler as a subscriber."""

    def __init__(self, handler: Handler, events: EventTypes | None) -> None:
        check_callable(handler, "the handler")
        self.handle = ensure_async(handler)  # type: ignore[method-assign,assignment]
        self.name = name_of(handler)
        self.events = annotated_events(handler) if events is None else events


def as_subscriber(
    handler: Handler | Subscriber[Any] | object, events: EventTypes | None = None
) -> Subscriber[Any]:
    """Return a subscriber as it is, and a handler as a subscriber; SubscriberError for anything else.

    Args:
        handler: The subscriber or handler.
        events: The events of a handler; by default those in the annotation of its parameter.
    """
    if isinstance(handler, Subscriber):
        check_subscriber(handler)
        return handler
    if isinstance(handler, type):
        hint = (
            f"Pass an instance: {handler.__name__}()"
            if issubclass(handler, Subscriber)
            else "Pass a function"
        )
        raise SubscriberError(f"{handler.__name__} is a class, not a subscriber. {hint}")
    if not callable(handler):
        raise SubscriberError(
            f"{type(handler).__name__} is neither callable nor a Subscriber. "
            "Pass a function of one event, or an instance of a Subscriber subclass"
        )
    return _FunctionSubscriber(handler, events)


def check_not_its_own(handler: object, bus: object) -> None:
    """Raise `SubscriberError` if a handler publishes each event of a bus on that bus again, for ever."""
    handler = without_partials(handler)
    is_publish = getattr(handler, "__name__", None) in ("publish", "publish_wait")
    if is_publish and getattr(handler, "__self__", None) is bus:
        raise SubscriberError("a bus cannot be subscribed to itself: each event would be published again")


def ensure_async(handler: Handler) -> Callable[[Any], Awaitable[object]]:
    """Return a handler as an async function; an async handler is returned as it is."""
    if is_async(handler):
        return cast("Callable[[Any], Awaitable[object]]", handler)

    async def handle(event: Any) -> None:
        result = handler(event)
        if result is not None:  # most return None, which is cheap to test
            if inspect.isawaitable(result):
                await result
            else:
                reject_unrun(result)

    return handle


async def call_maybe_async(function: Callable[..., object], *arguments: object) -> None:
    """Call a function, and await its result if that is awaitable."""
    result = function(*arguments)
    if inspect.isawaitable(result):
        await result


def annotated_events(handler: Handler) -> EventTypes:
    """Return the events in the annotation of a handler's first parameter; `Event` without one.

    Raises:
        SubscriberError: The annotation is neither an event class nor a union of them.
    """
    signature = signature_of(handler)
    first = next(iter(signature.parameters.values()), None) if signature else None
    if first is None or first.annotation in (inspect.Parameter.empty, None):
        return Event
    owner = function_of(inspect.unwrap(function_of(handler)))
    try:
        annotation = resolved(first.annotation, owner)
    except Exception as error:
        raise SubscriberError(
            f"the annotation {first.annotation!r} of {name_of(handler)} cannot be resolved ({error}). "
            "Pass the event type when subscribing: subscribe(handler, NodeEvent)"
        ) from error
    return events_of_annotation(annotation)


def check_subscriber(subscriber: Subscriber[Any]) -> None:
    """Raise `SubscriberError` if the methods of a subscriber can never work, or its `max_batch` is wrong."""
    _check_count("max_batch", subscriber.max_batch, 1, "hands over nothing")
    kind = type(subscriber)
    name = "handle_batch" if kind.handles_batches else "handle"
    if getattr(subscriber.handle, "__func__", None) is Subscriber.handle and not kind.handles_batches:
        raise SubscriberError(
            f"{kind.__name__} overrides neither handle nor handle_batch. Define one of them"
        )
    for method, arguments in ((name, 1), ("start", 1), ("stop", 0)):
        bound = getattr(subscriber, method)
        if getattr(bound, "__func__", None) is not getattr(Subscriber, method):  # most do not override both
            check_callable(bound, f"{kind.__name__}'s method", arguments=arguments)


def check_options(
    capacity: int, overflow: Overflow, key: Callable[[Any], Hashable] | None, replay: int = 0
) -> None:
    """Raise `SubscriberError` if the options of a subscription are wrong, or contradict each other."""
    _check_count("capacity", capacity, 1, "holds nothing")
    _check_count("replay", replay, 0, "is not a number of events")
    if not isinstance(overflow, Overflow):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SubscriberError(
            f"overflow={overflow!r} is not an Overflow. Pass one of {', '.join(map(str, Overflow))}"
        )
    if overflow is Overflow.COALESCE and key is None:
        raise SubscriberError(
            "Overflow.COALESCE needs key=, a function of an event: queued events with equal keys are replaced"
        )
    if key is not None:
        check_callable(key, "the key", may_wait=False)
    if key is not None and overflow is not Overflow.COALESCE:
        raise SubscriberError("key= is used with overflow=Overflow.COALESCE only. Pass both or neither")


def _check_count(name: str, value: object, least: int, problem: str) -> None:
    if type(value) is not int or value < least:  # True is no count
        raise SubscriberError(f"{name}={value!r} {problem}. Pass an integer of {least} or more")
