"""Wait until subscriptions have handled what they had accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from eventbus.delivery.doorbell import Waiter

if TYPE_CHECKING:
    from eventbus.delivery.subscription import Subscription

__all__ = ["Drain"]


class Drain:
    """One wait for all of them; make it in the task that waits.

    Args:
        subscriptions: Whose events are waited for: those that have been put into their mailboxes.
    """

    __slots__ = ("_busy", "_left", "_waiter")

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self._waiter = Waiter()
        self._busy = [each for each in subscriptions if not each.is_at_rest()]
        self._left = len(self._busy) * [None]  # a list: taking one out is one step, in any thread
        for each in self._busy:
            each.tell_when_handled(self)

    def note_handled(self) -> None:
        """One subscription is done. From any thread, once for each."""
        self._left.pop()
        if not self._left:
            self._waiter.notify()

    async def wait(self) -> None:
        """Wait until all are done."""
        if self._left:
            await self._waiter.wait()

    def forget(self) -> None:
        """Wait no more: the subscriptions need not tell."""
        for each in self._busy:
            each.forget_drain(self)
