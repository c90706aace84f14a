"""Read a segment that may still grow, again and again."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from eventbus.history.merging import SegmentCursor
from eventbus.history.reading import OnDamage, Record
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import MAX_LINE_BYTES, Block, Damage, StoredLines, read_bytes
from eventbus.history.writer_lock import has_writer

__all__ = ["TailedSegment"]

_LAST_NUMBER = re.compile(rb'(?:\n|^)\{"seq":(\d{1,18}),[^\n]*\n?$')


class TailedSegment:
    """One segment that is being followed.

    An unfinished line is read when it is finished. A complete record without a line feed counts as
    finished: its writer will not write it again. If the file was replaced, truncated or rewritten, it
    is read from the beginning, without the records that have been read already.

    Args:
        cursor: How far it has been read.
        selection: Which records are wanted.
        on_damage: Called with each place that is skipped.

    Attributes:
        is_at_end: True if the last read found nothing more.
        is_gone: True if it was deleted or could not be read; set by the caller of `read`.
        changed_at: When the last read found something, on the monotonic clock.
    """

    def __init__(self, cursor: SegmentCursor, selection: Selection, on_damage: OnDamage) -> None:
        self._lines, self._reader = cursor.lines, cursor.reader
        self._selection = selection
        self._on_damage = on_damage
        self._identity: tuple[int, int] | None = None
        self._size = -1
        self._last_seq = self._reader.seq
        self._skip_to_seq = 0  # records up to this number have been read from an earlier file
        self.changed_at: float = 0.0
        self.is_at_end: bool = False
        self.is_gone: bool = False
        self._has_writer: bool | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """How soon it is likely to grow; segments of a higher rank grow sooner."""
        if self._has_writer is None:
            with suppress(OSError):
                self._has_writer = has_writer(self.path)
        return self._has_writer is not False, self.changed_at

    @property
    def path(self) -> Path:
        """The file."""
        return self._lines.path

    @property
    def position(self) -> int:
        """Where the next read begins."""
        return self._lines.position

    def go_to_end(self) -> int:
        """Skip what the file contains now; return where the next read begins.

        Raises:
            OSError: It cannot be read.
        """
        path = self._lines.path
        start = max(0, path.stat(follow_symlinks=False).st_size - MAX_LINE_BYTES)
        data = read_bytes(path, start, MAX_LINE_BYTES)
        end = data.rfind(b"\n") + 1
        tail = data[end:]
        if (end or not start) and not self._reader.records(Block(start + end, tail, True), Selection()):
            data = data[:end]  # the tail is not a record yet, so it is not skipped
        number = _LAST_NUMBER.search(data)
        self._last_seq = int(number[1]) if number else 0
        self._lines = StoredLines(path, start + len(data))
        return self._lines.position

    def read(self) -> list[Record]:
        """Return wanted records that were appended, at most a block of them.

        Raises:
            OSError: It is gone, or cannot be read.
        """
        status = os.stat(self._lines.path, follow_symlinks=False)  # noqa: PTH116 - many times a second
        identity = status.st_dev, status.st_ino
        if status.st_size == self._size and identity == self._identity:
            self.is_at_end = True
            return []
        if status.st_size < self._lines.position or self._identity not in (None, identity):
            self._begin_again()
        self._identity = identity
        self.changed_at, self._has_writer = time.monotonic(), None
        block = self._lines.next_block()
        if isinstance(block, Damage):
            self._on_damage(block)
            return []
        self.is_at_end = block is None or block.is_tail
        if self.is_at_end:
            self._size = status.st_size
        return [] if block is None else self._records(block)

    def _begin_again(self) -> None:
        self._lines = StoredLines(self._lines.path)
        self._skip_to_seq = max(self._skip_to_seq, self._last_seq)

    def _records(self, block: Block) -> list[Record]:
        records = self._reader.records(block, self._selection)
        if block.is_tail and records:
            self._lines.position = records[-1].offset + records[-1].length
        if self._skip_to_seq:
            records = [record for record in records if record.seq > self._skip_to_seq]
        if records:
            self._last_seq = records[-1].seq
        return records
