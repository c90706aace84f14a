"""What type checkers make of the public names: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Generic, TypeVar, assert_type

import blinker

from eventbus import (
    BusStatistics,
    DrainReport,
    Event,
    EventBus,
    EventSink,
    EventsLost,
    EventStream,
    EventTypes,
    NodeCompleted,
    NodeEvent,
    NodeStarted,
    Overflow,
    SkillCompleted,
    SkillEvent,
    Subscriber,
    Subscription,
    SubscriptionStatistics,
    WorkflowEventTracker,
    current_session_id,
    decode,
    encode,
    session_scope,
    track_skill,
)
from eventbus.history import EventLog, Record, Tail

ValueT = TypeVar("ValueT")


class DeployFinished(Event):
    """An event of one's own needs no options."""

    target: str


class Result(Event, Generic[ValueT]):
    """An event may be generic."""

    value: ValueT


async def handle_result(event: Result[int]) -> None:
    assert_type(event.value, int)


def handle_optional(event: NodeCompleted | None) -> None: ...


class Deploys(Subscriber[DeployFinished]):
    """A subscriber may narrow what it handles."""

    events = DeployFinished

    async def handle(self, event: DeployFinished) -> None:
        """Take one."""
        assert_type(event.target, str)


async def handle_node(event: NodeCompleted) -> None:
    assert_type(event.duration_seconds, float | None)


def handle_either(event: NodeCompleted | SkillCompleted) -> None: ...


def handle_anything(event: object) -> None: ...


class NodeCallable:
    """An object that can be called."""

    def __call__(self, event: NodeEvent) -> None:
        """Take an event."""


class Nodes(Subscriber[NodeEvent]):
    """A subscriber gets the events of its type argument."""


async def use_events_in_a_variable(
    bus: EventBus, events: EventTypes, event_class: type[NodeEvent], overflow: Overflow
) -> None:
    """Events that are known at run time only may be any of `EventTypes`."""
    assert_type(bus.subscribe(handle_anything, events), Subscription)
    assert_type(bus.subscribe(handle_anything, event_class, overflow=overflow), Subscription)
    assert_type(bus.stream(events), EventStream[Event])
    assert_type(bus.stream(event_class), EventStream[NodeEvent])


