"""Read a segment that may still grow, again and again."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from eventbus.history.merging import SegmentCursor
from eventbus.history.reading import OnDamage, Reader, Record
from eventbus.history.record_numbers import RecordNumbers, has_number
from eventbus.history.segment_files import SegmentFile, read_first_line
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import MAX_LINE_BYTES, Block, Damage, StoredLines, read_bytes
from eventbus.history.writer_lock import has_writer

__all__ = ["TailedSegment"]

_LAST_NUMBER = re.compile(rb'(?:\n|^)\{"seq":(\d{1,18}),[^\n]*\n?$')
_SETTLED_NS = 100_000_000  # two changes within a tick of the file system's clock have the same time
_FIRST_BYTES = 8_192
_EVERYTHING = Selection()
_Status: TypeAlias = tuple[tuple[int, int, int], int]


class TailedSegment:
    """One segment that is being followed.

    An unfinished line is read when it is finished. A complete record without a line feed counts as
    finished: its writer will not write it again. If the file was replaced, truncated or rewritten, it
    is read from the beginning, without the records that have been received already.

    Args:
        segment: The segment.
        origins: The numbers that were received from the segments of its writer, by their headers.
        selection: Which records are wanted.
        on_damage: Called with each place that is skipped.
        first_seq: The number of its first record; None if that is not known.

    Attributes:
        path: The file.
        name: The file's name.
        first_seq: The number of its first record; None if that is not known.
        is_at_end: True if the last read found nothing more.
        failed_at: When reading it began to fail, on the monotonic clock; None if it does not fail.
        changed_at: When the last read found something, on the monotonic clock.
    """

    __slots__ = (
        "_has_been_read",
        "_has_writer",
        "_is_settled",
        "_lines",
        "_on_damage",
        "_origins",
        "_reader",
        "_received",
        "_reread_to",
        "_seen",
        "_selection",
        "_skip_before",
        "changed_at",
        "failed_at",
        "first_seq",
        "is_at_end",
        "name",
        "path",
    )

    def __init__(
        self,
        segment: SegmentFile,
        origins: dict[bytes, RecordNumbers],
        selection: Selection,
        on_damage: OnDamage,
        first_seq: int | None = None,
    ) -> None:
        self.path: Path = segment.path
        self.name: str = segment.path.name
        self.first_seq: int | None = first_seq
        self.is_at_end: bool = False
        self.failed_at: float | None = None
        self.changed_at: float = 0.0
        self._origins = origins
        self._received: RecordNumbers | None = None
        self._selection = selection
        self._on_damage = on_damage
        self._lines = StoredLines(segment.path)
        self._reader = Reader(segment, on_damage)
        self._seen: _Status | None = None  # its status before the last read
        self._has_been_read = False  # True if that read reached its end
        self._is_settled = False  # True if a later change would show in its status
        self._skip_before: int | None = None
        self._reread_to = 0  # lines up to this byte have been read from an earlier file
        self._has_writer: bool | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """How soon it is likely to grow; segments of a higher rank grow sooner."""
        if self._has_writer is None:
            with suppress(OSError):
                self._has_writer = has_writer(self.path)
        return self._has_writer is not False, self.changed_at

    @property
    def position(self) -> int:
        """Where the next read begins."""
        return self._lines.position

    def continue_from(self, cursor: SegmentCursor) -> None:
        """Begin where another reader of the segment has stopped."""
        self._lines, self._reader = cursor.lines, cursor.reader

    def find_first_seq(self) -> None:
        """Look for the number of the first record, if it is not known."""
        if self.first_seq is None:
            self.first_seq = read_first_line(self.path).first_seq

    def skip_to(self, end: int) -> None:
        """Skip the whole lines before a byte, or before the file's end if that comes earlier.

        The skipped records count as received. If the file cannot be read now, the first read that
        succeeds skips them.

        Raises:
            OSError: It cannot be read.
        """
        self._skip_before = end
        self._skip()

    def _skip(self) -> None:
        if self._skip_before is None:
            return
        size = min(self._skip_before, self.path.stat(follow_symlinks=False).st_size)
        start = max(0, size - MAX_LINE_BYTES)
        received = self._find_origin(read_bytes(self.path, 0, _FIRST_BYTES))
        data = read_bytes(self.path, start, size - start)
        end = data.rfind(b"\n") + 1
        tail = data[end:]
        if (end or not start) and not self._reader.records(Block(start + end, tail, True), _EVERYTHING):
            data = data[:end]  # the tail is not a record yet, so it is not skipped
        number = _LAST_NUMBER.search(data)
        if number:
            self._reader.seq = int(number[1])
            received.add(0, self._reader.seq)
        self._lines.move_to(start + len(data), data)
        self._skip_before = None

    def _find_origin(self, data: bytes) -> RecordNumbers:
        """Return the numbers that were received from it, and from files with the same first line."""
        if self._received is None:  # until its first line is complete, its name stands for that
            self._received = self._origins.setdefault(self.name.encode(), RecordNumbers())
        first_line, line_feed, _ = data[:_FIRST_BYTES].partition(b"\n")
        if line_feed:
            known = self._origins.setdefault(first_line, self._received)
            if known is not self._received:  # a link, a copy, or it was rewritten as that file was
                self._received.join(known)
        return self._received

    def take(self, reader: Reader, block: Block) -> list[Record]:
        """Return the wanted records of a block that were not received from an earlier file."""
        received = self._find_origin(block.data if not block.offset else b"")
        return received.read(reader, block, self._selection)

    def read(self) -> list[Record]:
        """Return wanted records that were appended, at most a block of them.

        Raises:
            OSError: It is gone, or cannot be read.
        """
        self._skip()
        status = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116 - many times a second
        # The time of its last modification can be set, so it shows no change for certain.
        seen = (status.st_dev, status.st_ino, status.st_size), status.st_ctime_ns
        if seen == self._seen and self._is_settled and self._has_been_read:
            self.is_at_end = True
            return []
        if self._seen is not None and seen[0] == self._seen[0] and seen[1] != self._seen[1]:
            self._begin_again()  # it was touched, or rewritten with other records of the same length
        try:
            return self._read_block(seen)
        except OSError:
            raise
        except BaseException:  # of `on_damage`: the records of the block are not lost
            self._begin_again()
            raise

    def _read_block(self, seen: _Status) -> list[Record]:
        block = self._lines.next_block()
        if self._lines.is_replaced:
            self._begin_again()
            block = self._lines.next_block()
        self.is_at_end = block is None or (isinstance(block, Block) and block.is_tail)
        self._seen, self._has_been_read = seen, self.is_at_end
        self._is_settled = abs(time.time_ns() - seen[1]) > _SETTLED_NS
        if block is None:
            return []
        self.changed_at, self._has_writer = time.monotonic(), None
        if isinstance(block, Damage):
            self._on_damage(block)
            return []
        return self._records(block)

    def _begin_again(self) -> None:
        self._find_origin(b"").may_repeat = True
        self._reread_to = max(self._reread_to, self._lines.position)
        self._lines = StoredLines(self.path)
        self._reader = Reader(self._reader.segment, self._on_damage)

    def _records(self, block: Block) -> list[Record]:
        records = self.take(self._reader, block)
        if block.is_tail and records:
            end = records[-1].offset + records[-1].length
            self._lines.move_to(end, block.data[: end - block.offset])
        if block.offset < self._reread_to:
            records = [each for each in records if each.offset >= self._reread_to or has_number(each)]
        return records
