"""Find out whether a process is writing a segment.

A persister holds a lock on the segment that it writes, and the kernel releases the lock when the
process ends. So a later process with the same id is not mistaken for the writer, and writers in
other containers are seen. On file systems without locks, the process id in the segment's name
decides, for a limited time.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from eventbus.history.stored_lines import open_regular

__all__ = ["has_writer", "try_lock"]

_GIVEN_UP_SECONDS = 24 * 60 * 60.0
"""Without locks: a live writer completes a torn line within seconds, so after a day it must be gone."""


def has_writer(path: Path) -> bool:
    """Return True if a process is writing the segment; raise OSError if it cannot be opened."""
    with open_regular(path) as descriptor:
        return not try_lock(descriptor, path)


def try_lock(descriptor: int, path: Path, given_up_after: float = _GIVEN_UP_SECONDS) -> bool:
    """Lock a segment unless a process is writing it; return False if one is.

    Args:
        descriptor: The open segment; closing it releases the lock.
        path: The segment.
        given_up_after: On file systems without locks, a process with the id in the segment's name
            counts as its writer until this many seconds after the last write.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        is_old = time.time() - os.fstat(descriptor).st_mtime > given_up_after
        return is_old or not _process_exists(int(path.name.split("-")[1]))
    return True


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
