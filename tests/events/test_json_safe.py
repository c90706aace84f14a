"""Any value becomes plain, bounded JSON."""

from __future__ import annotations

import enum
import json
import time
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from unittest.mock import Mock
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.events.json_safe import MAX_DEPTH, MAX_NODES, MAX_TEXT, json_safe, json_safe_mapping, safe_text


class _Colour(enum.Enum):
    RED = object()


class _Level(enum.IntEnum):
    HIGH = 3


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("hands off")

    def __len__(self) -> int:
        raise RuntimeError("hands off")


class _Number(int):
    def __int__(self) -> int:
        raise RuntimeError("hands off")


def _refuse(self: object) -> Any:
    raise RuntimeError("hands off")


class _Hostile:
    """Raises in every method that is called."""

    __class__ = property(_refuse)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("hands off")

    def __repr__(self) -> str:
        raise RuntimeError("hands off")

    def __bool__(self) -> bool:
        raise RuntimeError("hands off")


class _HostileMapping(UserDict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("hands off")


class _EndlessMapping(UserDict[str, Any]):
    def items(self) -> Any:
        return ((str(n), n) for n in iter(int, 1))


class _HalfAList(list[int]):
    def __iter__(self) -> Iterator[int]:
        yield 1
        raise RuntimeError("hands off")


class _Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (0.0, 0.0),
        ("text", "text"),
        ((1, 2), [1, 2]),
        ([], []),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        (_Point(1, 2), [1, 2]),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({1: "a", 2.5: "b", None: "c", False: "d"}, {"1": "a", "2.5": "b", "None": "c", "False": "d"}),
        ({(1, 2): "x"}, {"<tuple>": "x"}),
        (PurePosixPath("/a/b"), "/a/b"),
        (_Colour.RED, "RED"),
        (_Level.HIGH, "HIGH"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"secret", "<6 bytes>"),
        (ValueError("secret"), "<ValueError>"),
        (Decimal("1.5"), "<Decimal>"),
        (int, "<type>"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**63), -(2**63)),
        (10**5_000, "<int of 16610 bits>"),
        ("\ud800x", "\\ud800x"),
        (_Text("text"), "text"),
        (_HostileMapping(a=1), "<_HostileMapping>"),
        (_HalfAList(), "<_HalfAList>"),
        (_Number(3), "<_Number>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value(value: Any, safe: Any) -> None:
    """Plain values stay, known kinds become text, and of a foreign object only its type's name is kept."""
    assert json_safe(value) == safe
    assert type(json_safe(value)) is type(safe)


def test_a_set() -> None:
    """A set becomes a list of its members."""
    assert sorted(json_safe({3, 1, 2})) == [1, 2, 3]
    assert json_safe(frozenset({1})) == [1]


@pytest.mark.parametrize("make", [_Hostile, lambda: Mock(spec=str), lambda: Mock(spec=int), Mock])
def test_a_hostile_value_affects_no_other(make: Any) -> None:
    """A hostile value is replaced by its type's name; the values beside it are kept."""
    safe = json_safe_mapping({"before": 1, "hostile": make(), "after": [make(), 2]})
    assert (safe["before"], safe["after"][1]) == (1, 2)
    assert safe["hostile"] in ("<_Hostile>", "<Mock>")
    json.dumps(safe)


def test_hostile_keys() -> None:
    """A hostile key is replaced; its value is kept."""
    assert json_safe({_Hostile(): 1, "b": 2}) == {"<_Hostile>": 1, "b": 2}


def test_deep() -> None:
    """Containers nested deeper than `MAX_DEPTH` are replaced by a mark."""
    nest: Any = "bottom"
    for _ in range(100_000):
        nest = [nest]
    safe, depth = json_safe(nest), 0
    while isinstance(safe, list):
        safe, depth = safe[0], depth + 1
    assert depth == MAX_DEPTH
    assert "truncated" in safe
    fitting: Any = "bottom"
    for _ in range(MAX_DEPTH):
        fitting = [fitting]
    assert json_safe(fitting) == fitting


def test_cycles() -> None:
    """A cycle is cut, along however many paths."""
    cycle: dict[str, Any] = {}
    cycle.update({str(n): cycle for n in range(10)})
    began = time.perf_counter()
    assert len(json.dumps(json_safe(cycle))) < 1_000_000
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    "value",
    [
        list(range(10**6)),
        dict.fromkeys(range(10**6)),
        [[0] * 100] * 10_000,
        set(range(10**5)),
        _EndlessMapping(),
    ],
    ids=["list", "dict", "lists", "set", "endless"],
)
def test_many(value: Any) -> None:
    """Values beyond `MAX_NODES` are left out and replaced by a mark."""
    text = json.dumps(json_safe(value), ensure_ascii=False)
    assert "truncated" in text
    assert text.count(",") < MAX_NODES * 2


def test_long() -> None:
    """Longer strings are cut at `MAX_TEXT` characters, and marked."""
    assert json_safe("x" * MAX_TEXT) == "x" * MAX_TEXT
    cut = json_safe("x" * 10**7)
    assert cut.startswith("x" * MAX_TEXT + "…")
    assert "truncated" in cut
    assert len(cut) < MAX_TEXT + 20
    assert safe_text("abcdef", 3).startswith("abc…")


@pytest.mark.parametrize("value", [None, [1], "text", 3, _HostileMapping()])
def test_a_value_that_is_not_a_mapping(value: Any) -> None:
    """A value that is not a mapping, or cannot be read as one, is kept under a name."""
    assert set(json_safe_mapping(value)) <= {"value"}


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(st.characters(categories=None))
    | st.binary()
    | st.builds(_Hostile)
    | st.decimals()
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner)
        | st.dictionaries(
            st.text(st.characters(categories=None)) | st.integers() | st.binary(), inner, max_size=5
        )
    ),
    max_leaves=20,
)


@given(anything)
def test_any_value(value: Any) -> None:
    """The copy of any value encodes, decodes to itself, and is its own copy."""
    safe = json_safe(value)
    assert msgspec.json.decode(msgspec.json.encode(safe)) == safe
    assert json_safe(safe) == safe
