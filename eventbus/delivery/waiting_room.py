"""The publishers that wait for room in a mailbox."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

__all__ = ["EMPTY_WAITING_ROOM", "WaitingRoom"]


class WaitingRoom:
    """Notifies waiting publishers in the order in which they came.

    Publishers are added and removed in the bus's critical section, and notified outside it.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def __bool__(self) -> bool:
        """Whether a publisher waits."""
        return bool(self._waiting)

    def add(self, notify: Callable[[], None]) -> None:
        """Have `notify` called once, after those added before."""
        self._waiting.append(notify)

    def remove(self, notify: Callable[[], None]) -> None:
        """Undo `add`; does nothing if `notify` has been called."""
        if notify in self._waiting:
            self._waiting.remove(notify)

    def notify_next(self) -> None:
        """Notify the publisher that has waited longest."""
        with suppress(IndexError):  # another thread notified the last one
            self._waiting.popleft()()

    def notify_all(self) -> None:
        """Notify every waiting publisher."""
        while self._waiting:
            self.notify_next()


EMPTY_WAITING_ROOM = WaitingRoom()
"""The empty waiting room of all mailboxes that no publisher waits for."""
