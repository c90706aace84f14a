"""What a fold remembers of what it has seen, within bounds."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["BoundedMap", "evict_first", "evict_oldest"]

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class BoundedMap(msgspec.Struct, Generic[_K, _T], gc=False):
    """Things by id, the open ones apart: what goes on is forgotten last.

    Not looked at by the garbage collector: what is remembered must not lead back to it.
    """

    still_open: dict[_K, _T] = {}
    others: dict[_K, _T] = {}

    def get(self, key: _K) -> _T | None:
        """Return what is remembered under an id, open or not."""
        return self.still_open.get(key) or self.others.get(key)

    def put(self, key: _K, thing: _T, *, is_open: bool, limit: int | None) -> list[_T]:
        """Remember a thing; return the others that were forgotten for it."""
        if is_open:
            self.others.pop(key, None)
            self.still_open[key] = thing
            return evict_oldest(self.still_open, limit)
        if self.still_open.pop(key, None) is not None and not self.still_open:
            self.still_open = {}  # an emptied one stays as large as it was
        self.others[key] = thing
        return evict_oldest(self.others, limit)


def evict_oldest(remembered: dict[Any, _T], limit: int | None) -> list[_T]:
    """Keep a mapping to about a limit, by dropping its oldest entries; return what was dropped.

    An eighth at a time: a `dict` that loses its first entry over and over takes ever longer to find
    the next, and an `OrderedDict` costs twice the memory.
    """
    if limit is None or len(remembered) <= limit:
        return []
    return evict_first(remembered, 1 + limit // 8)


def evict_first(remembered: dict[Any, _T], count: int) -> list[_T]:
    """Drop up to so many of a mapping's oldest entries; return what was dropped."""
    return [remembered.pop(key) for key in list(islice(remembered, max(count, 0)))]
