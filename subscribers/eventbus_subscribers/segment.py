"""A segment: one log file, written by one bus, one JSON object a line.

It is `<directory>/events/<start>-<pid>-<bus id>.jsonl`: nothing that comes from outside is part of
its path. Its directories and itself are opened without following links, and it is always a new
file, so nothing but what was made here is ever written to.
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
"""Of the lines: a reader of another version can tell by the header."""

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Segment:
    """One open file.

    Args:
        directory: Where the log lives; made, with mode 0700, if it is missing.
        bus_id: Whose events it will hold.
        first_seq: The number of the first record it will hold.

    Attributes:
        path: The file.
        pid: The process it was made in.
        size: The bytes written to it.

    Raises:
        OSError: It cannot be made, or something that is no directory of its own is in its place.
        ValueError: The directory's name cannot be one.
    """

    __slots__ = ("_fd", "_identity", "_owed", "_unsynced", "path", "pid", "size")

    def __init__(self, directory: Path, bus_id: str, first_seq: int) -> None:
        start = datetime.now(UTC)
        self.pid: int = os.getpid()
        name = f"{start:%Y%m%dT%H%M%S.%fZ}-{self.pid}-{_safe(bus_id)}.jsonl"
        self.path: Path = directory / "events" / name
        with _events_directory(directory) as events:
            self._fd = os.open(name, _CREATE_FILE, 0o600, dir_fd=events)
            with suppress(OSError):  # not every file system can; without it a power cut may take the name
                os.fsync(events)
        with suppress(
            OSError
        ):  # nor has every one locks. Whoever repairs or prunes the log sees that its writer lives
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self._identity = _identity(os.fstat(self._fd))
        except OSError:
            os.close(self._fd)
            raise
        self._unsynced = False
        self.size: int = 0
        # What has to be written before the next line: a header, or the end of a torn line.
        self._owed = _header(start, bus_id, self.pid, first_seq)

    def append(self, lines: bytes) -> tuple[int, OSError | None]:
        """Write whole lines; return how many bytes of them need not be written again, and what failed.

        They end where a line ends. A line of which only a part could be written is not among them,
        and the next write begins with a line feed, so that the torn one stands alone.
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
        # A line that lacks nothing but its line feed is in the file: written again, it would be
        # there twice.
        if lines[written : written + 1] == b"\n":
            return written + 1, error
        return lines.rfind(b"\n", 0, written) + 1, error

    def sync(self) -> None:
        """Have what was written reach the disk; nothing to do if it has.

        Raises:
            OSError: It failed. What was written may be lost, and asking again would not tell:
                the kernel reports a failure once. Open another segment.
        """
        if self._unsynced:
            os.fdatasync(self._fd)
            self._unsynced = False

    def is_in_place(self) -> bool:
        """Whether its path still leads to it: a deleted or replaced file takes writes in silence."""
        try:
            return _identity(self.path.stat(follow_symlinks=False)) == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, data: bytes) -> tuple[int, OSError | None]:
        """Write all of `data` if it can be; return how much was, and what kept it from the rest."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:] if written else data)
        except OSError as error:
            return written, error
        finally:
            self._unsynced = True
            self.size += written
        return written, None


@contextmanager
def _events_directory(directory: Path) -> Generator[int]:
    """Open the directory that holds the segments, made if need be, by steps nobody can divert."""
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
        with suppress(OSError):  # nothing was written through it
            os.close(fd)


def _header(start: datetime, bus_id: str, pid: int, first_seq: int) -> bytes:
    """Return the first line. A reader of events keeps it as an event of a type it doesn't know."""
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
