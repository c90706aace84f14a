"""DirectWriter: append events to the log at once, in the calling thread.

For programs that live for milliseconds, such as a hook of an agent: a bus, its thread and its loop would
cost more processor time than all else they do. Lines, scrubbing, files and locks are the persister's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from eventbus.events import Event
from eventbus.settings import DEFAULT_KEEP_BYTES, DEFAULT_KEEP_DAYS, SyncPolicy
from eventbus_subscribers.blocks import numbered_blocks
from eventbus_subscribers.segment import Segment

__all__ = ["DirectWriter"]


class DirectWriter:
    """Writes to a segment of its own, which it locks until it is closed.

    Args:
        directory: The directory of the log.
        writer_id: The bus id in the segment's name: at most 32 letters and digits, not used before.
        sync: Unless it is ``"never"``, each call of `append` waits until its events are on the disk.
        keep_days: As of `JsonPersister`; applied by the writer that begins the first segment of a day,
            because the listing of a long log takes longer than an append.
        keep_bytes: The same.
    """

    def __init__(
        self,
        directory: Path,
        writer_id: str,
        *,
        sync: SyncPolicy = "interval",
        keep_days: float = DEFAULT_KEEP_DAYS,
        keep_bytes: int = DEFAULT_KEEP_BYTES,
    ) -> None:
        # Not resolved: a link in the directory's place is refused.
        self._directory = Path(os.path.abspath(directory))  # noqa: PTH100
        self._writer_id = writer_id
        self._sync = sync
        self._keep = keep_days, keep_bytes
        self._segment: Segment | None = None
        self._seq = 0

    def append(self, events: Sequence[Event]) -> None:
        """Append events, and return when they are stored.

        Args:
            events: At least one.

        Raises:
            OSError: They cannot be written. No segment without a record is left behind.
            ValueError: The directory has an impossible name.
        """
        (block,) = numbered_blocks(events, self._seq, has_losses=False)
        if self._segment is None:
            self._segment = self._begin()
        size, error = self._segment.append(block.lines)
        if error is not None:
            if not size and not self._segment.has_records:
                self._remove()
            raise error
        self._seq = block.last_seq
        if self._sync != "never":
            self._segment.sync()

    def close(self) -> None:
        """Close the segment."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def _begin(self) -> Segment:
        is_first = self._is_first_of_day()
        segment = Segment(self._directory, self._writer_id, 1)
        if is_first:
            self._prune(segment.begun_at)
        return segment

    def _is_first_of_day(self) -> bool:
        """Return True if the newest segment of the log was begun on another day."""
        with suppress(OSError, ValueError):
            newest = max(os.listdir(self._directory / "events"), default="")  # noqa: PTH208 - names only
            return not newest.startswith(f"{datetime.now(UTC):%Y%m%d}T")
        return False

    def _prune(self, now: float) -> None:
        from eventbus.history import prune  # noqa: PLC0415 - once a day

        days, max_bytes = self._keep
        with suppress(OSError, OverflowError):  # doctor reports what cannot be read
            older_than = timedelta(days=days) if days else None
            prune(self._directory, older_than=older_than, max_bytes=max_bytes or None, now=now)

    def _remove(self) -> None:
        """Remove a segment without a record: a full disk would be littered with them."""
        segment, self._segment = self._segment, None
        if segment is not None:
            with suppress(OSError):
                segment.path.unlink()
            with suppress(OSError):
                segment.close()
