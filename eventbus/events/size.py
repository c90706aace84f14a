"""How large an event is on the wire, estimated before it is encoded.

Encoding a string of a gigabyte takes seconds, during which no other thread runs. The estimate stops
as soon as the limit is passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import chain, islice
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import astuple

from eventbus.events.event import NO_METADATA, Event
from eventbus.events.json_safe import MAX_DEPTH

__all__ = ["MAX_EVENT_BYTES", "is_oversized"]

MAX_EVENT_BYTES = 65_536
"""The most bytes an event takes on the wire. A larger one is truncated, and its metadata says so."""

_MAX_ITEMS = MAX_EVENT_BYTES // 2 + 1  # more items than this do not fit: each takes a character and a comma
_SMALL = {bool, int, float, datetime, type(None), type(NO_METADATA)}


def is_oversized(event: Event) -> bool:
    """Return True if an event is certain to be truncated.

    False does not mean that it fits: the size of its line decides. The time taken is bounded.
    """
    size = 0
    for value in astuple(event):
        kind = type(value)
        if kind is str:
            size += len(value)
        elif kind not in _SMALL:
            return _is_deep_or_oversized(event)
    return size > MAX_EVENT_BYTES


def _is_deep_or_oversized(event: Event) -> bool:
    try:
        return _exceeds(astuple(event))
    except Exception:  # noqa: BLE001 - a hostile collection: truncating an event replaces it
        return True


def _exceeds(contents: tuple[Any, ...]) -> bool:
    size, level = 0, [contents]
    for _ in range(MAX_DEPTH + 2):
        inner: list[tuple[Any, ...]] = []
        for value in chain.from_iterable(level):
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind in _SMALL:
                continue
            elif isinstance(value, str | bytes):
                size += str.__len__(value) if isinstance(value, str) else len(value)
            else:
                inner.append(_contents(value))
                size += 2 * len(inner[-1])  # each takes a character and a comma at least
                if size > MAX_EVENT_BYTES:
                    return True
        if not inner or size > MAX_EVENT_BYTES:
            return size > MAX_EVENT_BYTES
        level = inner
    return True


def _contents(value: Any) -> tuple[Any, ...]:
    """Return the items of a collection; of a large one only as many as prove that it is too large."""
    if isinstance(value, dict):
        return tuple(chain.from_iterable(islice(value.items(), _MAX_ITEMS)))
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(islice(cast("Iterable[Any]", value), _MAX_ITEMS))
    return astuple(value) if isinstance(value, Struct) else ()
