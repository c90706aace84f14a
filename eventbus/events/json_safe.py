"""Make any value JSON-safe: a bounded copy that always encodes.

A publisher may put anything into an event: a set, a path, a NaN, a lone surrogate, a cycle or an
object with a hostile ``__repr__`` all become plain JSON. Of a foreign object only the name of its
type is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from enum import Enum
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

__all__ = ["MAX_DEPTH", "MAX_NODES", "MAX_TEXT", "MAX_TEXTS", "json_safe", "json_safe_mapping", "safe_text"]

MAX_DEPTH = 32
"""Containers nested deeper than this are replaced by a mark."""
MAX_NODES = 4_096
"""Values beyond this number are left out and replaced by a mark."""
MAX_TEXT = 32_768
"""Longer strings are cut and marked."""
MAX_TEXTS = 262_144
"""The most characters copied in all, several times the size of an event on the wire. Strings beyond
it are replaced by a mark."""

_TRUNCATED = "…[truncated]"
_SHORT = 64  # characters; such texts are not counted, since `MAX_NODES` bounds them
_MAX_DECIMAL_BITS = 1_024
_MAX_INTEGER = 2**63  # JSON readers agree on 64 bits; msgspec refuses more than 64 unsigned


def safe_text(text: str, limit: int = MAX_TEXT) -> str:
    r"""Return up to `limit` characters of a text as an exact `str` that encodes as UTF-8, marked if cut.

    Lone surrogates, which stand for undecodable bytes in names, become escapes such as ``\udce9``: with
    question marks different names would become the same one.
    """
    if type(text) is not str:
        text = str.__getitem__(text, slice(limit + 1))  # conversion to `str` copies, so cut first
    if len(text) > limit:
        text = text[:limit] + _TRUNCATED
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode()
        return text if len(text) <= limit else text[:limit] + _TRUNCATED
    return text


def json_safe(value: Any) -> Any:
    """Return a bounded, JSON-safe copy of any value. Never raises."""
    return _Copier().copy(value, 0)


def json_safe_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a bounded, JSON-safe copy of a mapping, its keys as strings. Never raises."""
    copy = _Copier().copy(value, 0)
    return cast("dict[str, Any]", copy) if isinstance(copy, dict) else {"value": copy}


class _Copier:
    """One copy in progress, with the number of values and characters it may still take."""

    __slots__ = ("text_left", "values_left")

    def __init__(self) -> None:
        self.values_left = MAX_NODES
        self.text_left = MAX_TEXTS

    def copy(self, value: Any, depth: int) -> Any:
        self.values_left -= 1
        kind = type(value)  # not __class__, which an object can fake
        if kind is str:
            return safe_text(value) if len(value) <= _SHORT else self._copy_text(value)
        exact = _EXACT.get(kind)
        if exact is not None:
            return exact(value)
        if depth >= MAX_DEPTH or self.values_left < 0:
            return _TRUNCATED
        try:
            return self._copy_other(value, depth)
        except Exception:  # noqa: BLE001 - a hostile object must not reach the publisher
            return f"<{type(value).__name__}>"

    def _copy_text(self, text: str) -> str:
        copy = safe_text(text, max(0, min(MAX_TEXT, self.text_left)))
        self.text_left -= len(copy)
        return copy

    def _copy_other(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._copy_text(value)
        if isinstance(value, Mapping):
            return self._copy_mapping(value, depth)
        if isinstance(value, list | tuple | AbstractSet):
            return self._copy_items(cast("Iterable[Any]", value), depth)
        for kind, convert in _BY_KIND:
            if isinstance(value, kind):
                return convert(value)
        return f"<{type(value).__name__}>"

    def _copy_mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, value in mapping.items():
            if self.values_left <= 0:
                copy[_TRUNCATED] = True
                break
            name = _key(key)
            if len(name) > _SHORT:
                name = self._copy_text(name)
            copy[name] = self.copy(value, depth + 1)
        return copy

    def _copy_items(self, items: Iterable[Any], depth: int) -> list[Any]:
        copy: list[Any] = []
        for item in items:
            if self.values_left <= 0:
                copy.append(_TRUNCATED)
                break
            copy.append(self.copy(item, depth + 1))
        return copy


def _key(key: Any) -> str:
    try:
        if isinstance(key, str):
            return safe_text(key)
        return str(key) if type(key) in (int, float, bool) or key is None else f"<{type(key).__name__}>"
    except Exception:  # noqa: BLE001 - such as a __class__ that raises, or an int of 5,000 digits
        return f"<{type(key).__name__}>"


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))


def _integer(value: int) -> int | str:
    if -_MAX_INTEGER <= value < _MAX_INTEGER:
        return value
    # Converting a giant integer to decimal digits takes quadratic time, and fails beyond 4,300 digits.
    return str(value) if value.bit_length() < _MAX_DECIMAL_BITS else f"<int of {value.bit_length()} bits>"


def _identity(value: Any) -> Any:
    return value


_EXACT: dict[type, Callable[[Any], Any]] = {
    int: _integer,
    bool: _identity,
    float: _number,
    type(None): _identity,
}

_BY_KIND: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (Enum, lambda member: safe_text(member.name)),
    (int, lambda number: _integer(int(number))),
    (float, lambda number: _number(float(number))),
    (PurePath, lambda path: safe_text(str(path))),
    (datetime, datetime.isoformat),
    (date, date.isoformat),
    (time, time.isoformat),
    (UUID, str),
    (bytes, lambda data: f"<{len(data)} bytes>"),
    (BaseException, lambda error: f"<{type(error).__name__}>"),
)
