"""A recorder: a subscriber, and a sink for trackers, that keeps events and makes assertions about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

from eventbus.contracts import Subscriber
from eventbus.events import Event

__all__ = ["Recorder"]

_EventT = TypeVar("_EventT", bound=Event)


class Recorder(Subscriber[Event]):
    """Keeps every event that it gets.

        recorder = Recorder()
        with SettlingBus([SlowNodes(), recorder]) as bus:
            bus.play(quality_session(failed=["tests"]))
        found = recorder.one(PatternDetected, pattern="slow")  # a PatternDetected, also for type checkers

    It is an `EventSink` as well: a tracker publishes to it without a bus.

    Attributes:
        recorded: The events, in order.
    """

    capacity = 1_000_000
    name = "recorder"

    def __init__(self) -> None:
        self.recorded: list[Event] = []

    async def handle(self, event: Event) -> None:
        """Keep an event."""
        self.recorded.append(event)

    def publish(self, event: Event) -> bool:
        """Keep an event that is published to this sink."""
        self.recorded.append(event)
        return True

    def all(self, kind: type[_EventT], **fields: Any) -> list[_EventT]:
        """Return the events of a class, subclasses included, whose fields have these values."""
        return [event for event in self.recorded if isinstance(event, kind) and _has(event, fields)]

    def one(self, kind: type[_EventT], **fields: Any) -> _EventT:
        """Return the only event of a class whose fields have these values.

        Raises:
            AssertionError: There is none, or more than one.
        """
        found = self.all(kind, **fields)
        if len(found) != 1:
            raise AssertionError(f"expected one {_text(kind, fields)}, but there are {self._count(found)}")
        return found[0]

    def none(self, kind: type[Event], **fields: Any) -> None:
        """Assert that there is no event of a class whose fields have these values.

        Raises:
            AssertionError: There is one.
        """
        found = self.all(kind, **fields)
        if found:
            raise AssertionError(f"expected no {_text(kind, fields)}, but there are {self._count(found)}")

    def in_order(self, *kinds: type[Event]) -> None:
        """Assert that events of these classes were recorded in this order, others between them or not.

        Raises:
            AssertionError: They were not.
        """
        rest = iter(self.recorded)
        for kind in kinds:
            if not any(isinstance(event, kind) for event in rest):
                order = ", ".join(type(event).__name__ for event in self.recorded)
                raise AssertionError(f"expected {kind.__name__} in its place, but the order is: {order}")

    def clear(self) -> None:
        """Forget what was recorded."""
        self.recorded.clear()

    def _count(self, found: list[Any]) -> str:
        counts = Counter(type(event).__name__ for event in self.recorded)
        kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        shown = "".join(f"\n  {event!r}" for event in found[:5])
        return f"{len(found)} among: {kinds or 'no events'}{shown}"


def _has(event: Event, fields: Mapping[str, Any]) -> bool:
    # A field that the class does not have is a mistake in the test: AttributeError.
    return all(getattr(event, name) == value for name, value in fields.items())


def _text(kind: type[Event], fields: Mapping[str, Any]) -> str:
    wanted = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"{kind.__name__}({wanted})" if wanted else kind.__name__
