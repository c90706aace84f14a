"""The event classes that a class, a union, a tuple or a type argument stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, ForwardRef, TypeVar, Union, cast, get_args, get_origin

from eventbus.errors import SubscriberError
from eventbus.events import Event
from eventbus.events.type_hints import resolved

__all__ = ["check_covers", "event_classes", "events_of_annotation", "events_of_argument", "type_argument"]


def event_classes(events: object) -> tuple[type[Event], ...]:
    """Return the event classes in an event class, a union or a tuple; SubscriberError for anything else.

    Also in what stands for one of them: a type alias, `Annotated`, a `NewType`, a type variable with a
    bound, and a generic class with its type arguments, which are not checked at run time.
    """
    found = tuple(_flatten(events))
    wrong = [each for each in found if not (isinstance(each, type) and issubclass(each, Event))]
    if wrong or not found:
        what = getattr(wrong[0], "__name__", repr(wrong[0])) if wrong else "an empty tuple"
        raise SubscriberError(
            f"cannot subscribe to {what}: it is not an Event class. "
            "Pass a subclass of Event, or a union of them such as SkillEvent | NodeEvent"
        )
    return cast("tuple[type[Event], ...]", tuple(dict.fromkeys(found)))


def events_of_annotation(annotation: object) -> tuple[type[Event], ...]:
    """Return the event classes that a parameter takes: all if it takes any object; None is ignored."""
    wanted = [each for each in _flatten(annotation) if each not in (None, type(None))]
    if any(each is Any or (isinstance(each, type) and issubclass(Event, each)) for each in wanted):
        return (Event,)
    return event_classes(tuple(wanted) or annotation)


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
        arguments = tuple(_resolved(each, cls) for each in get_args(base))
        if origin is generic:
            return arguments[0] if arguments else Any
        parameters: tuple[object, ...] = getattr(origin, "__parameters__", ())
        return _substituted(_argument(origin, generic), dict(zip(parameters, arguments, strict=False)))
    return Any


def _resolved(argument: object, owner: object) -> object:
    try:
        return resolved(argument, owner)
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
    return variable.__constraints__ or _resolved(variable.__bound__ or Event, variable)


def _flatten(events: Any) -> Iterable[object]:
    parts = _parts(events)
    if parts is None:
        yield events
    for each in parts or ():
        yield from _flatten(each)


def _parts(events: Any) -> tuple[object, ...] | None:
    """Return what a composed type consists of, or stands for; None for anything else."""
    if isinstance(events, tuple):
        return cast("tuple[object, ...]", events)
    origin: Any = get_origin(events)
    if origin in (Union, UnionType):
        return get_args(events)
    if origin is Annotated:
        return get_args(events)[:1]
    if isinstance(events, TypeVar):
        return (_stand_in(events),)
    if isinstance(origin, type) and issubclass(origin, Event):
        return (origin,)
    return _aliased(events, origin)


def _aliased(events: Any, origin: Any) -> tuple[object, ...] | None:
    if isinstance(events, type):
        return None
    if hasattr(origin, "__value__"):  # of a generic `type` statement
        values = dict(zip(origin.__type_params__, get_args(events), strict=False))
        return (_substituted(origin.__value__, values),)
    for name in ("__value__", "__supertype__"):  # of a `type` statement, of a NewType
        if hasattr(events, name):
            return (getattr(events, name),)
    return None


def _names(classes: Iterable[type[Event]]) -> str:
    return " | ".join(each.__name__ for each in classes)
