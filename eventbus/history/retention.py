"""Remove segments that are too old, or too many, and never one that somebody is writing.

Who writes a segment is seen by the lock on it; see `writer_lock`.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from eventbus.history.segment_files import find_segments
from eventbus.history.stored_lines import opened
from eventbus.history.writer_lock import lock_if_unwritten

__all__ = ["PrunedSegment", "prune"]

_FRESH_SECONDS = 60.0
"""A segment written to so lately is kept whatever its size: its writer may be about to lock it."""


class PrunedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that was removed, or would be.

    Attributes:
        path: The file.
        size: Its bytes.
        age_seconds: How long ago it was last written to.
    """

    path: Path
    size: int
    age_seconds: float


def prune(
    directory: Path,
    *,
    older_than: timedelta | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> list[PrunedSegment]:
    """Remove segments of a log; return which, the oldest first.

    A segment that a live process is writing is kept, as is one that was written to within the last
    minute. Nothing but segments is touched, and no link is followed.

    Args:
        directory: Where the log lives.
        older_than: Remove what was last written to longer ago than this.
        max_bytes: Then remove the oldest until all that is left takes no more bytes than this.
        dry_run: Remove nothing; only return what would be.

    Raises:
        OSError: The directory cannot be read. What cannot be removed is kept, and not returned.
    """
    found = _oldest_first(directory)
    left = sum(each.size for each in found)
    pruned: list[PrunedSegment] = []
    for each in found:
        is_old = older_than is not None and each.age_seconds > older_than.total_seconds()
        is_too_much = max_bytes is not None and left > max_bytes
        if (is_old or is_too_much) and each.age_seconds >= _FRESH_SECONDS and _remove(each.path, dry_run):
            pruned.append(each)
            left -= each.size
    return pruned


def _oldest_first(directory: Path) -> list[PrunedSegment]:
    if (directory / "events").is_symlink():
        return []  # what it leads to is not ours: no persister writes there
    now = time.time()
    found: list[PrunedSegment] = []
    for segment in find_segments(directory):
        with suppress(FileNotFoundError):
            written_at = segment.path.stat(follow_symlinks=False).st_mtime
            found.append(PrunedSegment(path=segment.path, size=segment.size, age_seconds=now - written_at))
    return sorted(found, key=lambda each: -each.age_seconds)


def _remove(path: Path, dry_run: bool) -> bool:
    """Remove a segment, or only find out whether it could be."""
    try:
        with opened(path) as descriptor:
            if not lock_if_unwritten(descriptor, path, given_up_after=math.inf):  # it may just be idle
                return False
            if not dry_run:
                path.unlink()
    except OSError:
        return False
    return True
