"""Read a segment's lines in blocks, in bounded memory whatever the file holds.

A file is opened for each block and closed again: however many segments are being read, and
whoever abandons the reading, no descriptor is held.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

__all__ = ["BLOCK_BYTES", "MAX_LINE_BYTES", "Block", "Damage", "StoredLines", "opened", "read_bytes"]

BLOCK_BYTES = 256 * 1024
"""So much is read at once; larger blocks are not faster."""
MAX_LINE_BYTES = 1024 * 1024
"""A longer line is damage: the largest event has a sixteenth of it."""

_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO in its place must not hang


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a segment that hold no record; all around it is read.

    Attributes:
        path: The segment.
        offset: Where it begins, in bytes from the file's beginning.
        length: How many bytes, without the line feed.
        reason: What is wrong with them.
    """

    path: Path
    offset: int
    length: int
    reason: str


class Block(msgspec.Struct, frozen=True, gc=False):
    """Some whole lines.

    Attributes:
        offset: Where they begin in the file.
        data: The lines, each with its line feed; only a file's last may lack it.
        is_tail: Whether it is what stands behind a file's last line feed.
    """

    offset: int
    data: bytes
    is_tail: bool = False


@contextmanager
def opened(path: Path, access: int = os.O_RDONLY) -> Generator[int]:
    """Open a file for a while.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, access | _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_bytes(path: Path, offset: int, size: int) -> bytes:
    """Return some bytes of a file.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    with opened(path) as descriptor:
        return os.pread(descriptor, size, offset)


class StoredLines:
    """The lines of one file, from a position on.

    Args:
        path: The file.
        position: Where a line begins.

    Attributes:
        path: The file.
        position: Where the next block begins. At the end it stays at the last line's beginning if
            that line has no line feed yet: who reads on later gets it whole.
    """

    __slots__ = ("_identity", "_skipped_from", "path", "position")

    def __init__(self, path: Path, position: int = 0) -> None:
        self.path: Path = path
        self.position: int = position
        self._identity: tuple[int, int] | None = None
        self._skipped_from: int | None = None

    def next_block(self, size: int = BLOCK_BYTES) -> Block | Damage | None:
        """Return the next whole lines, or an overlong one as damage; None at the end.

        What stands behind the last line feed is returned as a tail, again and again.

        Raises:
            OSError: It cannot be read, or is no regular file.
        """
        with opened(self.path) as descriptor:
            if not self._is_same(os.fstat(descriptor)):
                return None
            if self._skipped_from is not None:
                return self._skip_on(descriptor)
            return self._read(descriptor, size)

    def _is_same(self, status: os.stat_result) -> bool:
        """Whether it is the file that was read before; another in its place has other lines."""
        identity = status.st_dev, status.st_ino
        self._identity = self._identity or identity
        return self._identity == identity

    def _read(self, descriptor: int, size: int) -> Block | Damage | None:
        data = os.pread(descriptor, size, self.position)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == size:  # a line of more than a block: it alone
            data = os.pread(descriptor, MAX_LINE_BYTES + 1, self.position)
            end = data.find(b"\n") + 1
        if end:
            block = Block(self.position, data[:end])
            self.position += end
            return block
        if len(data) > MAX_LINE_BYTES:
            self._skipped_from = self.position
            self.position += len(data)
            return self._skip_on(descriptor)
        return Block(self.position, data, is_tail=True) if data else None

    def _skip_on(self, descriptor: int) -> Damage | None:
        """Go to the end of an overlong line; None if it is not in the file yet."""
        while data := os.pread(descriptor, BLOCK_BYTES, self.position):
            end = data.find(b"\n")
            if end >= 0:
                start, self._skipped_from = self._skipped_from or 0, None
                length = self.position + end - start
                self.position += end + 1
                return self._overlong(start, length)
            self.position += len(data)
        return None

    def unfinished(self) -> Damage | None:
        """Return an overlong line that has no end yet, as damage."""
        start = self._skipped_from
        return None if start is None else self._overlong(start, self.position - start)

    def _overlong(self, start: int, length: int) -> Damage:
        reason = f"a line of more than {MAX_LINE_BYTES:,} bytes"
        return Damage(path=self.path, offset=start, length=length, reason=reason)
