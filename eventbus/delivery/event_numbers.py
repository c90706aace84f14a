"""The bus's numbers of a mailbox's events, between which are those of events for others."""

from __future__ import annotations

from collections import deque

__all__ = ["EventNumbers"]


class EventNumbers:
    """Maps positions in one mailbox's order of events to the bus's numbers.

    Attributes:
        offset: How far the number of the last event is ahead of its position; None before the first.
    """

    __slots__ = ("_offsets", "offset")

    def __init__(self) -> None:
        # Pairs: from the event at this position on, the number is this far ahead of the position.
        self._offsets: deque[tuple[int, int]] = deque()
        self.offset: int | None = None

    def note(self, position: int, offset: int, oldest: int) -> None:
        """Note that from a position on, numbers are `offset` ahead; forget those before position `oldest`."""
        self._forget(oldest)
        self._offsets.append((position, offset))  # a second time, if it is repeated: no harm
        self.offset = offset

    def at(self, position: int) -> int:
        """Return the number of the event at a position; call with ascending positions."""
        self._forget(position)
        return position + self._offsets[0][1]

    def _forget(self, position: int) -> None:
        offsets = self._offsets
        while len(offsets) > 1 and offsets[1][0] <= position:
            offsets.popleft()
