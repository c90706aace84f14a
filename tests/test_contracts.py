"""The base class of subscribers, and the names of things."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence
from types import new_class
from typing import Any, Generic, Optional, TypeVar, Union

import anyio
import pytest

from eventbus import (
    Event,
    EventBus,
    EventSink,
    EventsLost,
    EventTypes,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    Subscriber,
    SubscriberError,
)
from eventbus.delivery.rate_limited_log import RateLimitedLog

if sys.version_info >= (3, 13):
    from typing import TypeAliasType
    from typing import TypeVar as TypeVarWithDefault
else:
    from typing_extensions import TypeAliasType
    from typing_extensions import TypeVar as TypeVarWithDefault

KeyT = TypeVar("KeyT")
NodeT = TypeVar("NodeT", bound=NodeEvent)
QuotedT = TypeVar("QuotedT", bound="NodeEvent")
EitherT = TypeVar("EitherT", NodeStarted, SkillStarted)
DefaultT = TypeVarWithDefault("DefaultT", bound=NodeEvent, default=NodeCompleted)


def _node() -> NodeStarted:
    return NodeStarted(workflow_id="ci", node_id="tests")


class OfNodes(Subscriber[NodeT]):
    """Generic in its events."""


class Keyed(OfNodes[NodeT], Generic[KeyT, NodeT]):
    """Generic in something else, too."""


class OrLost(Subscriber[NodeT | EventsLost]):
    """Generic in a part of its events."""


class OfQuoted(Subscriber[QuotedT]):
    """Bound to a class in quotes."""


class OfEither(Subscriber[EitherT]):
    """Generic in one of two classes."""


class OfDefault(Subscriber[DefaultT]):
    """Generic with a default."""


class Narrowed(Subscriber[NodeEvent]):
    """Takes some of the events of its type argument."""

    events: EventTypes = NodeCompleted


NodesAlias = Subscriber[NodeEvent]
Ends = TypeAliasType("Ends", NodeCompleted | SkillCompleted)


def test_the_events_of_the_type_argument() -> None:
    """A `Subscriber[NodeCompleted]` that sets no `events` gets the events of its type argument."""
    got: list[Event] = []

    class Completed(Subscriber[NodeCompleted]):
        async def handle(self, event: NodeCompleted) -> None:
            got.append(event)

    completed = NodeCompleted(workflow_id="ci", node_id="tests")
    with EventBus([Completed()]) as bus:
        bus.publish(SkillStarted(skill_name="run"))
        bus.publish(_node())
        bus.publish(completed)
    assert got == [completed]


@pytest.mark.parametrize(
    ("base", "events"),
    [
        (Subscriber, Event),
        (Subscriber[Any], Event),
        (Subscriber[Event], Event),
        (Subscriber[NodeCompleted], NodeCompleted),
        (Subscriber[NodeCompleted | SkillCompleted], NodeCompleted | SkillCompleted),
        (Subscriber[Union[NodeCompleted, SkillCompleted]], NodeCompleted | SkillCompleted),  # noqa: UP007
        (Subscriber["NodeCompleted"], NodeCompleted),
        (Subscriber["NodeCompleted | SkillCompleted"], NodeCompleted | SkillCompleted),
        (Subscriber[Union["NodeCompleted", SkillCompleted]], NodeCompleted | SkillCompleted),
        (Subscriber[Ends], NodeCompleted | SkillCompleted),
        (NodesAlias, NodeEvent),
        (OfNodes, NodeEvent),
        (OfNodes[NodeStarted], NodeStarted),
        (Keyed, NodeEvent),
        (Keyed[str, NodeStarted], NodeStarted),
        (OrLost, NodeEvent | EventsLost),
        (OrLost[NodeStarted], NodeStarted | EventsLost),
        (OfQuoted, NodeEvent),
        (OfEither, NodeStarted | SkillStarted),
        (OfDefault, NodeCompleted),
        (Narrowed, NodeCompleted),
    ],
)
def test_type_arguments_of_many_forms(base: Any, events: object) -> None:
    """The type argument may be a union or quoted, and come through generic base classes and aliases."""

    class Child(base):  # type: ignore[misc]
        pass

    class Grandchild(Child):
        pass

    assert Child.events == events
    assert Grandchild.events == events


def test_events_that_a_class_sets_are_kept() -> None:
    """A class may set `events` to less than its type argument, and its subclasses inherit them."""

    class Fewer(Subscriber[NodeEvent | EventsLost]):
        events = NodeStarted | NodeProgress

    class Untyped(Subscriber[Any]):
        events = NodeStarted

    class Unresolved(Subscriber["NotDefined"]):  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]
        events = NodeStarted

    class Mixin:
        events: EventTypes = NodeStarted

    class Mixed(Mixin, Subscriber[NodeEvent]):
        pass

    class Later(Narrowed):
        events = NodeStarted

    assert Fewer.events == NodeStarted | NodeProgress
    assert (Untyped.events, Unresolved.events, Mixed.events) == (NodeStarted,) * 3
    assert (Later.events, Narrowed.events) == (NodeStarted, NodeCompleted)


@pytest.mark.parametrize(
    ("base", "events"),
    [
        (Subscriber[NodeCompleted], SkillCompleted),
        (Subscriber[NodeCompleted], NodeEvent),
        (Subscriber[NodeCompleted], Event),
        (Subscriber[NodeCompleted], NodeCompleted | SkillCompleted),
        (Subscriber[NodeCompleted], (NodeCompleted, SkillCompleted)),
        (Subscriber[NodeCompleted], NodeCompleted | EventsLost),
        (OfNodes[NodeStarted], NodeCompleted),
        (OfNodes, Event),
        (Narrowed, SkillCompleted),
    ],
)
def test_events_that_contradict_the_type_argument(base: Any, events: object) -> None:
    """A class that sets `events` which its type argument does not cover raises a `SubscriberError`."""
    with pytest.raises(SubscriberError, match=r"Wrong handles .*, its type argument, but its events are "):
        new_class("Wrong", (base,), exec_body=lambda body: body.update(events=events))


def test_inherited_events_that_contradict_the_type_argument() -> None:
    """A type argument that leaves out inherited `events` contradicts them, too."""

    class Started(Subscriber[NodeT]):
        events = NodeStarted

    with pytest.raises(SubscriberError) as caught:
        new_class("Wrong", (Started[NodeCompleted],))
    assert str(caught.value) == (
        "Wrong handles NodeCompleted, its type argument, but its events are NodeStarted. "
        "Remove `events`, or make it a Subscriber[NodeStarted]"
    )


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("NotDefined", "the type argument 'NotDefined' of Wrong cannot be resolved .* set `events`"),
        (int, "the type argument of Wrong: cannot subscribe to int"),
        (Optional[NodeStarted], "the type argument of Wrong: cannot subscribe to NoneType"),  # noqa: UP045
    ],
)
def test_a_type_argument_without_event_classes(argument: Any, problem: str) -> None:
    """A type argument that is not made of event classes is refused when the class is created."""
    with pytest.raises(SubscriberError, match=problem):
        new_class("Wrong", (Subscriber[argument],))


def test_a_subscriber_that_handles_nothing() -> None:
    """A subscriber that overrides neither `handle` nor `handle_batch` is refused with a clear error."""

    class Idle(Subscriber[Event]):
        events = NodeStarted

    with pytest.raises(SubscriberError, match="Idle overrides neither handle nor handle_batch"):
        EventBus([Idle()])
    with pytest.raises(NotImplementedError, match="Idle overrides neither handle nor handle_batch"):
        anyio.run(Idle().handle, _node())


def test_handle_batch_by_default() -> None:
    """Without an override, `handle_batch` passes each event to `handle`."""

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
    """`start`, `handle` and `stop` need not be async."""
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
    """The name of a subscription is the given one, or that of its function or class, made unique."""

    def note(event: Event) -> None: ...

    class Callable:
        def __call__(self, event: Event) -> None: ...

    bus = EventBus([note, functools.partial(note), Callable()])
    bus.subscribe(note, name="mine")
    assert list(bus.statistics().subscriptions) == ["note", "note-2", "Callable", "mine"]


def test_representations() -> None:
    """A bus and a subscription show their names and states."""
    with EventBus(name="ci") as bus:
        subscription = bus.subscribe(lambda _: None, NodeStarted, name="mine")
        assert repr(bus) == f"<EventBus 'ci' {bus.id} running, 1 subscriptions>"
    assert repr(bus) == f"<EventBus 'ci' {bus.id} closed, 1 subscriptions>"
    assert repr(EventBus()).endswith("not entered, 0 subscriptions>")
    assert repr(subscription) == "<Subscription 'mine' ended, 0 queued>"


def test_many_causes(caplog: pytest.LogCaptureFixture) -> None:
    """A rate-limited log remembers a bounded number of causes."""
    log = RateLimitedLog(logging.getLogger("eventbus.tests"), "it")
    for number in range(1_000):
        log.warn(f"cause {number}", "failed")
    log.warn("cause 999", "failed")
    assert len(caplog.records) == 1_000


def test_empty_metadata_cannot_be_changed() -> None:
    """The metadata of an event cannot be changed after it was built."""
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
