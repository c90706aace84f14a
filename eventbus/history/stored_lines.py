"""Read a segment's lines in blocks, in bounded memory whatever the file contains.

The file is opened for each block and closed again, so that no descriptor stays open, however many
segments are read at once and wherever a reader stops.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

__all__ = ["BLOCK_BYTES", "MAX_LINE_BYTES", "Block", "Damage", "StoredLines", "open_regular", "read_bytes"]

BLOCK_BYTES = 256 * 1024
"""How much is read at once; larger blocks are not faster."""
MAX_LINE_BYTES = 1024 * 1024
"""A longer line is damage: the largest event takes a sixteenth of this."""

_MARK_BYTES = 1024
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a FIFO must not block


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a segment that contain no record. The records around them are read.

    Attributes:
        path: The segment.
        offset: Where the bytes begin in the file.
        length: The number of bytes, without the line feed.
        reason: What is wrong with them.
    """

    path: Path
    offset: int
    length: int
    reason: str


class Block(msgspec.Struct, frozen=True, gc=False):
    """Consecutive lines of a file.

    Attributes:
        offset: Where they begin in the file.
        data: The lines, each with its line feed; only a tail has none.
        is_tail: True for the bytes after a file's last line feed.
    """

    offset: int
    data: bytes
    is_tail: bool = False


@contextmanager
def open_regular(path: Path, access: int = os.O_RDONLY) -> Generator[int]:
    """Open a regular file as a descriptor; raise OSError if it is something else or cannot be opened."""
    descriptor = os.open(path, access | _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_bytes(path: Path, offset: int, size: int) -> bytes:
    """Return bytes of a regular file; raise OSError if it cannot be read."""
    with open_regular(path) as descriptor:
        return os.pread(descriptor, size, offset)


class StoredLines:
    """The lines of one file, from a position on.

    Args:
        path: The file.
        position: Where a line begins.

    Attributes:
        path: The file.
        position: Where the next block begins. At the end of the file it stays at the beginning of a
            last line without a line feed, so that reading later returns this line whole.
        is_replaced: True if the file is not the one that was read before: it has another inode, is
            shorter, or other bytes are before the position. Nothing more is read.
    """

    __slots__ = ("_identity", "_mark", "_overlong_start", "is_replaced", "path", "position")

    def __init__(self, path: Path, position: int = 0) -> None:
        self.path: Path = path
        self.position: int = position
        self.is_replaced: bool = False
        self._identity: tuple[int, int] | None = None
        self._mark = 0, hash(b"")  # the length and hash of the bytes before the position
        self._overlong_start: int | None = None

    def next_block(self, size: int = BLOCK_BYTES) -> Block | Damage | None:
        """Return the next whole lines, or an overlong line as damage, or None at the end.

        The bytes after the last line feed are returned as a tail, and again by each later call.

        Raises:
            OSError: The file cannot be read, or is not a regular file.
        """
        with open_regular(self.path) as descriptor:
            self.is_replaced = not self._is_same_file(descriptor)
            if self.is_replaced:
                return None
            if self._overlong_start is not None:
                return self._skip_overlong_line(descriptor)
            return self._read(descriptor, size)

    def move_to(self, position: int, before: bytes) -> None:
        """Let the next block begin at a position.

        Args:
            position: Where a line begins or a last record ends.
            before: The bytes before it, at least its last line; they are compared later.
        """
        line = len(before) - before.rfind(b"\n", 0, -1)
        length = min(len(before), max(line, _MARK_BYTES))
        self.position, self._mark = position, (length, hash(before[len(before) - length :]))

    def _is_same_file(self, descriptor: int) -> bool:
        status = os.fstat(descriptor)
        identity = status.st_dev, status.st_ino
        self._identity = self._identity or identity
        length, mark = self._mark
        # Not only the identity: a file that is rewritten in place, or one that gets the inode of the
        # file it replaces, may be longer than what was read.
        return self._identity == identity and mark == hash(
            os.pread(descriptor, length, self.position - length)
        )

    def _read(self, descriptor: int, size: int) -> Block | Damage | None:
        data = os.pread(descriptor, size, self.position)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == size:  # the line is longer than a block: read it alone
            data = os.pread(descriptor, MAX_LINE_BYTES + 1, self.position)
            end = data.find(b"\n") + 1
        if end:
            block = Block(self.position, data[:end])
            self.move_to(self.position + end, block.data)
            return block
        if len(data) > MAX_LINE_BYTES:
            self._overlong_start = self.position
            self.move_to(self.position + len(data), data[-_MARK_BYTES:])
            return self._skip_overlong_line(descriptor)
        return Block(self.position, data, is_tail=True) if data else None

    def _skip_overlong_line(self, descriptor: int) -> Damage | None:
        """Go to the end of the line; return None if the file does not contain it yet."""
        while data := os.pread(descriptor, BLOCK_BYTES, self.position):
            end = data.find(b"\n")
            if end >= 0:
                start, self._overlong_start = self._overlong_start or 0, None
                length = self.position + end - start
                self.move_to(self.position + end + 1, data[: end + 1][-_MARK_BYTES:])
                return self._overlong(start, length)
            self.move_to(self.position + len(data), data[-_MARK_BYTES:])
        return None

    def overlong_tail(self) -> Damage | None:
        """Return the file's last line as damage if it is overlong and has no line feed yet."""
        start = self._overlong_start
        return None if start is None else self._overlong(start, self.position - start)

    def _overlong(self, start: int, length: int) -> Damage:
        reason = f"a line of more than {MAX_LINE_BYTES:,} bytes"
        return Damage(path=self.path, offset=start, length=length, reason=reason)
