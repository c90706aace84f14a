"""Maps that evict their oldest entries, so that a fold takes bounded memory."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["MAX_NAMES", "BoundedMap", "add_name", "evict_first", "evict_oldest", "names_in_order", "remember"]

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")

MAX_NAMES = 16
"""How many names of skills, workflows and failed nodes a session keeps."""


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


def add_name(names: dict[str, datetime], name: str, time: datetime) -> None:
    """Add a name that occurred at a time; the first names are kept, in whatever order they are added."""
    known = names.get(name)
    if known is None or time < known:
        names[name] = time
        if len(names) > MAX_NAMES:
            del names[max((at, each) for each, at in names.items())[1]]


def names_in_order(names: dict[str, datetime]) -> tuple[str, ...]:
    """Return names in the order of their times."""
    if len(names) < 2:  # noqa: PLR2004 - one needs no order
        return tuple(names)
    return tuple(sorted(names, key=lambda name: (names[name], name)))


def remember(items: list[_T] | None, item: _T, limit: int | None) -> list[_T]:
    """Append an item; beyond a limit the oldest eighth of the items is removed."""
    if items is None:
        return [item]
    items.append(item)
    if limit is not None and len(items) > limit:
        del items[: 1 + limit // 8]
    return items


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
