"""What a plugin author may rely on, and what things are called."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import anyio
import pytest

from eventbus import Event, EventBus, EventSink, NodeStarted, Subscriber, SubscriberFailed
from eventbus.delivery.rate_limited_log import RateLimitedLog


def _node() -> NodeStarted:
    return NodeStarted(workflow_id="ci", node_id="tests")


def test_a_subscriber_that_handles_nothing() -> None:
    """A subscriber that overrides neither `handle` nor `handle_batch` fails, and says why."""

    class Idle(Subscriber[Event]):
        events = NodeStarted

    told: list[SubscriberFailed] = []
    with EventBus([Idle()]) as bus:
        bus.subscribe(told.append, SubscriberFailed)
        bus.publish(_node())
    assert [(event.subscriber, event.error_type) for event in told] == [("Idle", "NotImplementedError")]
    with pytest.raises(NotImplementedError, match="Idle overrides neither handle nor handle_batch"):
        anyio.run(Idle().handle, _node())


def test_handle_batch_by_default() -> None:
    """`handle_batch` hands each event to `handle` where it is not overridden."""

    class Single(Subscriber[Event]):
        def __init__(self) -> None:
            self.got: list[Event] = []

        async def handle(self, event: Event) -> None:
            self.got.append(event)

    single, events = Single(), [_node(), _node()]
    anyio.run(single.handle_batch, events)
    assert single.got == events
    assert not Single.handles_batches


def test_who_handles_batches() -> None:
    """A subclass of a subscriber that overrides `handle_batch` handles batches, too."""

    class Batches(Subscriber[Event]):
        async def handle_batch(self, events: Sequence[Event]) -> None:
            """Take them."""

    class More(Batches):
        pass

    assert Batches.handles_batches
    assert More.handles_batches
    assert not Subscriber.handles_batches


def test_start_and_stop_may_be_functions_without_async() -> None:
    """`start` and `stop` that are no coroutine functions are called all the same."""
    done: list[str] = []

    class Plain(Subscriber[Event]):
        def start(self, bus: EventBus) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            done.append("start")

        def handle(self, event: Event) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            done.append("handle")

        def stop(self) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            done.append("stop")

    with EventBus([Plain()]) as bus:
        bus.publish(_node())
    assert done == ["start", "handle", "stop"]


def test_a_bus_is_a_sink() -> None:
    """A bus is an `EventSink`."""
    assert isinstance(EventBus(), EventSink)


def test_names() -> None:
    """A subscription is called what its subscriber says, or its function's or class's name, made unique."""

    def tell(event: Event) -> None: ...

    class Callable:
        def __call__(self, event: Event) -> None: ...

    bus = EventBus([tell, functools.partial(tell), Callable()])
    bus.subscribe(tell, name="mine")
    assert list(bus.statistics().subscriptions) == ["tell", "tell-2", "Callable", "mine"]


def test_representations() -> None:
    """A bus and a subscription show their names and states."""
    with EventBus(name="ci") as bus:
        subscription = bus.subscribe(lambda _: None, NodeStarted, name="mine")
        assert repr(bus) == f"<EventBus 'ci' {bus.id} running, 1 subscriptions>"
    assert repr(bus) == f"<EventBus 'ci' {bus.id} closed, 1 subscriptions>"
    assert repr(EventBus()).endswith("not entered, 0 subscriptions>")
    assert repr(subscription) == "<Subscription 'mine' ended, 0 queued>"


def test_many_causes(caplog: pytest.LogCaptureFixture) -> None:
    """A log of failures remembers a bounded number of causes."""
    log = RateLimitedLog(logging.getLogger("eventbus.tests"), "it")
    for number in range(1_000):
        log.warn(f"cause {number}", "failed")
    log.warn("cause 999", "failed")
    assert len(caplog.records) == 1_000


def test_empty_metadata_is_nobodys_to_change() -> None:
    """The metadata of an event cannot be filled after it was built."""
    event = _node()
    with pytest.raises(TypeError, match="frozen fact"):
        event.metadata["late"] = True
    with pytest.raises(TypeError, match="frozen fact"):
        event.metadata.update(late=True)
    with pytest.raises(TypeError, match="frozen fact"):
        event.metadata.setdefault("late", True)
    with pytest.raises(TypeError, match="frozen fact"):
        event.metadata.__ior__({"late": True})
    assert event.metadata == {}
