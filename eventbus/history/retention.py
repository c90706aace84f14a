"""Remove segments that are too old or too many, except those that a process is writing.

The lock on a segment shows whether a process is writing it; see `writer_lock`. Where the log is shipped to a
server, segments that are not shipped yet stay until they exceed twice the limits. Rejected: keeping them for
ever, which fills the disk of a host whose server does not come back, or that is not shipped any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from eventbus.history.segment_files import find_segments, written_at
from eventbus.history.shipped import unshipped_test
from eventbus.history.stored_lines import open_regular
from eventbus.history.writer_lock import try_lock

__all__ = ["PrunedSegment", "prune"]

_FRESH_SECONDS = 60.0
"""A segment written to within this time is kept: its writer may not have locked it yet."""
_UNSHIPPED_FACTOR = 2
"""How much longer, and larger, a log may become for the sake of what is not shipped yet."""

_logger = logging.getLogger("eventbus.history")


class PrunedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that was removed, or that a dry run would remove.

    Attributes:
        path: The file.
        size: Its size in bytes.
        age_seconds: The time since it was last written to.
        is_shipped: False if the log is shipped to a server, and this segment was not yet, or not all of it.
    """

    path: Path
    size: int
    age_seconds: float
    is_shipped: bool = True


def prune(
    directory: Path,
    *,
    older_than: timedelta | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
    now: float | None = None,
    on_kept: Callable[[PrunedSegment], object] | None = None,
) -> list[PrunedSegment]:
    """Remove segments of a log and return them, the oldest first.

    A segment is kept if a live process is writing it, or if it was written to within the last
    minute. Other files are not touched, and links are not followed. In a log that is shipped to a server,
    a segment that is not shipped yet is kept up to twice the limits; then it is removed, with a warning.

    Args:
        directory: The log's directory.
        older_than: Remove segments last written to longer ago than this.
        max_bytes: Then remove the oldest segments until the rest takes at most this many bytes.
        dry_run: Only return the segments that would be removed.
        now: The time that ages are counted from, in seconds since 1970; by default the clock's.
        on_kept: Called with each segment that is kept because it is not shipped yet.

    Raises:
        OSError: The directory cannot be read. A segment that cannot be removed is kept, and not
            returned.
    """
    found = _oldest_first(directory, time.time() if now is None else now)
    is_unshipped = unshipped_test(directory)
    remaining_bytes = sum(each.size for each in found)
    pruned: list[PrunedSegment] = []

    def exceeds(each: PrunedSegment, factor: int = 1) -> bool:
        is_old = older_than is not None and each.age_seconds > factor * older_than.total_seconds()
        return is_old or (max_bytes is not None and remaining_bytes > factor * max_bytes)

    for each in found:
        if not exceeds(each) or each.age_seconds < _FRESH_SECONDS:
            continue
        if is_unshipped(each.path):
            each = msgspec.structs.replace(each, is_shipped=False)  # noqa: PLW2901
            if not exceeds(each, _UNSHIPPED_FACTOR):
                if on_kept is not None:
                    on_kept(each)
                continue
        if _remove(each.path, dry_run):
            pruned.append(each)
            remaining_bytes -= each.size
    if not dry_run:
        _report_lost(pruned)
    return pruned


def _report_lost(pruned: list[PrunedSegment]) -> None:
    lost = [each for each in pruned if not each.is_shipped]
    if lost:
        size = sum(each.size for each in lost)
        _logger.warning("removed %d segments (%d bytes) that were not shipped yet", len(lost), size)


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
