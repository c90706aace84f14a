"""A sink that keeps what is published to it, and no session from outside."""

from __future__ import annotations

import pytest

from eventbus.contracts import EventSink
from eventbus.events import Event
from eventbus.session import SESSION_VARIABLE


class ListSink:
    """Accepts everything, in a list."""

    def __init__(self, published: list[Event]) -> None:
        self.published = published

    def publish(self, event: Event) -> bool:
        """Accept the event."""
        self.published.append(event)
        return True


@pytest.fixture
def published() -> list[Event]:
    return []


@pytest.fixture
def sink(published: list[Event]) -> EventSink:
    return ListSink(published)


@pytest.fixture(autouse=True)
def no_session_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SESSION_VARIABLE, raising=False)
