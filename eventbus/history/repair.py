"""Repair a segment whose writer died amid a line: set the torn tail aside, and throw nothing away.

A persister holds a lock on the segment it writes, which the kernel releases with the process: so
there is no mistaking a process for another that got its number later, and processes in other
containers are seen, too. Only where a file system has no locks does the process number count.
"""

from __future__ import annotations

import fcntl
import filecmp
import os
import stat
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import msgspec

from eventbus.history.reading import Reader
from eventbus.history.segment_files import SegmentFile
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, StoredLines

__all__ = ["TORN_SUFFIX", "Repair", "is_being_written", "repair_segment", "torn_tail", "unfinished_line"]

TORN_SUFFIX = ".torn"

_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_COPIED_AT_ONCE = 1024 * 1024
# A writer that lives tries again each second: a tail that is torn for so long has none.
_GIVEN_UP_SECONDS = 24 * 60 * 60.0


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a segment.

    Attributes:
        path: The segment, which now ends with a whole line.
        offset: Where the torn tail began.
        length: Its bytes; 0 where the last record was whole and lacked its line feed only.
        kept_in: The file that holds them now; None where there were none.
    """

    path: Path
    offset: int
    length: int
    kept_in: Path | None


def unfinished_line(path: Path) -> tuple[int, int]:
    """Return the offset and the length of what stands behind the last line feed.

    Raises:
        OSError: The file cannot be read.
    """
    with _opened(path) as descriptor:
        return _unfinished_line(descriptor)


def is_being_written(path: Path) -> bool:
    """Whether a process holds a segment open to write to it.

    Raises:
        OSError: The file cannot be opened.
    """
    with _opened(path) as descriptor:
        return not _lock(descriptor, path)


def repair_segment(segment: SegmentFile) -> Repair | None:
    """Have a segment end with a whole line; None where it does, or its writer lives.

    The torn bytes go into a file beside it, ``<segment>.<offset>.torn``, before they are cut off.
    A repair that was interrupted is completed by the next one.

    Raises:
        OSError: It cannot be read or written.
    """
    if not unfinished_line(segment.path)[1]:
        return None
    with _opened(segment.path, os.O_RDWR) as descriptor:
        if not _lock(descriptor, segment.path):
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
    """Return what a writer that died left unfinished; None if there is nothing, or it lives.

    Raises:
        OSError: The file cannot be read.
    """
    offset, length = unfinished_line(segment.path)
    end = _end_of_records(segment, offset) if length else offset
    if end == offset + length or is_being_written(segment.path):
        return None
    return Damage(path=segment.path, offset=end, length=offset + length - end, reason="torn tail")


@contextmanager
def _opened(path: Path, access: int = os.O_RDONLY) -> Generator[int]:
    descriptor = os.open(path, access | _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)  # and with it the lock is given up


def _lock(descriptor: int, path: Path) -> bool:
    """Lock a segment against its writer; False if that holds it, or may."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks
        is_old = time.time() - os.fstat(descriptor).st_mtime > _GIVEN_UP_SECONDS
        return is_old or not _exists(int(path.name.split("-")[1]))
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _unfinished_line(descriptor: int) -> tuple[int, int]:
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - _COPIED_AT_ONCE)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1, size - (start + found + 1)
        end = start
    return 0, size


def _end_of_records(segment: SegmentFile, offset: int) -> int:
    """Return where the record in an unfinished line ends; where the line begins if it holds none."""
    block = StoredLines(segment.path, offset).next_block()
    if not isinstance(block, Block):
        return offset
    records = Reader(segment, lambda _: None).records(block, Selection())
    return records[-1].offset + records[-1].length if records else offset


def _keep(descriptor: int, segment: Path, start: int, end: int) -> Path:
    """Copy a tail into a file of its own, whole or not at all."""
    handle, partial = tempfile.mkstemp(prefix=".eventbus-", suffix=".partial", dir=segment.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for offset in range(start, end, _COPIED_AT_ONCE):
                file.write(os.pread(descriptor, min(_COPIED_AT_ONCE, end - offset), offset))
            file.flush()
            os.fsync(file.fileno())
        return Path(partial).replace(_name_for(Path(partial), f"{segment}.{start}"))
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise


def _name_for(partial: Path, stem: str) -> Path:
    """Return a name that no other bytes have: what an interrupted repair has kept is kept once."""
    for number in count(1):
        path = Path(f"{stem}{f'-{number}' if number > 1 else ''}{TORN_SUFFIX}")
        if not path.exists() or filecmp.cmp(path, partial, shallow=False):
            return path
    raise AssertionError  # there is always another number