async def use(bus: EventBus) -> None:
    assert_type(bus.publish(DeployFinished(target="staging")), bool)
    assert_type(await bus.publish_wait(DeployFinished(target="staging", session_id="abc")), bool)
    assert_type(bus.subscribe(handle_node, NodeCompleted, capacity=10), Subscription)
    assert_type(bus.subscribe(handle_either, NodeCompleted | SkillCompleted), Subscription)
    assert_type(bus.subscribe(Deploys()), Subscription)
    assert_type(
        bus.subscribe(
            handle_node, NodeCompleted, overflow=Overflow.COALESCE, key=lambda event: event.node_id
        ),
        Subscription,
    )
    assert_type(bus.subscribe(handle_node), Subscription)
    assert_type(bus.subscribe(handle_result), Subscription)
    assert_type(bus.subscribe(handle_result, Result[int]), Subscription)
    assert_type(bus.subscribe(handle_optional, NodeCompleted), Subscription)
    assert_type(bus.stream(Result[int]), EventStream[Result[int]])
    assert_type(bus.subscribe(handle_anything, NodeCompleted), Subscription)
    assert_type(bus.subscribe(handle_either, NodeCompleted), Subscription)
    assert_type(bus.subscribe(handle_either, (NodeCompleted, SkillCompleted)), Subscription)
    assert_type(bus.subscribe(Nodes(), NodeCompleted), Subscription)
    assert_type(bus.subscribe(Nodes(), NodeCompleted | NodeStarted), Subscription)
    assert_type(bus.subscribe(NodeCallable(), NodeCompleted), Subscription)
    assert_type(bus.subscribe(lambda event: event.node_id, NodeCompleted, name="ids"), Subscription)
    assert_type(bus.subscribe(print, NodeCompleted), Subscription)
    received: list[Event] = []
    assert_type(bus.subscribe(received.append, NodeCompleted), Subscription)
    assert_type(bus.subscribe(received.append), Subscription)
    with bus.subscribe(handle_node, NodeCompleted) as subscription:
        assert_type(subscription, Subscription)
    assert_type(bus.stream(NodeEvent), EventStream[NodeEvent])
    assert_type(bus.stream((NodeEvent, SkillEvent)), EventStream[NodeEvent | SkillEvent])
    assert_type(
        bus.stream((NodeEvent, SkillEvent, EventsLost)), EventStream[NodeEvent | SkillEvent | EventsLost]
    )
    both = bus.stream(NodeEvent | SkillEvent)
    assert_type((await both.receive()).timestamp, datetime)
    assert_type(bus.stream(), EventStream[Event])
    async with bus.stream(NodeCompleted, replay=5) as events:
        async for event in events:
            assert_type(event, NodeCompleted)
        assert_type(await events.wait_for(lambda event: not event.success, timeout=1), NodeCompleted)
        assert_type(await events.wait_for(lambda event: not event.success), NodeCompleted)
    assert_type(bus.tap(NodeCompleted), blinker.Signal)
    assert_type(bus.statistics(), BusStatistics)
    assert_type(bus.statistics().subscriptions, dict[str, SubscriptionStatistics])
    assert_type(await bus.drain(), DrainReport)
    assert_type(bus.close(timeout=None), DrainReport)
    assert_type(await bus.aclose(), DrainReport)
    assert_type(bus.report, DrainReport | None)
    sink: EventSink = bus
    assert_type(sink.publish(EventsLost(count=1, first_seq=1, last_seq=1)), bool)


async def decorate(bus: EventBus) -> None:
    """A decorated function keeps its type."""

    @bus.on(NodeCompleted, capacity=10)
    async def later(event: NodeCompleted) -> str:
        return event.node_id

    @bus.on
    def bare(event: NodeCompleted) -> int:
        return event.attempt

    @bus.on()
    def annotated(event: NodeCompleted) -> int:
        return event.attempt

    @bus.on(NodeCompleted | SkillCompleted)
    def of_a_union(event: NodeCompleted | SkillCompleted) -> int:
        return len(event.metadata)

    @bus.on(SkillCompleted)
    @bus.on(NodeCompleted)
    def twice(event: Event) -> int:
        return len(event.metadata)

    completed = NodeCompleted(workflow_id="ci", node_id="tests")
    assert_type(await later(event=completed), str)
    assert_type(bare(event=completed), int)
    assert_type(annotated(event=completed), int)
    assert_type(of_a_union(event=completed), int)
    assert_type(twice(event=Event()), int)


def use_the_rest(bus: EventBus) -> None:
    with session_scope("abc123") as session_id:
        assert_type(session_id, str)
    assert_type(current_session_id(), str | None)
    assert_type(decode(encode(Event())), Event)
    assert_type(WorkflowEventTracker(bus, session_id="abc").workflow_started("ci"), str)
    complete = track_skill("crackerjack-run", "daily")
    complete(completed=True, follow_up_actions=["git commit"])
    with EventBus([Deploys(), handle_node]) as entered:
        assert_type(entered, EventBus)


async def reading_the_log_says_what_it_gives(log: EventLog) -> None:
    """A class given as `types` is what comes; a union, or nothing, gives events."""
    assert_type(log.events(types=NodeCompleted), Iterator[NodeCompleted])
    assert_type(log.events(types=NodeEvent | SkillEvent), Iterator[Event])
    assert_type(log.events(), Iterator[Event])
    assert_type(log.records(), Iterator[Record])
    async with log.follow(types=NodeEvent) as records:
        assert_type(records, Tail)
        async for record in records:
            assert_type(record, Record)
