"""Fixtures of the reliability tests: the checker, printed seeds, and the nightly selection.

An event of these tests stands for an *item*: its publisher, and its number among that publisher's events.
`check` compares the published items with the received ones; `test_checker.py` plants each fault that it must
find.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import pytest

from eventbus import Event, NodeProgress

Item: TypeAlias = tuple[str, int]
"""A publisher's name and the number of its event; each publisher counts from 0."""

Faults: TypeAlias = dict[str, list[Item]]
Check: TypeAlias = Callable[..., Faults]
Numbered: TypeAlias = Callable[[str, int], NodeProgress]
ItemsOf: TypeAlias = Callable[[Iterable[Event]], list[Item]]


def find_faults(
    attempted: Iterable[Item],
    accepted: Iterable[Item],
    delivered: Sequence[Item],
    on_disk: Sequence[Item] | None = None,
) -> Faults:
    """Return the faults between publishing items and receiving them; four empty lists if none.

    Args:
        attempted: Each item passed to `publish`, once.
        accepted: Each item that the bus accepted, once.
        delivered: The items that one subscription received, in order.
        on_disk: The items read back from a log of the same events, if there is one.

    Returns:
        ``lost``: accepted, but not received. ``duplicated``: received more than once. ``reordered``:
        received after a later item of the same publisher. ``unexpected``: received but not
        accepted, or accepted but not attempted.
    """
    tried, wanted = _each_once(attempted), _each_once(accepted)
    faults: Faults = {"lost": [], "duplicated": [], "reordered": [], "unexpected": sorted(wanted - tried)}
    for received in (delivered, on_disk):
        if received is not None:
            seen = Counter(received)
            faults["lost"] += sorted(wanted - seen.keys())
            faults["duplicated"] += sorted(item for item, times in seen.items() if times > 1)
            faults["reordered"] += _reordered(seen)
            faults["unexpected"] += sorted(seen.keys() - wanted)
    return faults


def _each_once(items: Iterable[Item]) -> set[Item]:
    counted = Counter(items)
    twice = [item for item, times in counted.items() if times > 1]
    if twice:
        raise ValueError(f"the test counts {twice[:5]} twice, which would hide a duplicate")
    return set(counted)


def _reordered(first_seen: Iterable[Item]) -> list[Item]:
    latest: dict[str, int] = {}
    late: list[Item] = []
    for publisher, number in first_seen:
        if number < latest.get(publisher, -1):
            late.append((publisher, number))
        latest[publisher] = max(number, latest.get(publisher, -1))
    return late


@pytest.fixture(scope="session")
def check() -> Check:
    """The checker; a run is sound if ``not any(check(...).values())``."""
    return find_faults


@pytest.fixture(scope="session")
def numbered() -> Numbered:
    """Make the event that stands for an item."""

    def event(publisher: str, number: int) -> NodeProgress:
        return NodeProgress(workflow_id="reliability", node_id=publisher, attempt=number)

    return event


@pytest.fixture(scope="session")
def items_of() -> ItemsOf:
    """Return the items that events stand for; events of other classes are skipped."""

    def items(events: Iterable[Event]) -> list[Item]:
        return [(event.node_id, event.attempt) for event in events if isinstance(event, NodeProgress)]

    return items


@pytest.fixture
def seed() -> int:
    """The seed of this test's random choices; printed, and set by ``EVENTBUS_TEST_SEED``."""
    chosen = int(os.environ.get("EVENTBUS_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"EVENTBUS_TEST_SEED={chosen}")
    return chosen
