"""`printable` returns one bounded line of printable characters for any value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.events.printable import MAX_SHOWN, printable


@pytest.mark.parametrize(
    "text", ["tests", "", "fast hooks", "größe ✓", "C:\\temp", "100%", "::error::x", "[red]x"]
)
def test_a_printable_text_is_shown_as_it_is(text: str) -> None:
    """A printable text is returned unchanged."""
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]52;c;eA==\x07", "\\x1b]52;c;eA==\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_a_character_that_is_not_printable_is_shown_as_an_escape(text: str, shown: str) -> None:
    """Control, bidirectional and separator characters and lone surrogates are shown as escapes."""
    assert printable(text) == shown


class _Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class _Disguised:
    __class__ = str  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (3, "3"),
        (True, "True"),
        (_Hostile(), "<_Hostile>"),
        (["a"], "['a']"),
    ],
)
def test_a_foreign_object_is_shown_as_its_type(value: Any, shown: str) -> None:
    """Of a foreign object only the name of its type is shown; its `__str__` is not called."""
    assert printable(value) == shown


def test_an_object_that_claims_to_be_a_text_is_shown_as_its_type() -> None:
    """An object whose `__class__` is `str` is not taken for a text."""
    assert printable(_Disguised()) == "<_Disguised>"


def test_a_long_text_is_cut_and_ends_in_an_ellipsis() -> None:
    """A text longer than the limit is cut; one of exactly the limit is not."""
    assert printable("x" * MAX_SHOWN) == "x" * MAX_SHOWN
    assert printable("x" * 10_000_000) == "x" * (MAX_SHOWN - 1) + "…"
    assert printable("\x1b" * 3, limit=8) == "\\x1b\\x1…"


@given(st.text() | st.integers() | st.binary() | st.lists(st.text()), st.integers(0, 40))
def test_the_result_is_always_printable_and_bounded(value: Any, limit: int) -> None:
    """For any value and any limit the result is printable and no longer than the limit."""
    shown = printable(value, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
