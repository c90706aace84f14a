"""A bus for the delivery tests."""

from __future__ import annotations

import pytest

from eventbus import EventBus


@pytest.fixture
def bus() -> EventBus:
    """Return a bus that is not entered: published events stay in the mailboxes."""
    return EventBus()
