"""The conformance suite finds each defect, and none in good subscribers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eventbus_subscribers import LiveCorrelator

from eventbus import Subscriber
from eventbus.testing import SCENARIOS, check_subscriber, conformance_test
from tests.testing.bad_subscribers import BAD, LIMITS
from tests.testing.good_subscribers import good


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("eventbus.events"), "disabled", True)


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_each_defect_is_found(make: Callable[[], Subscriber[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscriber with one defect is found, with a line that says which."""
    monkeypatch.setattr("eventbus.testing.conformance._HANGS_SECONDS", 5)
    monkeypatch.setattr("eventbus.testing.surroundings._THREADS_GRACE_SECONDS", 0.3)
    monkeypatch.setenv("CHANGED_BY_A_PLUGIN", "")
    found: list[str] = []
    for scenario in SCENARIOS:
        found += [each.problem for each in check_subscriber(make, scenarios=[scenario], limits=LIMITS)]
        if any(BAD[make] in problem for problem in found):
            return
    pytest.fail(f"found only: {found}")


@pytest.mark.parametrize("name", good(""))
def test_nothing_is_found_in_good_subscribers(name: str, tmp_path: Path) -> None:
    """In a subscriber without a defect nothing is found; the built-in ones are among them."""
    assert [str(each) for each in check_subscriber(good(tmp_path)[name])] == []


test_correlator = conformance_test(LiveCorrelator)
