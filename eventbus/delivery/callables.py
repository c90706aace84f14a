"""Refuse functions that cannot be a handler, a key or a tap, before an event is wasted on them."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, get_origin

from eventbus.errors import SubscriberError

__all__ = [
    "check_callable",
    "function_of",
    "is_async",
    "name_of",
    "reject_unrun",
    "signature_of",
    "without_partials",
]

_UNRUN = (CoroutineType, GeneratorType, AsyncGeneratorType)
# Since Python 3.14 reading an annotation evaluates it; one that cannot be must not fail.
_SIGNATURE_OPTIONS: dict[str, Any] = (
    {"annotation_format": importlib.import_module("annotationlib").Format.FORWARDREF}
    if sys.version_info >= (3, 14)
    else {}
)


def check_callable(function: object, what: str, *, arguments: int = 1, may_wait: bool = True) -> None:
    """Raise `SubscriberError` if calling a function can never do what it is for.

    Args:
        function: The function.
        what: What it is for, as in "the key".
        arguments: How many arguments it is called with.
        may_wait: Whether its result is awaited.
    """
    name = name_of(function)
    if not callable(function) or isinstance(get_origin(function), type):
        raise SubscriberError(f"{what} {name} is not a function. Pass a function of one event")
    inner = function_of(function)
    if inspect.isasyncgenfunction(inner) or (inspect.isgeneratorfunction(inner) and not _is_awaitable(inner)):
        raise SubscriberError(
            f"{what} {name} is a generator: its body would never run. Write it without yield"
        )
    if not may_wait and is_async(function):
        raise SubscriberError(f"{what} {name} is async, and would never run. Make it a plain function")
    signature = signature_of(function)
    try:
        if signature is not None:
            signature.bind(*[None] * arguments)
    except TypeError as error:
        raise SubscriberError(
            f"{what} {name} is called with {_counted(arguments)}, but its parameters are {signature}: {error}"
        ) from None


def signature_of(function: object) -> inspect.Signature | None:
    """Return the signature of a function; None if it cannot be found out, as of some written in C."""
    try:
        return inspect.signature(function, **_SIGNATURE_OPTIONS)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except Exception:  # noqa: BLE001 - a hostile `__signature__`, too
        return None


def without_partials(function: Any) -> Any:
    """Return what a partial, or several within each other, call; any other object as it is."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def function_of(handler: Any) -> Any:
    """Return the function that a partial, a method or a callable object calls."""
    handler = without_partials(handler)
    if inspect.isfunction(handler) or inspect.isbuiltin(handler):
        return handler
    if inspect.ismethod(handler):
        return handler.__func__
    if isinstance(handler, staticmethod):
        return handler.__wrapped__
    call = getattr(type(handler), "__call__", None)  # noqa: B004 - the function is wanted
    return call if inspect.isfunction(call) else handler


def is_async(function: object) -> bool:
    """Whether a function is defined with ``async def``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function_of(function))


def name_of(subscriber: object) -> str:
    """Return the default name of a subscriber: its `name`, or its function's or class's."""
    subscriber = without_partials(subscriber)
    name = getattr(subscriber, "name", None) or getattr(subscriber, "__name__", None)
    return name if isinstance(name, str) else type(subscriber).__name__


def reject_unrun(result: object) -> None:
    """Raise `SubscriberError` if a call has returned code that nothing runs, and close that code."""
    if isinstance(result, _UNRUN):
        if not isinstance(result, AsyncGeneratorType):  # one that has not begun needs no closing
            result.close()
        raise SubscriberError(
            f"it returned a {type(result).__name__}, which is never run. Make it a plain function"
        )


def _is_awaitable(function: Any) -> bool:
    """Whether it is a generator function made awaitable by `types.coroutine`."""
    return bool(function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE)


def _counted(arguments: int) -> str:
    return ("nothing", "one argument")[arguments]
