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
            block = self._blocks.popleft()
            length, count = len(block.lines), block.line_count
            if size < length:
                length, count = size, block.lines.count(b"\n", 0, size)
                rest = Block(block.lines[size:], block.line_count - count, block.first_seq + count)
                self._blocks.appendleft(rest)
            self.count -= count
            self.size -= length
            size -= length
        return before - self.count

    def drop_first(self) -> None:
        """Drop the oldest line."""
        self.drop(self._blocks[0].lines.index(b"\n") + 1)

    def drop_oldest(self, *, max_count: int, max_size: int) -> int:
        """Drop the oldest lines beyond these bounds; return how many."""
        lost = 0
        while self.size > max_size or self.count > max_count:
            block = self._blocks[0]
            end = len(block.lines)
            if self.size - end < max_size and self.count - block.line_count < max_count:
                end = _end_of_excess(block.lines, self.count - max_count, self.size - max_size)
            lost += self.drop(end)
        return lost


def _end_of_excess(lines: bytes, count: int, size: int) -> int:
    """Return the end of the first line with which at least `count` lines and `size` bytes are over."""
    end = lines.index(b"\n", max(size - 1, 0)) + 1
    for _ in range(count - lines.count(b"\n", 0, end)):
        end = lines.index(b"\n", end) + 1
    return end
