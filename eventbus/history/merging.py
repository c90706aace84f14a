"""Merge the records of all writers into one order.

The records of one writer stay in the order in which its bus numbered them, whatever its clock did.
Records of different writers are ordered by time, where a record counts as no earlier than the ones
before it of its own writer. Of the segments that overlap in time, one block each is in memory.
"""

from __future__ import annotations

import errno
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from eventbus.history.reading import OnDamage, Reader
from eventbus.history.segment_files import FirstLine, SegmentFile
from eventbus.history.stored_lines import BLOCK_BYTES, Block, Damage, StoredLines

__all__ = ["Decode", "SegmentCursor", "WriterSegments", "merge"]

_ItemT = TypeVar("_ItemT")
Decode: TypeAlias = "Callable[[Reader, Block], list[_ItemT]]"
"""Decodes a block to items, which are records, events or raw structs."""

_WHOLE_BLOCKS = 8  # of this many overlapping segments; more segments get smaller blocks
_SMALLEST_BLOCK = 16 * 1024
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EAGAIN)
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02


class SegmentCursor(NamedTuple):
    """How far a segment has been read."""

    segment: SegmentFile
    lines: StoredLines
    reader: Reader


class WriterSegments(Generic[_ItemT]):
    """The segments of one writer, read one after the other.

    Args:
        segments: In order.
        decode: Decodes a block to items.
        time_of: Returns when an item happened.
        on_damage: Called with each place that is skipped.
        positions: Where to begin in a segment, by its file's name; by default at its beginning.
        leaves_tail: True if a `TailedWriter` continues: the last segment's tail, which may still grow,
            is not read, and nothing is read from a segment on that cannot be read.

    Attributes:
        cursor: The segment that is being read, or that was read last.
        cursors: All segments that reading has begun with.
        key: A lower bound for the times of the remaining items.
        items: The items of the last decoded block.
        taken: How many of them have been taken.
        went_back: True if an item so far was earlier than one before it, as where a clock was set back.
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
        self.taken: int = 0
        self.went_back: bool = False
        self._latest = self.key  # of all items so far
        self._segments = [segment for segment, _ in reversed(segments)]
        self._decode = decode
        self._time_of = time_of
        self._on_damage = on_damage
        self._positions = positions or {}
        self._leaves_tail = leaves_tail
        self._at_end = True
        self.cursors: list[SegmentCursor] = []
        self.cursor: SegmentCursor = self._begin(segment)

    def load(self, block_size: int) -> bool:
        """Read until there are items to take; return False at the end."""
        while self.taken == len(self.items):
            block = self._next_block(block_size)
            if block is None:
                self.items, self.taken = [], 0  # not kept in memory until all writers have been read
                return False
            self.items, self.taken = self._decode(self.cursor.reader, block), 0
            self._note_times(list(map(self._time_of, self.items)))
        self.key = max(self.key, self._time_of(self.items[self.taken]))
        return True

    def take(self, limit: datetime | None, wins_ties: bool) -> list[_ItemT]:
        """Return the items that come before the next item of the other writers.

        Args:
            limit: The key of that item; None if there is none, which takes all items.
            wins_ties: True if items of the same time come first.
        """
        start = self.taken
        if limit is None or _is_before(max(self.key, self._latest), limit, wins_ties):
            self.key, self.taken = max(self.key, self._latest), len(self.items)
        else:
            self._take_before(limit, wins_ties)
        return self.items[start : self.taken] if start or self.taken < len(self.items) else self.items

    def _note_times(self, times: list[datetime]) -> None:
        if not times:
            return
        in_order = sorted(times)
        self.went_back = self.went_back or times[0] < self._latest or times != in_order
        self._latest = in_order[-1]

    def _take_before(self, limit: datetime, wins_ties: bool) -> None:
        while True:  # ends at the latest item, which is not before the limit
            key = max(self.key, self._time_of(self.items[self.taken]))
            if not _is_before(key, limit, wins_ties):
                return
            self.key = key
            self.taken += 1

    def _begin(self, segment: SegmentFile) -> SegmentCursor:
        lines = StoredLines(segment.path, self._positions.get(segment.path.name, 0))
        return SegmentCursor(segment, lines, Reader(segment, self._on_damage))

    def _next_block(self, size: int) -> Block | None:
        while self._segments or not self._at_end:
            if self._at_end:
                self.cursor, self._at_end = self._begin(self._segments.pop()), False
                self.cursors.append(self.cursor)
            block = self._read(self.cursor.lines, size)
            if block is not None:
                return block
        return None

    def _read(self, lines: StoredLines, size: int) -> Block | None:
        """Return the next block of a segment; None at damage or at the segment's end."""
        block = self._try_to_read(lines, size)
        if isinstance(block, Damage):
            self._on_damage(block)
            return None
        self._at_end = block is None or block.is_tail
        if self._leaves_tail and not self._segments:
            return None if self._at_end else block
        if block is None and (damage := lines.overlong_tail()):
            self._on_damage(damage)
        return block

    def _try_to_read(self, lines: StoredLines, size: int) -> Block | Damage | None:
        try:
            block = lines.next_block(size) if self._leaves_tail else _read_patiently(lines, size)
        except OSError as error:
            if self._leaves_tail:
                self._segments.clear()  # `TailedWriter` tries again, and reads them in order
            elif not isinstance(error, FileNotFoundError) or not _has_directory(lines.path):
                self._report(lines, str(error))
            return None  # if only the file is missing, it was deleted, which is its end
        if lines.is_replaced:
            if self._leaves_tail:
                self._segments.clear()
            else:
                self._report(lines, "the file was replaced while it was read; the rest of it was not read")
        return block

    def _report(self, lines: StoredLines, reason: str) -> None:
        self._on_damage(Damage(path=lines.path, offset=lines.position, length=0, reason=reason))


