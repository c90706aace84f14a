"""Make a `Subscriber` of whatever is handed to `EventBus.subscribe`.

A handler is a function of one event, sync or async: a plain function, a bound method, a partial, an
object with `__call__`. What it wants may be said by the annotation of its first parameter.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeAlias

from eventbus.contracts import EventTypes, Overflow, Subscriber
from eventbus.errors import SubscriberError
from eventbus.event_classes import event_classes
from eventbus.events import Event

__all__ = [
    "Handler",
    "as_subscriber",
    "awaited",
    "call",
    "check_options",
    "event_classes",
    "events_of",
    "name_of",
]

Handler: TypeAlias = "Callable[[Any], Awaitable[object] | object]"
"""A function of one event; what it returns is awaited if it can be, and otherwise ignored."""


class _FunctionSubscriber(Subscriber[Any]):
    """A handler as a subscriber."""

    def __init__(self, handler: Handler) -> None:
        self.handle = awaited(handler)  # type: ignore[method-assign,assignment]
        self.name = name_of(handler)
        self.events = events_of(handler)


def as_subscriber(handler: Handler | Subscriber[Any] | object) -> Subscriber[Any]:
    """Return a subscriber as it is, and a handler as a subscriber.

    Raises:
        SubscriberError: It is neither, or a class where an instance is meant.
    """
    if isinstance(handler, Subscriber):
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
    return _FunctionSubscriber(handler)


def awaited(handler: Handler) -> Callable[[Any], Awaitable[object]]:
    """Return a handler as an async function: itself if it is one."""
    if _is_async(handler):
        return typing.cast("Callable[[Any], Awaitable[object]]", handler)

    async def handle(event: Any) -> None:
        result = handler(event)
        if result is not None and inspect.isawaitable(result):  # most return None: a cheap test first
            await result

    return handle


async def call(function: Callable[..., object], *arguments: object) -> None:
    """Call a function, and await what it returns if that can be awaited."""
    result = function(*arguments)
    if inspect.isawaitable(result):
        await result


def name_of(subscriber: object) -> str:
    """Return what to call a subscriber that has not said it: its function's or class's name."""
    while isinstance(subscriber, functools.partial):
        subscriber = subscriber.func
    name = getattr(subscriber, "name", None) or getattr(subscriber, "__name__", None)
    return name if isinstance(name, str) else type(subscriber).__name__


def events_of(handler: Handler) -> EventTypes:
    """Return what a handler wants by the annotation of its first parameter; `Event` without one.

    Raises:
        SubscriberError: The annotation is no event class and no union of them.
    """
    annotation = _first_annotation(handler)
    if annotation is None or annotation is Any:
        return Event
    if isinstance(annotation, typing.TypeVar):
        annotation = annotation.__bound__ or Event
    if isinstance(annotation, type) and issubclass(Event, annotation):
        return Event  # a function of any object takes any event
    event_classes(annotation)
    return typing.cast("EventTypes", annotation)


def check_options(capacity: int, overflow: Overflow, key: Callable[[Any], Hashable] | None) -> None:
    """Check the options of a subscription.

    Raises:
        SubscriberError: One of them makes no sense, alone or with the others.
    """
    if type(capacity) is not int or capacity < 1:
        raise SubscriberError(f"capacity={capacity!r} holds nothing. Pass an integer of 1 or more")
    if not isinstance(overflow, Overflow):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SubscriberError(
            f"overflow={overflow!r} is no Overflow. Pass one of {', '.join(map(str, Overflow))}"
        )
    if overflow is Overflow.COALESCE and key is None:
        raise SubscriberError(
            "Overflow.COALESCE needs key=, a function of an event that says what it replaces"
        )
    if key is not None and overflow is not Overflow.COALESCE:
        raise SubscriberError("key= has a meaning with overflow=Overflow.COALESCE only. Pass both or neither")


def _is_async(handler: object) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    call: object = getattr(type(handler), "__call__", None)  # noqa: B004 - is it async, not: is it there
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _first_annotation(handler: Handler) -> object:
    """Return the resolved annotation of the first parameter a caller fills, or None."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return None
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.annotation is inspect.Parameter.empty:
        return None
    if not isinstance(first.annotation, str):
        return typing.cast("object", first.annotation)
    return _resolved(handler, first)


def _resolved(handler: object, parameter: inspect.Parameter) -> object:
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = handler if hasattr(handler, "__annotations__") else getattr(handler, "__call__", handler)  # noqa: B004
    try:
        return typing.cast("object", typing.get_type_hints(function)[parameter.name])
    except Exception as error:
        raise SubscriberError(
            f"the annotation {parameter.annotation!r} of {name_of(handler)} cannot be resolved ({error}). "
            "Say the event type when subscribing: subscribe(handler, NodeEvent)"
        ) from error
