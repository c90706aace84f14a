"""Wait until subscriptions have handled the events they had accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus.delivery.subscription import Subscription

__all__ = ["Drain"]


class Drain:
    """One wait for several subscriptions.

    Args:
        subscriptions: The subscriptions; it waits for the events that are in their mailboxes now.
        on_done: Called when all are done, possibly twice. From any thread; at once if nothing is queued.
    """

    __slots__ = ("_busy", "_left", "_on_done")

    def __init__(self, subscriptions: Iterable[Subscription], on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._busy = [each for each in subscriptions if not each.is_at_rest()]
        self._left = len(self._busy) * [None]  # a list: popping is atomic, in any thread
        if not self._busy:
            on_done()
        for each in self._busy:
            each.add_drain(self)

    def note_handled(self) -> None:
        """Note that one subscription is done. From any thread, once for each."""
        self._left.pop()
        if not self._left:
            self._on_done()

    def unhandled(self) -> list[Subscription]:
        """Return the subscriptions that it still waits for."""
        return [each for each in self._busy if each.has_drain(self)]

    def close(self) -> None:
        """Stop waiting: the subscriptions need not notify it any more."""
        for each in self._busy:
            each.remove_drain(self)
