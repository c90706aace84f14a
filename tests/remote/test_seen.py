"""The duplicate filter of readers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.remote.seen import Seen
from eventbus.remote.wire import RecordId


def record(seq: int, bus: str = "a") -> RecordId:
    return RecordId(bus, 7, seq)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[RecordId, int]]:
    """Records of two writers, some lost, some left out, then any of them again, and late."""
    sent: list[tuple[RecordId, int]] = []
    for bus in "ab":
        left_out = 0
        for seq in range(1, draw(st.integers(1, 25)) + 1):
            fate = draw(st.sampled_from(["sent", "sent", "left out", "lost"]))
            if fate == "left out":
                left_out += 1
            elif fate == "lost":
                left_out = 0
            else:
                sent.append((record(seq, bus), left_out))
                left_out = 0
    again = draw(st.lists(st.sampled_from(sent), max_size=10)) if sent else []
    return draw(st.permutations(sent + again))


@given(deliveries())
def test_against_a_model(delivered: list[tuple[RecordId, int]]) -> None:
    """Each record counts once, whatever the order, and what is missing between received ones is counted."""
    seen, received = Seen(), set[RecordId]()
    covered: dict[str, set[int]] = {}
    for each, left_out in delivered:
        assert seen.add(each, left_out) is (each not in received)
        received.add(each)
        covered.setdefault(each.bus_id, set()).update(range(each.seq - left_out, each.seq + 1))
        assert seen.missing == sum(max(own) - min(own) + 1 - len(own) for own in covered.values())


@pytest.mark.parametrize("jump", [10, 10**17])
def test_gaps_cost_nothing(jump: int) -> None:
    """A gap is counted, however large it is, and a record that comes late is taken back from the count."""
    seen = Seen()
    assert seen.add(record(1))
    assert seen.add(record(jump))
    assert seen.missing == jump - 2
    assert seen.add(record(5))
    assert not seen.add(record(5))
    assert seen.missing == jump - 3


def test_many_writers() -> None:
    """Of too many writers the one that was silent for the longest is forgotten."""
    seen = Seen(max_writers=2)
    for bus in ("a", "b", "a", "c"):
        seen.add(record(1, bus))
    assert not seen.add(record(1, "a"))
    assert seen.add(record(1, "b"))
