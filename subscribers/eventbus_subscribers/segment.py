"""A segment: one log file, written by one bus, one JSON object per line.

Its path is `<directory>/events/<start>-<pid>-<bus id>.jsonl`, and contains no name from outside. The
file is always new, and neither it nor its directories are opened through links: nobody else's file is
ever written to.

Clocks may stand still or jump, as in a test that freezes them. So the name does not depend on the clock
to be unique, nor the header on its type.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakSet

import msgspec

from eventbus.history import pid_space

__all__ = ["SCHEMA_VERSION", "Segment"]

SCHEMA_VERSION = 1
"""The version of the lines, in each segment's header, for readers of other versions."""

# With O_PATH, where it exists, a directory of another user need not be readable, only searchable.
_OPEN_PARENT = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_DIRECTORY = _OPEN_PARENT | os.O_NOFOLLOW
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_localtime, _sleep = time.localtime, time.sleep  # bound now: a test may replace them
_MAX_NAMES = 8  # tried, before an obstacle is reported
_MAX_LOCKS = 5
_LOCK_SECONDS = 0.002  # a process that looks for the writer holds the lock for microseconds


class Segment:
    """One open file.

    Args:
        directory: The directory of the log; created with mode 0700 if it is missing.
        bus_id: The id of the bus whose events are stored.
        first_seq: The number of the first record.

    Attributes:
        path: The file.
        size: The number of bytes written to it.
        has_records: True once a whole line was written behind the header.
        begun_at: When it was begun, on the clock of the file system, in seconds since 1970.

    Raises:
        OSError: The file cannot be created, or a link or file is in the place of a directory.
        ValueError: The directory has an impossible name.
    """

    __slots__ = (
        "__weakref__",
        "_fd",
        "_header_size",
        "_identity",
        "_is_unsynced",
        "_owed",
        "begun_at",
        "has_records",
        "path",
        "size",
    )

    def __init__(self, directory: Path, bus_id: str, first_seq: int) -> None:
        pid = os.getpid()
        _block_size_signal()
        with _events_directory(directory) as events:
            self._fd, name, start = _create(events, f"{pid}-{_safe(bus_id)}.jsonl")
            self.path: Path = directory / "events" / name
            try:
                status = os.fstat(self._fd)
            except OSError:
                with suppress(OSError):  # or each attempt would leave an empty file
                    os.unlink(name, dir_fd=events)
                os.close(self._fd)
                raise
            _sync_directory(events)
        self._identity = _identity(status)
        self.begun_at: float = status.st_mtime
        self._is_unsynced = False
        self.size: int = 0
        # Bytes to write before the next line: the header, or a line feed after a torn line.
        self._owed = _header(start, bus_id, pid, first_seq, is_locked=_lock(self._fd))
        self._header_size = len(self._owed)
        self.has_records: bool = False
        _open_segments.add(self)

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
        stored = written if error is None else self._whole_lines(lines, written)
        self.has_records = self.has_records or stored > 0
        return stored, error

    def _whole_lines(self, lines: bytes, written: int) -> int:
        """Return how many bytes of a short write need not be written again; stand a torn line alone."""
        if not written or lines[written - 1 : written] == b"\n":
            return written
        self._owed = b"\n"
        # A line without only its line feed is complete: written again, it would be there twice.
        if lines[written : written + 1] == b"\n":
            return written + 1
        return lines.rfind(b"\n", 0, written) + 1

    def begin_again(self) -> bool:
        """Cut a torn first record off; return False if there is no header yet, or it cannot be cut."""
        if self.has_records or self._owed not in (b"", b"\n"):
            return False
        try:
            os.ftruncate(self._fd, self._header_size)
        except OSError:
            return False
        self._owed = b""
        self.size = self._header_size
        return True

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
        """Return False if the file was deleted or replaced, which writing to it does not show.

        Or if the descriptor was closed by other code, and may be that of another file by now.
        """
        try:
            return _identity(self.path.stat(follow_symlinks=False)) == self._identity and self._is_open()
        except OSError:
            return False

    def close(self) -> None:
        """Close the file."""
        _open_segments.discard(self)
        if self._is_open():
            os.close(self._fd)

    def _is_open(self) -> bool:
        try:
            return _identity(os.fstat(self._fd)) == self._identity
        except OSError as error:
            return error.errno != errno.EBADF

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


