"""Shared by the tests of the subscribers: events, and buses that publish them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

from eventbus import Event, EventBus, EventsLost, NodeCompleted, NodeStarted, Subscriber

__all__ = ["BUS_ID", "STARTED", "assert_hanging_is_harmless", "bus_with", "lost", "node", "publish_to"]

BUS_ID = "0123456789ab"
STARTED = NodeStarted(workflow_id="ci", node_id="tests")


def node(name: str = "tests", **fields: Any) -> NodeCompleted:
    return NodeCompleted(workflow_id="ci", node_id=name, **fields)


def lost(count: int) -> EventsLost:
    return EventsLost(count=count, first_seq=1, last_seq=count)


def bus_with(identity: str = BUS_ID) -> EventBus:
    """Return a stand-in that has only the id of a bus."""
    return cast("EventBus", SimpleNamespace(id=identity))


def publish_to(subscriber: Subscriber[Any], events: Iterable[Event]) -> None:
    """Publish events on a bus with this subscriber, and close the bus."""
    with EventBus([subscriber], history=0) as bus:
        for event in events:
            bus.publish(event)


def assert_hanging_is_harmless(subscriber: Subscriber[Any], let_go: threading.Event) -> None:
    """Check a bus one of whose subscribers hangs in its own thread until it is let go."""
    received: list[Event] = []
    with EventBus([subscriber, received.append]) as bus:
        for number in range(100):
            bus.publish(node(str(number)))
        report = bus.close(timeout=0.2)
    let_go.set()
    assert len(received) == 100
    assert not report.complete
    assert report.duration_seconds < 2
