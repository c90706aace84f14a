"""Maps that evict their oldest entries, so that a fold takes bounded memory."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["BoundedMap", "evict_first", "evict_oldest"]

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class BoundedMap(msgspec.Struct, Generic[_K, _T], gc=False):
    """A map that evicts open and closed items separately: closed ones do not push out open ones.

    The garbage collector ignores it, so an item must not refer back to it.
    """

    open_items: dict[_K, _T] = {}
    closed_items: dict[_K, _T] = {}

    def get(self, key: _K) -> _T | None:
        """Return the item under a key, open or closed, or None."""
        return self.open_items.get(key) or self.closed_items.get(key)

    def put(self, key: _K, item: _T, *, is_open: bool, limit: int | None) -> list[_T]:
        """Put an item among the open or the closed ones; return the evicted items."""
        if is_open:
            self.closed_items.pop(key, None)
            self.open_items[key] = item
            return evict_oldest(self.open_items, limit)
        if self.open_items.pop(key, None) is not None and not self.open_items:
            self.open_items = {}  # an emptied dict keeps its size
        self.closed_items[key] = item
        return evict_oldest(self.closed_items, limit)


def evict_oldest(entries: dict[Any, _T], limit: int | None) -> list[_T]:
    """Evict the oldest entries of a dict that exceeds a limit; return their values.

    An eighth of the limit at a time: a `dict` that loses its first entry again and again takes ever
    longer to find the next one, and an `OrderedDict` takes twice the memory.
    """
    if limit is None or len(entries) <= limit:
        return []
    return evict_first(entries, 1 + limit // 8)


def evict_first(entries: dict[Any, _T], count: int) -> list[_T]:
    """Evict up to `count` of the oldest entries; return their values."""
    return [entries.pop(key) for key in list(islice(entries, max(count, 0)))]
