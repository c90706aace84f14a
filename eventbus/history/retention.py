"""Remove segments that are too old or too many, except those that a process is writing.

The lock on a segment shows whether a process is writing it; see `writer_lock`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from eventbus.history.segment_files import find_segments, written_at
from eventbus.history.stored_lines import open_regular
from eventbus.history.writer_lock import try_lock

__all__ = ["PrunedSegment", "prune"]

_FRESH_SECONDS = 60.0
"""A segment written to within this time is kept: its writer may not have locked it yet."""


class PrunedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that was removed, or that a dry run would remove.

    Attributes:
        path: The file.
        size: Its size in bytes.
        age_seconds: The time since it was last written to.
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
    now: float | None = None,
) -> list[PrunedSegment]:
    """Remove segments of a log and return them, the oldest first.

    A segment is kept if a live process is writing it, or if it was written to within the last
    minute. Other files are not touched, and links are not followed.

    Args:
        directory: The log's directory.
        older_than: Remove segments last written to longer ago than this.
        max_bytes: Then remove the oldest segments until the rest takes at most this many bytes.
        dry_run: Only return the segments that would be removed.
        now: The time that ages are counted from, in seconds since 1970; by default the clock's.

    Raises:
        OSError: The directory cannot be read. A segment that cannot be removed is kept, and not
            returned.
    """
    found = _oldest_first(directory, time.time() if now is None else now)
    remaining_bytes = sum(each.size for each in found)
    pruned: list[PrunedSegment] = []
    for each in found:
        is_old = older_than is not None and each.age_seconds > older_than.total_seconds()
        is_excess = max_bytes is not None and remaining_bytes > max_bytes
        if (is_old or is_excess) and each.age_seconds >= _FRESH_SECONDS and _remove(each.path, dry_run):
            pruned.append(each)
            remaining_bytes -= each.size
    return pruned


def _oldest_first(directory: Path, now: float) -> list[PrunedSegment]:
    if (directory / "events").is_symlink():
        return []  # a persister writes to no such directory, so its files are not ours
    found: list[PrunedSegment] = []
    for segment in find_segments(directory):
        with suppress(OSError):  # deleted since, or lost by a server: others are looked at
            age = now - written_at(segment, now)
            found.append(PrunedSegment(path=segment.path, size=segment.size, age_seconds=age))
    return sorted(found, key=lambda each: -each.age_seconds)


def _remove(path: Path, dry_run: bool) -> bool:
    """Remove a segment, or with `dry_run` only check that it could be removed."""
    try:
        with open_regular(path) as descriptor:
            if not try_lock(descriptor, path, to_remove=True):
                return False
            if not dry_run:
                path.unlink()
    except OSError:
        return False
    return True
