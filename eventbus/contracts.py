"""All that a plugin author needs: the base class `Subscriber`, and `EventSink` to publish to.

    class SlowNodes(Subscriber[NodeCompleted]):
        async def handle(self, event: NodeCompleted) -> None:
            if (event.duration_seconds or 0) > 10:
                print(event.node_id)

`start`, `handle`, `handle_batch` and `stop` run one at a time, in one task, on the bus's host. Their
exceptions are counted, logged and published as `SubscriberFailed`, and affect no other subscriber.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, runtime_checkable

from eventbus.event_classes import check_covers, events_of_argument, type_argument
from eventbus.events import Event

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from eventbus.bus import EventBus

    EventT = TypeVar("EventT", bound=Event, default=Event)
else:
    from typing import TypeVar

    EventT = TypeVar("EventT", bound=Event)  # defaults need Python 3.13 at run time

__all__ = ["DEFAULT_CAPACITY", "EventSink", "EventTypes", "Overflow", "Subscriber"]

DEFAULT_CAPACITY = 2_048
"""The number of events that a mailbox holds by default."""

EventTypes: TypeAlias = "type[Event] | UnionType | tuple[type[Event], ...]"
"""The events of a subscription: an event class, a union (``A | B``) or a tuple of them."""


class Overflow(Enum):
    """Which event is lost when a mailbox is full."""

    DROP_OLDEST = "drop_oldest"
    """The oldest queued event: for observers of the current state."""
    DROP_NEWEST = "drop_newest"
    """The new event: for subscribers that need the beginning."""
    COALESCE = "coalesce"
    """The queued event with the same key as the new one, even if the mailbox is not full: for live
    progress. Beyond `capacity` different keys, the oldest queued event."""
    WAIT = "wait"
    """None if `publish_wait` is used, which waits for room. `publish` never waits: it drops the new
    event."""


@runtime_checkable
class EventSink(Protocol):
    """Anything that events can be published to; trackers use no more of a bus."""

    def publish(self, event: Event) -> bool:
        """Take an event without waiting; return whether it was accepted."""
        ...


class Subscriber(Generic[EventT]):
    """A component that consumes events: subclass it and override `handle` or `handle_batch`.

    Attributes:
        events: The events that it gets: an event class, or a union of them. Subclasses are included. By
            default the type argument: `NodeCompleted` for a ``Subscriber[NodeCompleted]``, and `Event`
            without one.
        capacity: How many events its mailbox holds.
        overflow: Which event is lost when the mailbox is full.
        key: With `Overflow.COALESCE`, a cheap, pure function of an event: of the queued events with
            equal keys only the latest is kept. It runs in the publisher's thread.
        max_batch: The most events that `handle_batch` gets at once.
        name: Its name in statistics, logs and `SubscriberFailed`; by default that of its class.
    """

    events: EventTypes = Event
    capacity: int = DEFAULT_CAPACITY
    overflow: Overflow = Overflow.DROP_OLDEST
    key: Callable[[Any], Hashable] | None = None
    max_batch: int = 512
    name: str | None = None

    handles_batches: ClassVar[bool] = False
    """Whether `handle_batch` is overridden; set when the class is created."""

    _events_of_type: ClassVar[EventTypes] = Event
    """The events of the type argument, where `events` is not set."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Set `events` from the type argument, unless the class sets it.

        Raises:
            SubscriberError: The class sets `events` that its type argument does not cover, or its type
                argument contains no event class.
        """
        super().__init_subclass__(**kwargs)
        cls.handles_batches = cls.handle_batch is not Subscriber.handle_batch
        argument = type_argument(cls, Subscriber)
        if "events" in cls.__dict__ or cls.events is not cls._events_of_type:
            check_covers(cls, cls.events, argument)
        elif argument is not Any:
            cls.events = cls._events_of_type = events_of_argument(cls, argument)

    async def start(self, bus: EventBus) -> None:
        """Prepare to consume; called once, on the host, before the first event.

        If it raises, the subscription ends, and a `SubscriberFailed` is published.

        Args:
            bus: The bus subscribed to; keep it to publish on it.
        """

    async def handle(self, event: EventT) -> None:
        """Consume one event.

        Args:
            event: The next event in the bus's order, or an `EventsLost` where events are missing, if
                `events` includes that class, as `Event` does.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither handle nor handle_batch")

    async def handle_batch(self, events: Sequence[EventT]) -> None:
        """Consume the queued events, at most `max_batch`; a subclass overrides this instead of `handle`.

        Args:
            events: At least one event, in the bus's order.
        """
        for event in events:
            await self.handle(event)

    async def stop(self) -> None:
        """Finish; called once, on the host, after the last event and within the deadline of the close."""