_open_segments: WeakSet[Segment] = WeakSet()


def _close_in_child() -> None:
    # A child that keeps its copy of the descriptor would keep the lock when its parent has ended.
    for segment in list(_open_segments):
        segment.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def _events_directory(directory: Path) -> Generator[int]:
    """Open the directory of the segments, created if missing, in steps that follow no link."""
    with (
        _closing(_open_parent(directory.parent)) as parent,
        _closing(_make_and_open(directory.name, parent)) as top,
        _closing(_make_and_open("events", top)) as events,
    ):
        yield events


def _open_parent(parent: Path) -> int:
    with suppress(FileNotFoundError):
        return os.open(parent, _OPEN_PARENT)
    parent.mkdir(parents=True, exist_ok=True)
    return os.open(parent, _OPEN_PARENT)


def _make_and_open(name: str, parent: int) -> int:
    # Opened first: where nothing can be created, a directory that exists is good enough.
    with suppress(FileNotFoundError):
        return os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    return os.open(name, _OPEN_DIRECTORY, dir_fd=parent)


def _sync_directory(events: int) -> None:
    with suppress(OSError), _closing(os.open(".", _READ_DIRECTORY, dir_fd=events)) as directory:
        os.fsync(directory)  # where it is unsupported, the new file may vanish in a power cut


def _create(events: int, rest_of_name: str) -> tuple[int, str, datetime]:
    """Create a file whose name begins with the time; return its descriptor, its name and that time.

    If the clock stands still, the name exists already, and another microsecond is drawn. Rejected: a
    number in the name, which readers of earlier releases would not take for a segment.
    """
    start = datetime.now(UTC)
    for _ in range(_MAX_NAMES):
        text = start.isoformat(timespec="microseconds").partition("+")[0]
        name = f"{text.replace('-', '').replace(':', '')}Z-{rest_of_name}"
        with suppress(FileExistsError):
            return os.open(name, _CREATE_FILE, 0o600, dir_fd=events), name, start
        # Not from `random`: a program that seeds it must get its own numbers.
        start = start.replace(microsecond=int.from_bytes(os.urandom(4), "big") % 1_000_000)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), rest_of_name)


def _block_size_signal() -> None:
    """Have writes beyond the limit of `ulimit -f` fail in this thread, instead of ending the program."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXFSZ})


def _lock(descriptor: int) -> bool:
    """Take the lock that shows `repair` and `prune` that the writer lives; return False without it."""
    for _ in range(_MAX_LOCKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, InterruptedError, PermissionError):  # another process looks at the file
            _sleep(_LOCK_SECONDS)
        except OSError:
            return False
        else:
            return True
    return False


@contextmanager
def _closing(fd: int) -> Generator[int]:
    try:
        yield fd
    finally:
        with suppress(OSError):  # it was opened for reading only
            os.close(fd)


def _header(start: datetime, bus_id: str, pid: int, first_seq: int, *, is_locked: bool) -> bytes:
    """Return the first line. `decode` returns it as an `UnknownEvent`."""
    header: dict[str, object] = {
        "event_type": "segment_started",
        "session_id": None,
        "timestamp": start.isoformat().replace("+00:00", "Z"),
        "metadata": {},
        "schema_version": SCHEMA_VERSION,
        "bus_id": bus_id.encode("utf-8", "replace").decode(),
        "pid": pid,
        "pid_space": pid_space(),
        "first_seq": first_seq,
        "locked": is_locked,
        "utc_offset_seconds": _localtime().tm_gmtoff,
    }
    return msgspec.json.encode(header) + b"\n"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _safe(bus_id: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", bus_id)[:32] or "bus"
