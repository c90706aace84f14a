"""Take items out of a deque in one call, or later where an exception has stopped it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, TypeVar, cast

__all__ = ["taking", "taking_last"]

_Item = TypeVar("_Item")

_popleft = cast("Callable[[Any], Any]", getattr(deque, "popleft"))  # noqa: B009 - else its type is half unknown
_pop = cast("Callable[[Any], Any]", getattr(deque, "pop"))  # noqa: B009


def taking(queue: deque[_Item], count: int) -> Iterator[_Item]:
    """Return an iterator that takes up to `count` items from the left of a deque.

    What consumes it runs in C: no exception and no signal handler comes between two items. Consumed
    again, it goes on.
    """
    return map(_popleft, repeat(queue, count))


def taking_last(queue: deque[_Item], count: int) -> Iterator[_Item]:
    """Do the same from the right."""
    return map(_pop, repeat(queue, count))
