"""A segment that may still grow: what has been appended since one looked last."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from eventbus.history.merging import Place
from eventbus.history.reading import OnDamage, Record
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import MAX_LINE_BYTES, Block, Damage, StoredLines, read_bytes
from eventbus.history.writer_lock import is_being_written

__all__ = ["GrowingSegment"]

_LAST_NUMBER = re.compile(rb'(?:\n|^)\{"seq":(\d{1,18}),[^\n]*\n?$')


class GrowingSegment:
    """One segment, read again and again.

    A line that is not finished yet is read when it is. One that lacks nothing but its line feed is
    finished: its writer will not write it again. Where the file was replaced, cut off or written
    anew, its records are read from the beginning, without those that have been read already.

    Args:
        place: How far it has been read.
        selection: Which records are wanted.
        on_damage: Is told of what is passed over.

    Attributes:
        is_at_end: Whether there was nothing left when it was read last.
        is_gone: Whether it was found to be gone, or unreadable.
        changed_at: When something had been appended last, on the monotonic clock.
    """

    def __init__(self, place: Place, selection: Selection, on_damage: OnDamage) -> None:
        self._lines, self._reader = place.lines, place.reader
        self._selection = selection
        self._on_damage = on_damage
        self._identity: tuple[int, int] | None = None
        self._size = -1
        self._seen = self._reader.seq
        self._passed = 0
        self.changed_at: float = 0.0
        self.is_at_end: bool = False
        self.is_gone: bool = False
        self._has_writer: bool | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """How soon it may be expected to grow: the more the sooner."""
        if self._has_writer is None:
            with suppress(OSError):
                self._has_writer = is_being_written(self.path)
        return self._has_writer is not False, self.changed_at

    @property
    def path(self) -> Path:
        """The file."""
        return self._lines.path

    @property
    def position(self) -> int:
        """Where reading goes on."""
        return self._lines.position

    def go_to_end(self) -> int:
        """Pass over what is there; return where reading will begin.

        Raises:
            OSError: It cannot be read.
        """
        path = self._lines.path
        start = max(0, path.stat(follow_symlinks=False).st_size - MAX_LINE_BYTES)
        data = read_bytes(path, start, MAX_LINE_BYTES)
        whole = data.rfind(b"\n") + 1
        tail = data[whole:]
        if (whole or not start) and not self._reader.records(Block(start + whole, tail, True), Selection()):
            data = data[:whole]  # it will be finished
        number = _LAST_NUMBER.search(data)
        self._seen = int(number[1]) if number else 0
        self._lines = StoredLines(path, start + len(data))
        return self._lines.position

    def read(self) -> list[Record]:
        """Return what has been appended, a block at most; nothing if nothing has.

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
        self._passed = max(self._passed, self._seen)

    def _records(self, block: Block) -> list[Record]:
        records = self._reader.records(block, self._selection)
        if block.is_tail and records:
            self._lines.position = records[-1].offset + records[-1].length
        if self._passed:
            records = [record for record in records if record.seq > self._passed]
        if records:
            self._seen = records[-1].seq
        return records
