"""A bus for tests: after `settle` everything has been delivered, and what follows from it, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio

from eventbus.bus import EventBus
from eventbus.contracts import Subscriber
from eventbus.delivery.statistics import undelivered_text
from eventbus.events import Event, SubscriberFailed

__all__ = ["SettlingBus"]

_SETTLE_SECONDS = 5.0


class SettlingBus(EventBus):
    """An `EventBus` that a test can wait for.

        with SettlingBus([subscriber, recorder]) as bus:
            bus.play(quality_session())  # publish, and settle

    Between two calls of `settle` its subscribers run as on any bus; after one nothing is queued or being
    handled, so that what a test looks at is the same in every run. In an async test, await `asettle`.

    Args:
        subscribers: The subscribers.
        allow_failures: False to fail the test when a subscriber has raised.
    """

    def __init__(
        self,
        subscribers: Iterable[Subscriber[Any] | Callable[[Any], object]] = (),
        *,
        allow_failures: bool = False,
    ) -> None:
        super().__init__(subscribers, name="settling-bus")
        self._allow_failures = allow_failures
        self._failures: list[SubscriberFailed] = []
        self.tap(SubscriberFailed).connect(self._failures.append, weak=False)

    def play(self, events: Iterable[Event]) -> None:
        """Publish events, and settle; not in an event loop.

        Raises:
            AssertionError: An event was refused, or as `settle`.
        """
        self._publish_all(events)
        self.settle()

    async def aplay(self, events: Iterable[Event]) -> None:
        """Publish events, and settle, in a task.

        Raises:
            AssertionError: An event was refused, or as `settle`.
        """
        self._publish_all(events)
        await self.asettle()

    def settle(self, timeout: float = _SETTLE_SECONDS) -> None:
        """Wait until every event is handled, those that handlers publish included; not in an event loop.

        Args:
            timeout: The most seconds to wait.

        Raises:
            AssertionError: It takes longer, or a subscriber has raised.
        """
        anyio.run(self.asettle, timeout)

    async def asettle(self, timeout: float = _SETTLE_SECONDS) -> None:
        """Wait in a task, as `settle` does.

        Args:
            timeout: The most seconds to wait.

        Raises:
            AssertionError: It takes longer, or a subscriber has raised.
        """
        until = anyio.current_time() + timeout
        accepted = -1
        while accepted != self.statistics().accepted:  # handlers have published more
            accepted = self.statistics().accepted
            report = await self.drain(max(until - anyio.current_time(), 0.0))
            if not report:
                raise AssertionError(
                    f"the bus did not settle within {timeout:g} s: {undelivered_text(report)}"
                )
        self._check_failures()

    def _publish_all(self, events: Iterable[Event]) -> None:
        for event in events:
            if not self.publish(event):
                raise AssertionError(f"the bus refused {event!r}: it is closed")

    def _check_failures(self) -> None:
        failures, self._failures[:] = list(self._failures), []
        if failures and not self._allow_failures:
            first = failures[0]
            raise AssertionError(
                f"{first.subscriber} raised {first.error_type}, and {len(failures) - 1} more failures; "
                "the log has the traceback"
            )
