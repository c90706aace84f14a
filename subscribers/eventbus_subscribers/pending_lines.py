"""Lines that wait to be written, for example while a disk is full, within bounds."""

from __future__ import annotations

from collections import deque

from eventbus_subscribers.blocks import Block

__all__ = ["PendingLines"]


class PendingLines:
    """A queue of whole lines, kept in the blocks in which they were added.

    Attributes:
        count: How many lines.
        size: How many bytes.
    """

    __slots__ = ("_blocks", "count", "size")

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque()
        self.count: int = 0
        self.size: int = 0

    def add(self, block: Block) -> None:
        """Add lines."""
        self._blocks.append(block)
        self.count += block.line_count
        self.size += len(block.lines)

    def first_block(self) -> Block:
        """Return the oldest block, without removing it."""
        return self._blocks[0]

    def drop(self, size: int) -> int:
        """Drop the first `size` bytes, which must end with a line; return the number of lines dropped."""
        before = self.count
        while size:
            lines, count, first_seq = self._blocks.popleft()
            if size < len(lines):
                dropped = lines.count(b"\n", 0, size)
                self._blocks.appendleft(Block(lines[size:], count - dropped, first_seq + dropped))
                lines, count = lines[:size], dropped
            self.count -= count
            self.size -= len(lines)
            size -= len(lines)
        return before - self.count

    def drop_oldest(self, *, max_count: int, max_size: int) -> int:
        """Drop the oldest lines beyond these bounds; return how many."""
        lost = 0
        while self.size > max_size or self.count > max_count:
            lines, count, _ = self._blocks[0]
            end = len(lines)
            if self.size - end < max_size and self.count - count < max_count:
                end = _end_of_excess(lines, self.count - max_count, self.size - max_size)
            lost += self.drop(end)
        return lost


def _end_of_excess(lines: bytes, count: int, size: int) -> int:
    """Return the end of the first line with which at least `count` lines and `size` bytes are over."""
    end = lines.index(b"\n", max(size - 1, 0)) + 1
    for _ in range(count - lines.count(b"\n", 0, end)):
        end = lines.index(b"\n", end) + 1
    return end
