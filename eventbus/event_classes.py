"""The event classes that a class, a union, a tuple or a type argument stands for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, ForwardRef, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from eventbus.errors import SubscriberError
from eventbus.events import Event

__all__ = ["check_covers", "event_classes", "events_of_argument", "type_argument"]


def event_classes(events: object) -> tuple[type[Event], ...]:
    """Return the event classes in an event class, a union or a tuple; SubscriberError for anything else."""
    found = tuple(_flatten(events))
    wrong = [each for each in found if not (isinstance(each, type) and issubclass(each, Event))]
    if wrong or not found:
        what = getattr(wrong[0], "__name__", repr(wrong[0])) if wrong else "an empty tuple"
        raise SubscriberError(
            f"cannot subscribe to {what}: it is not an Event class. "
            "Pass a subclass of Event, or a union of them such as SkillEvent | NodeEvent"
        )
    return cast("tuple[type[Event], ...]", tuple(dict.fromkeys(found)))


def type_argument(cls: type, generic: type) -> object:
    """Return the type argument that a class passes to a generic base class; `Any` if it passes none.

    Names in quotes are resolved where the class is defined, if possible; type variables that are left
    are replaced by their default or bound.
    """
    return _without_variables(_argument(cls, generic))


def events_of_argument(cls: type, argument: object) -> type[Event] | UnionType:
    """Return the event class or union in the type argument of a class; SubscriberError for anything else."""
    names = [each.__forward_arg__ for each in _flatten(argument) if isinstance(each, ForwardRef)]
    if names:
        raise SubscriberError(
            f"the type argument {names[0]!r} of {cls.__name__} cannot be resolved when the class is created. "
            f"Define {names[0]} before the class, or set `events`"
        )
    try:
        classes = event_classes(argument)
    except SubscriberError as error:
        raise SubscriberError(f"the type argument of {cls.__name__}: {error}") from None
    union: Any = classes[0]
    for each in classes[1:]:
        union |= each
    return cast("type[Event] | UnionType", union)


def check_covers(cls: type, events: object, argument: object) -> None:
    """Raise `SubscriberError` if a class asks for events that its type argument leaves out."""
    try:
        wanted, handled = event_classes(events), event_classes(argument)
    except SubscriberError:
        return  # not classes that could be compared; subscribing reports wrong `events`
    if not all(issubclass(each, handled) for each in wanted):
        raise SubscriberError(
            f"{cls.__name__} handles {_names(handled)}, its type argument, but its events are "
            f"{_names(wanted)}. Remove `events`, or make it a Subscriber[{_names(wanted)}]"
        )


def _argument(cls: type, generic: type) -> object:
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin: object = get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, generic)):
            continue
        arguments = tuple(_resolved(each, cls.__module__) for each in get_args(base))
        if origin is generic:
            return arguments[0] if arguments else Any
        parameters: tuple[object, ...] = getattr(origin, "__parameters__", ())
        return _substituted(_argument(origin, generic), dict(zip(parameters, arguments, strict=False)))
    return Any


def _resolved(argument: object, module: str) -> object:
    def annotated() -> None: ...

    annotated.__annotations__ = {"argument": argument}
    try:
        return cast("object", get_type_hints(annotated, vars(sys.modules[module]))["argument"])
    except Exception:  # noqa: BLE001 - the name in it may be anything
        return argument


def _substituted(argument: object, values: Mapping[object, object]) -> object:
    found = tuple(values.get(each, each) for each in _variables(argument))
    if not found:
        return argument
    if isinstance(argument, TypeVar):
        return found[0]
    union: Any = argument
    return cast("object", union[found])


def _without_variables(argument: object) -> object:
    return _substituted(argument, {each: _stand_in(each) for each in _variables(argument)})


def _variables(argument: object) -> tuple[object, ...]:
    if isinstance(argument, TypeVar):
        return (argument,)
    return () if isinstance(argument, type) else getattr(argument, "__parameters__", ())


def _stand_in(variable: Any) -> object:
    """Return the default of a type variable, otherwise its constraints or bound, otherwise `Event`."""
    if getattr(variable, "has_default", bool)():
        return variable.__default__
    return variable.__constraints__ or _resolved(variable.__bound__ or Event, variable.__module__)


def _flatten(events: Any) -> Iterable[object]:
    if isinstance(events, tuple):
        for each in cast("tuple[object, ...]", events):
            yield from _flatten(each)
    elif isinstance(events, UnionType) or get_origin(events) is Union:
        for each in get_args(events):
            yield from _flatten(each)
    elif hasattr(events, "__value__"):  # of a `type` statement
        yield from _flatten(events.__value__)
    else:
        yield events


def _names(classes: Iterable[type[Event]]) -> str:
    return " | ".join(each.__name__ for each in classes)
