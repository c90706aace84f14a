"""One order for the records of all buses: each bus's own, and across buses the time.

A bus's records are in the order it numbered them, whatever its clock did. Across buses the record
that happened first comes first, where each counts as no earlier than those before it of its bus.
Only the segments that overlap in time are read at once, a block of each.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from eventbus.history.reading import OnDamage, Reader
from eventbus.history.segment_files import FirstLine, SegmentFile
from eventbus.history.stored_lines import BLOCK_BYTES, Block, Damage, StoredLines

__all__ = ["Chain", "Place", "merge"]

_ItemT = TypeVar("_ItemT")
Decode: TypeAlias = "Callable[[Reader, Block], list[_ItemT]]"
_WHOLE_BLOCKS = 8  # in memory at once; more segments that overlap have smaller ones
_SMALLEST_BLOCK = 16 * 1024


class Place(NamedTuple):
    """How far a segment has been read."""

    segment: SegmentFile
    lines: StoredLines
    reader: Reader


class Chain(Generic[_ItemT]):
    """The segments of one writer, read one after the other.

    Args:
        segments: In order.
        decode: Makes items of a block.
        time_of: When an item happened.
        on_damage: Is told of what is skipped.
        positions: Where to begin in a segment, by its file's name; at its beginning by default.
        leaves_tail: Do not read what stands behind the last line feed of all; it may grow.

    Attributes:
        last: The segment, lines and reader at which it ended, or is.
        key: No item that is still to come counts as earlier.
        items: What has been decoded and not been taken, in order.
    """

    def __init__(
        self,
        segments: list[tuple[SegmentFile, FirstLine]],
        decode: Decode[_ItemT],
        time_of: Callable[[_ItemT], datetime],
        on_damage: OnDamage,
        *,
        positions: Mapping[str, int] | None = None,
        leaves_tail: bool = False,
    ) -> None:
        segment, first = segments[0]
        self.key: datetime = first.earliest or segment.start
        self.items: list[_ItemT] = []
        self._latest = self.key  # of the items, whether taken or not
        self.taken: int = 0
        self._segments = [segment for segment, _ in reversed(segments)]
        self._decode = decode
        self._time_of = time_of
        self._on_damage = on_damage
        self._positions = positions or {}
        self._leaves_tail = leaves_tail
        self._at_end = True
        self.last: Place = self._begin(segment)

    def load(self, block_size: int) -> bool:
        """Have items, if there are more; answer whether there are."""
        while self.taken == len(self.items):
            block = self._next_block(block_size)
            if block is None:
                return False
            self.items, self.taken = self._decode(self.last.reader, block), 0
            self._latest = max(map(self._time_of, self.items), default=self._latest)
        self.key = max(self.key, self._time_of(self.items[self.taken]))
        return True

    def take(self, limit: datetime | None, includes_limit: bool) -> list[_ItemT]:
        """Return the items that come before another chain's next one: all there are where it is None.

        Args:
            limit: When the other's counts as having happened.
            includes_limit: Whether of two items of one time this chain's comes first.
        """
        start = self.taken
        if limit is None or _is_due(max(self.key, self._latest), limit, includes_limit):
            self.key, self.taken = max(self.key, self._latest), len(self.items)
        else:
            self._pass_due(limit, includes_limit)
        return self.items[start : self.taken] if start or self.taken < len(self.items) else self.items

    def _pass_due(self, limit: datetime, includes_limit: bool) -> None:
        while True:  # one of them is not due: the latest of all is not
            key = max(self.key, self._time_of(self.items[self.taken]))
            if not _is_due(key, limit, includes_limit):
                return
            self.key = key
            self.taken += 1

    def _begin(self, segment: SegmentFile) -> Place:
        lines = StoredLines(segment.path, self._positions.get(segment.path.name, 0))
        return Place(segment, lines, Reader(segment, self._on_damage))

    def _next_block(self, size: int) -> Block | None:
        while self._segments or not self._at_end:
            if self._at_end:
                self.last, self._at_end = self._begin(self._segments.pop()), False
            block = self._read(self.last.lines, size)
            if block is not None:
                return block
        return None

    def _read(self, lines: StoredLines, size: int) -> Block | None:
        """Return the next block of a segment; None where it was damage, or the segment's end."""
        block: Block | Damage | None = None
        try:
            block = lines.next_block(size)
        except FileNotFoundError:  # deleted since: it has no more lines
            pass
        except OSError as error:
            self._on_damage(Damage(path=lines.path, offset=lines.position, length=0, reason=str(error)))
        if isinstance(block, Damage):
            self._on_damage(block)
            return None
        self._at_end = block is None or block.is_tail
        if self._leaves_tail and not self._segments:
            return None if self._at_end else block
        if block is None and (damage := lines.unfinished()):
            self._on_damage(damage)
        return block


def merge(chains: Iterable[Chain[_ItemT]]) -> Iterator[list[_ItemT]]:
    """Yield the items of all chains in order, some at a time."""
    waiting = [(chain.key, order, chain) for order, chain in enumerate(chains)]
    heapq.heapify(waiting)
    being_read: set[int] = set()
    while waiting:
        _, order, chain = waiting[0]
        being_read.add(order)
        if not chain.load(_block_size(len(being_read))):
            heapq.heappop(waiting)
            being_read.discard(order)
            continue
        heapq.heapreplace(waiting, (chain.key, order, chain))
        if waiting[0][1] == order:
            # The second smallest of a heap is one of the two below its top.
            limit, other = min([(key, other) for key, other, _ in waiting[1:3]], default=(None, 0))
            yield chain.take(limit, order < other)


def _is_due(key: datetime, limit: datetime, includes_limit: bool) -> bool:
    return key < limit or (includes_limit and key == limit)


def _block_size(count: int) -> int:
    """Return how much to read at once of each of so many segments that overlap."""
    return max(_SMALLEST_BLOCK, min(BLOCK_BYTES, _WHOLE_BLOCKS * BLOCK_BYTES // count))
