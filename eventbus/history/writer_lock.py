"""Whether somebody is writing a segment.

A persister holds a lock on the segment it writes, which the kernel takes away with the process: no
process that got its number later is mistaken for it, and one in another container is seen, too.
Only where a file system has no locks does the process number in the name count, and not for ever.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from eventbus.history.stored_lines import opened

__all__ = ["is_being_written", "lock_if_unwritten"]

_GIVEN_UP_SECONDS = 24 * 60 * 60.0
"""Without locks: a writer that lives completes a torn line within seconds, so for a reader it is gone."""


def is_being_written(path: Path) -> bool:
    """Whether a process holds a segment open to write to it.

    Raises:
        OSError: The file cannot be opened.
    """
    with opened(path) as descriptor:
        return not lock_if_unwritten(descriptor, path)


def lock_if_unwritten(descriptor: int, path: Path, given_up_after: float = _GIVEN_UP_SECONDS) -> bool:
    """Lock a segment that nobody writes; answer whether that is so.

    Args:
        descriptor: The segment, open; closing it gives the lock up.
        path: The segment.
        given_up_after: Where there are no locks, after how many seconds without a write a process of
            the number in its name is no longer taken for its writer.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks
        is_old = time.time() - os.fstat(descriptor).st_mtime > given_up_after
        return is_old or not _exists(int(path.name.split("-")[1]))
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True
