"""What type checkers make of the public names: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import assert_type

import blinker

from eventbus import (
    BusStatistics,
    DrainReport,
    Event,
    EventBus,
    EventSink,
    EventsLost,
    EventStream,
    NodeCompleted,
    NodeEvent,
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


class DeployFinished(Event):
    """An event of one's own needs no options."""

    target: str


class Deploys(Subscriber[DeployFinished]):
    """A subscriber may narrow what it handles."""

    events = DeployFinished

    async def handle(self, event: DeployFinished) -> None:
        """Take one."""
        assert_type(event.target, str)


async def handle_node(event: NodeCompleted) -> None:
    assert_type(event.duration_seconds, float | None)


def handle_either(event: NodeCompleted | SkillCompleted) -> None: ...


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
    assert_type(bus.stream(NodeEvent), EventStream[NodeEvent])
    both = bus.stream(NodeEvent | SkillEvent)
    assert_type((await both.receive()).timestamp, datetime)
    assert_type(bus.stream(), EventStream[Event])
    async with bus.stream(NodeCompleted, replay=5) as events:
        async for event in events:
            assert_type(event, NodeCompleted)
    assert_type(bus.tap(NodeCompleted), blinker.Signal)
    assert_type(bus.statistics(), BusStatistics)
    assert_type(bus.statistics().subscriptions, dict[str, SubscriptionStatistics])
    assert_type(await bus.drain(), DrainReport)
    assert_type(bus.close(timeout=None), DrainReport)
    assert_type(await bus.aclose(), DrainReport)
    assert_type(bus.report, DrainReport | None)
    sink: EventSink = bus
    assert_type(sink.publish(EventsLost(count=1, first_seq=1, last_seq=1)), bool)

    @bus.on(NodeCompleted)
    async def tell(event: NodeCompleted) -> None: ...

    @bus.on
    def tell_too(event: NodeCompleted) -> int:
        return event.attempt

    assert_type(tell_too(NodeCompleted(workflow_id="ci", node_id="tests")), int)
    await tell(NodeCompleted(workflow_id="ci", node_id="tests"))


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
