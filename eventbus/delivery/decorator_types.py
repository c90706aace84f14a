"""The types of `EventBus.on`, for type checkers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar, overload

__all__ = ["Subscribing"]

_P = ParamSpec("_P")
_ResultT = TypeVar("_ResultT")
_ResultT_co = TypeVar("_ResultT_co", covariant=True)
_EventT_co = TypeVar("_EventT_co", covariant=True)
_EventT_contra = TypeVar("_EventT_contra", contravariant=True)


class _HandlerOf(Protocol[_EventT_contra, _P, _ResultT_co]):  # pyright: ignore[reportInvalidTypeVarUse]
    """A function of an event that also has these parameters and this result."""

    # A function matches only if it matches both. `Callable[[EventT], R]` alone would check as much, but
    # then the decorated function had this type instead of its own.
    @overload
    def __call__(self, event: _EventT_contra, /) -> object: ...
    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _ResultT_co: ...


class Subscribing(Protocol[_EventT_co]):
    """A decorator of functions of an event, which returns each as it is."""

    def __call__(self, handler: _HandlerOf[_EventT_co, _P, _ResultT], /) -> Callable[_P, _ResultT]:
        """Subscribe a function."""
        ...
