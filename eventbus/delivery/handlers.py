"""Turn the handlers given to `EventBus.subscribe` into subscribers.

A handler is a function of one event, sync or async: a plain function, a bound method, a partial, an
object with `__call__`. The annotation of its first parameter may give the events it wants.
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
    "annotated_events",
    "as_subscriber",
    "call_maybe_async",
    "check_options",
    "ensure_async",
    "name_of",
]

Handler: TypeAlias = "Callable[[Any], Awaitable[object] | object]"
"""A function of one event; its result is awaited if it is awaitable, and otherwise ignored."""


class _FunctionSubscriber(Subscriber[Any]):
    """A handler as a subscriber."""

    def __init__(self, handler: Handler) -> None:
        self.handle = ensure_async(handler)  # type: ignore[method-assign,assignment]
        self.name = name_of(handler)
        self.events = annotated_events(handler)


def as_subscriber(handler: Handler | Subscriber[Any] | object) -> Subscriber[Any]:
    """Return a subscriber as it is, and a handler as a subscriber; SubscriberError for anything else."""
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


def ensure_async(handler: Handler) -> Callable[[Any], Awaitable[object]]:
    """Return a handler as an async function; an async handler is returned as it is."""
    if _is_async(handler):
        return typing.cast("Callable[[Any], Awaitable[object]]", handler)

    async def handle(event: Any) -> None:
        result = handler(event)
        if result is not None and inspect.isawaitable(result):  # most return None, which is cheap to test
            await result

    return handle


async def call_maybe_async(function: Callable[..., object], *arguments: object) -> None:
    """Call a function, and await its result if that is awaitable."""
    result = function(*arguments)
    if inspect.isawaitable(result):
        await result


def name_of(subscriber: object) -> str:
    """Return the default name of a subscriber: its `name`, or its function's or class's."""
    while isinstance(subscriber, functools.partial):
        subscriber = subscriber.func
    name = getattr(subscriber, "name", None) or getattr(subscriber, "__name__", None)
    return name if isinstance(name, str) else type(subscriber).__name__


def annotated_events(handler: Handler) -> EventTypes:
    """Return the events in the annotation of a handler's first parameter; `Event` without one.

    Raises:
        SubscriberError: The annotation is neither an event class nor a union of them.
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


def check_options(
    capacity: int, overflow: Overflow, key: Callable[[Any], Hashable] | None, replay: int = 0
) -> None:
    """Raise `SubscriberError` if the options of a subscription are wrong, or contradict each other."""
    if type(capacity) is not int or capacity < 1:
        raise SubscriberError(f"capacity={capacity!r} holds nothing. Pass an integer of 1 or more")
    if not isinstance(overflow, Overflow):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SubscriberError(
            f"overflow={overflow!r} is not an Overflow. Pass one of {', '.join(map(str, Overflow))}"
        )
    if overflow is Overflow.COALESCE and key is None:
        raise SubscriberError(
            "Overflow.COALESCE needs key=, a function of an event: queued events with equal keys are replaced"
        )
    if replay < 0:
        raise SubscriberError(f"replay={replay} is negative. Pass 0 or more")
    if key is not None and overflow is not Overflow.COALESCE:
        raise SubscriberError("key= is used with overflow=Overflow.COALESCE only. Pass both or neither")


def _is_async(handler: object) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    call: object = getattr(type(handler), "__call__", None)  # noqa: B004 - the question is whether it is async
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
            "Pass the event type when subscribing: subscribe(handler, NodeEvent)"
        ) from error
