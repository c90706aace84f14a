"""Find out whether a process is writing a segment.

A persister holds an exclusive lock on the segment that it writes, and the kernel releases the lock when
the process ends. So a later process with the same id is not mistaken for the writer, and writers in
other containers and on other hosts are seen. Where the lock says nothing, because the file system has
no locks or the writer did not get one, the segment's header and name decide: its process id counts among
the processes of the same host and container, elsewhere a writer counts as gone after a day.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from eventbus.history.segment_files import segment_at, written_at
from eventbus.history.stored_lines import open_regular

__all__ = ["has_writer", "is_being_written", "pid_space", "try_lock"]

_GIVEN_UP_SECONDS = 24 * 60 * 60.0
"""Without locks: a writer that cannot be looked for counts as gone when it wrote nothing for a day."""
_HEADER_BYTES = 4_096
_LOCKED = (errno.EAGAIN, errno.EACCES)  # some network file systems report another's lock as EACCES
_NO_LOCKS = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)

_time = time.time  # bound now: tests of the programs that use the bus may replace it


class _Header(msgspec.Struct):
    """What a header says about the lock. Headers without these fields are of writers that had it."""

    locked: bool = True
    pid_space: str | None = None


_header_decoder = msgspec.json.Decoder(_Header)


def is_being_written(path: Path) -> bool:
    """Return True unless the writer of a segment is known to be gone. Never raises.

    The writer of a missing segment is gone. A killed process is gone at once; on a file system without
    locks, one of another host or container is gone when it wrote nothing for a day.
    """
    try:
        return has_writer(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def has_writer(path: Path) -> bool:
    """Return True if a process may be writing the segment; raise OSError if it cannot be opened."""
    with open_regular(path) as descriptor:
        return not try_lock(descriptor, path)


def try_lock(descriptor: int, path: Path, *, exclusive: bool = False, to_remove: bool = False) -> bool:
    """Lock a segment unless a process may be writing it; return False if one may.

    Args:
        descriptor: The open segment; closing it releases the lock.
        path: The segment.
        exclusive: Keep other repairs out, too; the descriptor must be open for writing. To look for
            the writer a shared lock suffices: two processes that look at once do not take each other
            for the writer, and network file systems refuse an exclusive lock, with EBADF, on a
            descriptor that is open for reading only.
        to_remove: Without locks, take any process with the writer's id for the writer.
    """
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _LOCKED:
            return False
        return _is_writer_gone(descriptor, path, to_remove, has_no_locks=error.errno in _NO_LOCKS)
    return _header(descriptor).locked or _is_writer_gone(descriptor, path, to_remove)


def pid_space() -> str | None:
    """Return a name for the processes that this process sees under their ids.

    None where that is unknown. It contains nothing about the host: the kernel draws it for each boot.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot[:8]}{os.stat('/proc/self/ns/pid').st_ino:x}"  # noqa: PTH116 - not a real path
    except (OSError, ValueError):
        return None


def _header(descriptor: int) -> _Header:
    with suppress(OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return _header_decoder.decode(os.pread(descriptor, _HEADER_BYTES, 0).split(b"\n", 1)[0])
    return _Header()


def _is_writer_gone(descriptor: int, path: Path, to_remove: bool, has_no_locks: bool = True) -> bool:
    """Return True if the writer is gone, as far as can be known without a lock.

    If asking for the lock failed in another way than by the lack of locks, the writer may hold one:
    then it is gone only if its process is known to be.
    """
    segment = segment_at(str(path))
    if segment is None:
        return False
    space = _header(descriptor).pid_space
    is_here = space == pid_space() if space is not None else has_no_locks
    if is_here and not _process_exists(segment.pid):
        return True
    now = _time()
    if not has_no_locks or now - written_at(segment, now) <= _GIVEN_UP_SECONDS:
        return False
    return not is_here or (not to_remove and _began_after(segment.pid, segment.start))


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


def _began_after(pid: int, start: datetime) -> bool:
    """Return True if the process began after the segment, so that only the id is the same."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        up_seconds = float(Path("/proc/uptime").read_bytes().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    began = _time() - up_seconds + ticks / os.sysconf("SC_CLK_TCK")
    return began > start.timestamp() + 1.0
