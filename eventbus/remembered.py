"""What a fold remembers of what it has seen, within bounds."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Any, Generic, TypeVar

__all__ = ["Remembered", "forget_oldest"]

_T = TypeVar("_T")


class Remembered(Generic[_T]):
    """Things by id, the open ones apart: what goes on is forgotten last."""

    __slots__ = ("_limit", "others", "still_open")

    def __init__(self, limit: int | None) -> None:
        self.still_open: dict[Hashable, _T] = {}
        self.others: dict[Hashable, _T] = {}
        self._limit = limit

    def get(self, key: Hashable) -> _T | None:
        """Return what is remembered under an id, open or not."""
        return self.still_open.get(key) or self.others.get(key)

    def put(self, key: Hashable, thing: _T, *, is_open: bool) -> int:
        """Remember a thing; answer how many others were forgotten for it."""
        source, target = (self.others, self.still_open) if is_open else (self.still_open, self.others)
        source.pop(key, None)
        target[key] = thing
        return len(forget_oldest(target, self._limit))


def forget_oldest(remembered: dict[Any, Any], limit: int | None) -> list[Any]:
    """Keep a mapping to about a limit, by dropping its oldest entries; return what was dropped.

    An eighth at a time: a `dict` that loses its first entry over and over takes ever longer to find
    the next, and an `OrderedDict` costs twice the memory.
    """
    if limit is None or len(remembered) <= limit:
        return []
    return [remembered.pop(key) for key in list(islice(remembered, 1 + limit // 8))]
