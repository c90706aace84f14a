"""Repair a segment whose writer ended in the middle of a line, by moving the torn tail to another file.

The lock on a segment shows whether its writer still lives; see `writer_lock`.
"""

from __future__ import annotations

import filecmp
import os
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path

import msgspec

from eventbus.history.reading import Reader
from eventbus.history.segment_files import SegmentFile
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, StoredLines, open_regular
from eventbus.history.writer_lock import has_writer, try_lock

__all__ = ["TORN_SUFFIX", "Repair", "repair_segment", "torn_tail"]

TORN_SUFFIX = ".torn"

_COPY_BYTES = 1024 * 1024  # at once


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """The repair of a segment.

    Attributes:
        path: The segment, which now ends with a whole line.
        offset: Where the torn tail began.
        length: The number of its bytes; 0 if the last record lacked only its line feed.
        kept_in: The file with these bytes; None if there were none.
    """

    path: Path
    offset: int
    length: int
    kept_in: Path | None


def repair_segment(segment: SegmentFile) -> Repair | None:
    """Make a segment end with a whole line; return None if it does already, is gone, or its writer lives.

    The torn tail is copied to ``<segment>.<offset>.torn`` before it is cut off. Repairing again
    completes an interrupted repair.

    Raises:
        OSError: A file cannot be read or written.
    """
    with suppress(FileNotFoundError):  # removed by retention since
        return _repair(segment) if _read_unfinished_line(segment.path)[1] else None
    return None


def _repair(segment: SegmentFile) -> Repair | None:
    with open_regular(segment.path, os.O_RDWR) as descriptor:
        if not try_lock(descriptor, segment.path, exclusive=True):
            return None
        offset, length = _unfinished_line(descriptor)
        end, size = _end_of_records(segment, offset), offset + length
        kept_in = _keep(descriptor, segment.path, end, size) if end < size else None
        os.ftruncate(descriptor, end)
        if end > offset:
            os.pwrite(descriptor, b"\n", end)
        os.fsync(descriptor)
        return Repair(path=segment.path, offset=end, length=size - end, kept_in=kept_in)


def torn_tail(segment: SegmentFile) -> Damage | None:
    """Return the tail that a dead writer left unfinished; None if there is none.

    Raises:
        OSError: The file cannot be read.
    """
    offset, length = _read_unfinished_line(segment.path)
    end = _end_of_records(segment, offset) if length else offset
    if end == offset + length or has_writer(segment.path):
        return None
    return Damage(path=segment.path, offset=end, length=offset + length - end, reason="torn tail")


def _read_unfinished_line(path: Path) -> tuple[int, int]:
    with open_regular(path) as descriptor:
        return _unfinished_line(descriptor)


def _unfinished_line(descriptor: int) -> tuple[int, int]:
    """Return the offset and the length of the bytes after the last line feed."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - _COPY_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1, size - (start + found + 1)
        end = start
    return 0, size


def _end_of_records(segment: SegmentFile, offset: int) -> int:
    """Return where the last record in an unfinished line ends; the line's offset without a record."""
    block = StoredLines(segment.path, offset).next_block()
    if not isinstance(block, Block):
        return offset
    records = Reader(segment, lambda _: None).records(block, Selection())
    return records[-1].offset + records[-1].length if records else offset


def _keep(descriptor: int, segment: Path, start: int, end: int) -> Path:
    """Copy a tail to a file of its own, whole or not at all."""
    handle, partial = tempfile.mkstemp(prefix=".eventbus-", suffix=".partial", dir=segment.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for offset in range(start, end, _COPY_BYTES):
                file.write(os.pread(descriptor, min(_COPY_BYTES, end - offset), offset))
            file.flush()
            os.fsync(file.fileno())
        return Path(partial).replace(_free_name(Path(partial), f"{segment}.{start}"))
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise


def _free_name(partial: Path, stem: str) -> Path:
    """Return an unused name, or that of a file with the same bytes, kept by an interrupted repair."""
    for number in count(1):
        path = Path(f"{stem}{f'-{number}' if number > 1 else ''}{TORN_SUFFIX}")
        if not path.exists() or filecmp.cmp(path, partial, shallow=False):
            return path
    raise AssertionError  # count() does not end
