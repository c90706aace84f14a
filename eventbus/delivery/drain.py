"""Wait until subscriptions have handled the events they had accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from eventbus.delivery.doorbell import Waiter

if TYPE_CHECKING:
    from eventbus.delivery.subscription import Subscription

__all__ = ["Drain"]


class Drain:
    """One wait for several subscriptions; make it in the task that waits.

    Args:
        subscriptions: The subscriptions; it waits for the events that are in their mailboxes now.
    """

    __slots__ = ("_busy", "_left", "_waiter")

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self._waiter = Waiter()
        self._busy = [each for each in subscriptions if not each.is_at_rest()]
        self._left = len(self._busy) * [None]  # a list: popping is atomic, in any thread
        for each in self._busy:
            each.add_drain(self)

    def note_handled(self) -> None:
        """Note that one subscription is done. From any thread, once for each."""
        self._left.pop()
        if not self._left:
            self._waiter.notify()

    async def wait(self) -> None:
        """Wait until all are done."""
        if self._left:
            await self._waiter.wait()

    def unhandled(self) -> list[Subscription]:
        """Return the subscriptions that it still waits for."""
        return [each for each in self._busy if each.has_drain(self)]

    def close(self) -> None:
        """Stop waiting: the subscriptions need not notify it any more."""
        for each in self._busy:
            each.remove_drain(self)
