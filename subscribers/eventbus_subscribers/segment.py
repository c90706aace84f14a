"""A segment: one log file, written by one bus, one JSON object per line.

Its path is `<directory>/events/<start>-<pid>-<bus id>.jsonl`, and contains no name from outside. The
file is always new, and neither it nor its directories are opened through links: nobody else's file is
ever written to.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

__all__ = ["SCHEMA_VERSION", "Segment"]

SCHEMA_VERSION = 1
"""The version of the lines, in each segment's header, for readers of other versions."""

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Segment:
    """One open file.

    Args:
        directory: The directory of the log; created with mode 0700 if it is missing.
        bus_id: The id of the bus whose events are stored.
        first_seq: The number of the first record.

    Attributes:
        path: The file.
        size: The number of bytes written to it.

    Raises:
        OSError: The file cannot be created, or a link or file is in the place of a directory.
        ValueError: The directory has an impossible name.
    """

    __slots__ = ("_fd", "_identity", "_is_unsynced", "_owed", "path", "size")

    def __init__(self, directory: Path, bus_id: str, first_seq: int) -> None:
        start = datetime.now(UTC)
        pid = os.getpid()
        name = f"{start:%Y%m%dT%H%M%S.%fZ}-{pid}-{_safe(bus_id)}.jsonl"
        self.path: Path = directory / "events" / name
        with _events_directory(directory) as events:
            self._fd = os.open(name, _CREATE_FILE, 0o600, dir_fd=events)
            with suppress(OSError):  # where it is unsupported, the new file may vanish in a power cut
                os.fsync(events)
        # The lock shows `repair` and `prune` that the writer lives. Not every file system has locks.
        with suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self._identity = _identity(os.fstat(self._fd))
        except OSError:
            os.close(self._fd)
            raise
        self._is_unsynced = False
        self.size: int = 0
        # Bytes to write before the next line: the header, or a line feed after a torn line.
        self._owed = _header(start, bus_id, pid, first_seq)

    def append(self, lines: bytes) -> tuple[int, OSError | None]:
        """Write whole lines; return how many bytes need not be written again, and the error if any.

        The returned size ends with a line. If a line was written in part, it is not counted, and the
        next write begins with a line feed, so that the torn line stands alone.
        """
        owed, error = self._write(self._owed)
        self._owed = self._owed[owed:]
        if error is not None:
            return 0, error
        written, error = self._write(lines)
        if error is None:
            return written, None
        if not written or lines[written - 1 : written] == b"\n":
            return written, error
        self._owed = b"\n"
        # A line without only its line feed is complete: written again, it would be there twice.
        if lines[written : written + 1] == b"\n":
            return written + 1, error
        return lines.rfind(b"\n", 0, written) + 1, error

    def sync(self) -> None:
        """Make written bytes reach the disk, unless they have already.

        Raises:
            OSError: It failed, and bytes may be lost. Do not sync this segment again, but open another:
                the kernel reports a failure once, and the next sync would succeed.
        """
        if self._is_unsynced:
            os.fdatasync(self._fd)
            self._is_unsynced = False

    def is_in_place(self) -> bool:
        """Return False if the file was deleted or replaced, which writing to it does not show."""
        try:
            return _identity(self.path.stat(follow_symlinks=False)) == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, data: bytes) -> tuple[int, OSError | None]:
        """Write as much of `data` as possible; return its size, and the error if any."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:] if written else data)
        except OSError as error:
            return written, error
        finally:
            self._is_unsynced = True
            self.size += written
        return written, None


@contextmanager
def _events_directory(directory: Path) -> Generator[int]:
    """Open the directory of the segments, created if missing, in steps that follow no link."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (
        _closing(os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as parent,
        _closing(_make_and_open(directory.name, parent)) as top,
        _closing(_make_and_open("events", top)) as events,
    ):
        yield events


def _make_and_open(name: str, parent: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    return os.open(name, _OPEN_DIRECTORY, dir_fd=parent)


@contextmanager
def _closing(fd: int) -> Generator[int]:
    try:
        yield fd
    finally:
        with suppress(OSError):  # it was opened for reading only
            os.close(fd)


def _header(start: datetime, bus_id: str, pid: int, first_seq: int) -> bytes:
    """Return the first line. `decode` returns it as an `UnknownEvent`."""
    header: dict[str, object] = {
        "event_type": "segment_started",
        "session_id": None,
        "timestamp": start,
        "metadata": {},
        "schema_version": SCHEMA_VERSION,
        "bus_id": bus_id.encode("utf-8", "replace").decode(),
        "pid": pid,
        "first_seq": first_seq,
        "utc_offset_seconds": time.localtime(start.timestamp()).tm_gmtoff,
    }
    return msgspec.json.encode(header) + b"\n"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _safe(bus_id: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", bus_id)[:32] or "bus"