def _read_patiently(lines: StoredLines, size: int) -> Block | Damage | None:
    """Read a block; try again for a second if that fails for a reason that may pass.

    Raises:
        OSError: It still fails.
    """
    give_up_at: float | None = None
    while True:
        try:
            return lines.next_block(size)
        except OSError as error:
            give_up_at = give_up_at or time.monotonic() + _PATIENCE_SECONDS
            if not _may_pass(error, lines.path) or time.monotonic() > give_up_at:
                raise
            time.sleep(_PAUSE_SECONDS)


def _may_pass(error: OSError, path: Path) -> bool:
    is_away = isinstance(error, FileNotFoundError) and not _has_directory(path)
    return is_away or error.errno in _PASSING


def _has_directory(path: Path) -> bool:
    return path.parent.is_dir()


def merge(writers: Iterable[WriterSegments[_ItemT]]) -> Iterator[list[_ItemT]]:
    """Yield the items of all writers in order, several at a time."""
    heap = [(writer.key, order, writer) for order, writer in enumerate(writers)]
    heapq.heapify(heap)
    being_read: set[int] = set()
    while heap:
        _, order, writer = heap[0]
        being_read.add(order)
        if not writer.load(_block_size(len(being_read))):
            heapq.heappop(heap)
            being_read.discard(order)
            continue
        heapq.heapreplace(heap, (writer.key, order, writer))
        if heap[0][1] == order:
            # The second smallest item of a heap is one of the two below its top.
            limit, other = min([(key, other) for key, other, _ in heap[1:3]], default=(None, 0))
            yield writer.take(limit, order < other)


def _is_before(key: datetime, limit: datetime, wins_ties: bool) -> bool:
    return key < limit or (wins_ties and key == limit)


def _block_size(count: int) -> int:
    """Return how much to read at once of each of this many overlapping segments."""
    return max(_SMALLEST_BLOCK, min(BLOCK_BYTES, _WHOLE_BLOCKS * BLOCK_BYTES // count))
