"""Lines that wait to be written, within bounds: while a disk is full, say."""

from __future__ import annotations

from collections import deque

__all__ = ["PendingLines"]


class PendingLines:
    """Whole lines, in order, as the blocks they came in.

    Attributes:
        count: How many lines.
        size: How many bytes.
    """

    __slots__ = ("_blocks", "count", "size")

    def __init__(self) -> None:
        self._blocks: deque[tuple[bytes, int]] = deque()
        self.count: int = 0
        self.size: int = 0

    def add(self, lines: bytes, count: int) -> None:
        """Add lines, each ended by its line feed; `count` of them."""
        self._blocks.append((lines, count))
        self.count += count
        self.size += len(lines)

    def first_block(self) -> bytes:
        """Return the oldest lines, as many as came together; they stay until they are dropped."""
        return self._blocks[0][0]

    def drop(self, size: int) -> int:
        """Drop the first `size` bytes, which end where a line ends; return how many lines they were."""
        before = self.count
        while size:
            lines, count = self._blocks.popleft()
            if size < len(lines):
                dropped = lines.count(b"\n", 0, size)
                self._blocks.appendleft((lines[size:], count - dropped))
                lines, count = lines[:size], dropped
            self.count -= count
            self.size -= len(lines)
            size -= len(lines)
        return before - self.count

    def drop_oldest(self, *, max_count: int, max_size: int) -> int:
        """Drop the oldest lines beyond these bounds; return how many."""
        lost = 0
        while self.size > max_size or self.count > max_count:
            lines, count = self._blocks[0]
            end = len(lines)
            if self.size - end < max_size and self.count - count < max_count:
                end = _end_of_excess(lines, self.count - max_count, self.size - max_size)
            lost += self.drop(end)
        return lost


def _end_of_excess(lines: bytes, count: int, size: int) -> int:
    """Return where the first line ends by which so many lines and bytes are through."""
    end = lines.index(b"\n", max(size - 1, 0)) + 1
    for _ in range(count - lines.count(b"\n", 0, end)):
        end = lines.index(b"\n", end) + 1
    return end
