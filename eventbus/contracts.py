"""What a plugin author must know: subclass `Subscriber`, or write to an `EventSink`.

    class SlowNodes(Subscriber[NodeCompleted]):
        async def handle(self, event: NodeCompleted) -> None:
            if (event.duration_seconds or 0) > 10:
                print(event.node_id)

`start`, `handle`, `handle_batch` and `stop` run one at a time, in one task, on the bus's host. What
they raise is counted, logged and reported as `SubscriberFailed`, and harms nobody else.
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
"""How many events a mailbox holds unless told otherwise."""

EventTypes: TypeAlias = "type[Event] | UnionType | tuple[type[Event], ...]"
"""What a subscription wants: an event class, a union of them (``A | B``), or a tuple."""


class Overflow(Enum):
    """What is sacrificed when a mailbox is full."""

    DROP_OLDEST = "drop_oldest"
    """The oldest queued event: for observers, who care for what happens now."""
    DROP_NEWEST = "drop_newest"
    """The new event: for those who must not miss how it began."""
    COALESCE = "coalesce"
    """The queued event with the same key as the new one, full or not: for live progress.
    Beyond `capacity` different keys, the oldest queued event."""
    WAIT = "wait"
    """Nothing, for those who publish with `publish_wait`: they wait for room. A plain `publish` may
    not wait, and loses the new event."""


@runtime_checkable
class EventSink(Protocol):
    """Anything events can be published to; what trackers know of a bus."""

    def publish(self, event: Event) -> bool:
        """Take an event without waiting; answer whether it was accepted."""
        ...


class Subscriber(Generic[EventT]):
    """A component that consumes events: subclass it and override `handle` or `handle_batch`.

    Attributes:
        events: What it wants: an event class, or a union of them. Subclasses are included.
        capacity: How many events its mailbox holds.
        overflow: What is sacrificed when the mailbox is full.
        key: With `Overflow.COALESCE`, a cheap, pure function of an event: of the queued events with
            equal keys only the latest is kept. It runs in the publisher's thread.
        max_batch: The most events `handle_batch` is given at once.
        name: What statistics, logs and `SubscriberFailed` call it; by default its class's name.
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

        If it raises, the subscription ends, and says so.

        Args:
            bus: The bus subscribed to; keep it to publish back.
        """

    async def handle(self, event: EventT) -> None:
        """Consume one event.

        Args:
            event: The next event in the bus's order, or an `EventsLost` where some are missing (if
                `events` includes that class, as `Event` does).
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither handle nor handle_batch")

    async def handle_batch(self, events: Sequence[EventT]) -> None:
        """Consume all that is queued, up to `max_batch` events; overrides `handle` when defined.

        Args:
            events: At least one event, in the bus's order.
        """
        for event in events:
            await self.handle(event)

    async def stop(self) -> None:
        """Finish; called once, on the host, after the last event, within the close's deadline."""
