"""Sinks to publish to, and arguments that raise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from eventbus.contracts import EventSink
from eventbus.events import Event


class ListSink:
    """Accepts every event and appends it to a list."""

    def __init__(self, published: list[Event]) -> None:
        self.published = published

    def publish(self, event: Event) -> bool:
        """Accept the event."""
        self.published.append(event)
        return True


class RaisingSink:
    """A broken bus: `publish` raises."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = KeyError("broken") if error is None else error

    def publish(self, event: Event) -> NoReturn:
        """Raise the error."""
        raise self.error


class Hostile:
    """Raises at every operation."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise KeyError(name)

    def __str__(self) -> NoReturn:
        raise KeyError

    __repr__ = __str__
    __bool__: Any = __str__
    __iter__: Any = __str__
    __len__: Any = __str__
    __hash__: Any = __str__

    def __eq__(self, other: object) -> NoReturn:
        raise KeyError


def run_in_threads(count: int, work: Callable[[], object]) -> None:
    """Call a function in several threads at once, and wait for them."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def published() -> list[Event]:
    """The events published to `sink`."""
    return []


@pytest.fixture
def sink(published: list[Event]) -> EventSink:
    return ListSink(published)
