"""The checker finds each planted fault, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.reliability.conftest import Check, Item

ITEMS = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2)]
SOUND: dict[str, list[Item]] = {"lost": [], "duplicated": [], "reordered": [], "unexpected": []}


@st.composite
def sound_runs(draw: st.DrawFn) -> list[Item]:
    """Draw a sound run: each publisher's items in its order, mixed in any way."""
    publishers = draw(st.lists(st.sampled_from("abcd"), min_size=2, max_size=30))
    return [(each, publishers[:place].count(each)) for place, each in enumerate(publishers)]


@given(sound_runs())
def test_a_sound_run(check: Check, run: list[Item]) -> None:
    """Every item once, and each publisher's in its order, is sound in any mixture."""
    assert check(run, run, run) == SOUND
    assert check(sorted(run), sorted(run), run, run) == SOUND


@given(sound_runs(), st.data())
def test_lost(check: Check, run: list[Item], data: st.DataObject) -> None:
    """An item that was accepted and not delivered is lost; nothing else is reported."""
    missing = data.draw(st.sampled_from(run))
    rest = [item for item in run if item != missing]
    assert check(run, run, rest) == {**SOUND, "lost": [missing]}
    assert check(run, run, run, rest) == {**SOUND, "lost": [missing]}


@given(sound_runs(), st.data())
def test_duplicated(check: Check, run: list[Item], data: st.DataObject) -> None:
    """An item that was delivered twice is duplicated, wherever the second one is."""
    place = data.draw(st.integers(0, len(run) - 1))
    twice = [*run]
    twice.insert(data.draw(st.integers(place, len(run))), run[place])
    assert check(run, run, twice) == {**SOUND, "duplicated": [run[place]]}
    assert check(run, run, run, twice) == {**SOUND, "duplicated": [run[place]]}


@given(sound_runs(), st.data())
def test_reordered(check: Check, run: list[Item], data: st.DataObject) -> None:
    """An item that was delivered after a later one of its publisher is reordered."""
    run.append((run[0][0], sum(publisher == run[0][0] for publisher, _ in run)))
    place = data.draw(st.sampled_from([at for at, item in enumerate(run[:-1]) if item[0] == run[0][0]]))
    late = [*run[:place], *run[place + 1 :], run[place]]
    assert check(run, run, late) == {**SOUND, "reordered": [run[place]]}
    assert check(run, run, run, late) == {**SOUND, "reordered": [run[place]]}


@pytest.mark.parametrize("stranger", [("a", 2), ("c", 0)])
def test_unexpected(check: Check, stranger: Item) -> None:
    """An item that was not published is unexpected, and so is one that the bus rejected."""
    assert check(ITEMS, ITEMS, [*ITEMS, stranger]) == {**SOUND, "unexpected": [stranger]}
    assert check([*ITEMS, stranger], ITEMS, [*ITEMS, stranger]) == {**SOUND, "unexpected": [stranger]}
    assert check(ITEMS, ITEMS, ITEMS, [*ITEMS, stranger]) == {**SOUND, "unexpected": [stranger]}


def test_accepted_without_being_attempted(check: Check) -> None:
    """An item that was accepted but never attempted is unexpected."""
    assert check(ITEMS[1:], ITEMS, ITEMS) == {**SOUND, "unexpected": [ITEMS[0]]}


def test_several_faults_at_once(check: Check) -> None:
    """Faults do not hide each other."""
    delivered = [("b", 1), ("b", 0), ("b", 1), ("a", 1), ("c", 7)]
    assert check(ITEMS, ITEMS, delivered) == {
        "lost": [("a", 0), ("b", 2)],
        "duplicated": [("b", 1)],
        "reordered": [("b", 0)],
        "unexpected": [("c", 7)],
    }


def test_a_test_that_counts_badly(check: Check) -> None:
    """A test that counts an item twice gets an error: duplicates would be hidden."""
    with pytest.raises(ValueError, match="twice"):
        check([*ITEMS, ITEMS[0]], ITEMS, ITEMS)
    with pytest.raises(ValueError, match="twice"):
        check(ITEMS, [*ITEMS, ITEMS[0]], ITEMS)
