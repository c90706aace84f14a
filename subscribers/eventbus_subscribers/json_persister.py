"""JsonPersister: write every event to the log, one JSON object per line.

docs/storing.md lists what is promised. Every line begins with ``{"seq":``, the record's number in the
log of this bus, from 1; the numbers of lost events are missing. All file work is done in a thread of
its own, so that a disk that hangs blocks no other subscriber.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import anyio

from eventbus import (
    DEFAULT_KEEP_BYTES,
    DEFAULT_KEEP_DAYS,
    DEFAULT_SEGMENT_BYTES,
    Event,
    EventsLost,
    EventTypes,
    OwnThread,
    Subscriber,
    SubscriberError,
    SyncPolicy,
    exclude_read_from,
    log_directory,
)
from eventbus.history import prune
from eventbus_subscribers.blocks import Block, numbered_blocks
from eventbus_subscribers.pending_lines import PendingLines
from eventbus_subscribers.segment import Segment
from eventbus_subscribers.storage_books import PersisterStatistics, StorageBooks
from eventbus_subscribers.storage_policy import StoragePolicy

if TYPE_CHECKING:
    from eventbus import EventBus

__all__ = ["JsonPersister", "PersisterStatistics"]

MAX_PENDING_LINES = 65_536
"""Lines that are kept while they cannot be written; beyond this the oldest are lost, and counted."""
MAX_PENDING_BYTES = 16 * 1024 * 1024
"""The same, in bytes."""

_EVENTS_AT_ONCE = 256  # their lines fit the processor's cache, and are worth a system call
_FULL = (errno.ENOSPC, errno.EDQUOT)  # of these errors the same file recovers
_perf_counter = time.perf_counter  # bound now: tests of the programs that use the bus may replace it


class JsonPersister(Subscriber[Event]):
    """Writes every event of one bus to ``<directory>/events/<start>-<pid>-<bus id>.jsonl``.

    The file is created at the first event, with mode 0600, in directories of mode 0700.

    Args:
        directory: The directory of the log; by default `eventbus.log_directory()`, looked up when the
            bus starts.
        sync: ``"interval"``: within a second, and at once after a failure, the end of a workflow or a
            skill, and on closing. ``"always"``: after each batch. ``"never"``: leave it to the
            operating system.
        segment_bytes: The largest size of a segment in bytes, unless a single write is larger.
        keep_days: Segments last written to longer ago are removed; 0: no limit. This limit and the
            next are applied whenever a segment is begun, to the segments of all processes, except
            those still being written.
        keep_bytes: Beyond this total size in bytes the oldest segments are removed; 0: no limit.

    Raises:
        ValueError: `sync` is not one of these, a number is negative, or `segment_bytes` is 0.
    """

    events: EventTypes = Event
    capacity: int = 65_536
    max_batch: int = 2_048  # the hop to the thread and back costs as much as writing 200 events
    name: str | None = "json_persister"

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        sync: SyncPolicy = "interval",
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        keep_days: float = DEFAULT_KEEP_DAYS,
        keep_bytes: int = DEFAULT_KEEP_BYTES,
    ) -> None:
        if sync not in get_args(SyncPolicy):
            raise ValueError(f"sync={sync!r} is not a policy. Pass 'never', 'interval' or 'always'")
        if not (segment_bytes > 0 and keep_days >= 0 and keep_bytes >= 0):
            raise ValueError(
                f"segment_bytes={segment_bytes!r} must be positive, keep_days={keep_days!r} and "
                f"keep_bytes={keep_bytes!r} must not be negative"
            )
        self._given_directory = directory
        self._sync_policy: SyncPolicy = sync
        self._segment_bytes = segment_bytes
        self._keep_days = keep_days
        self._keep_bytes = keep_bytes
        self._thread = OwnThread("eventbus-json-persister", idle=self._work_when_idle)
        self._bus_id = ""
        self._is_serving = False
        self._directory = Path()
        self._log = ""
        self._segment: Segment | None = None
        self._reset()

    def _reset(self) -> None:
        """Begin a new log. A forked child must not write the records that its parent has pending."""
        self._pid = os.getpid()
        self._policy = StoragePolicy(self._sync_policy)
        self._close_segment()
        self._path: Path | None = None
        self._pending = PendingLines()
        self._books = StorageBooks(self._directory, self._pending)
        self._seq = 0
        self._begun_at = 0.0

    @property
    def path(self) -> Path | None:
        """The segment being written, or the last one; None before the first event."""
        return self._path

    def statistics(self) -> PersisterStatistics:
        """Return what was written, is pending and was lost; from any thread."""
        return self._books.statistics(self._path)

    async def start(self, bus: EventBus) -> None:
        """Prepare to write the events of a bus.

        Args:
            bus: The bus.

        Raises:
            SubscriberError: This persister serves another bus already.
        """
        if self._is_serving and self._pid == os.getpid():
            raise SubscriberError("a JsonPersister writes one bus's events. Make another for this bus")
        self._bus_id = bus.id
        self._is_serving = True
        self._directory = _resolved(log_directory(self._given_directory))
        self._log = _real(self._directory)
        self._reset()

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Write events.

        Args:
            events: At least one, in the bus's order.
        """
        await self._thread.run(self._write_batch, events)

    async def stop(self) -> None:
        """Write pending records, sync, and close the segment; count as lost what cannot be written."""
        try:
            await self._thread.run(self._finish)
        except anyio.get_cancelled_exc_class():  # the disk hangs, and the close does not wait longer
            self._books.close()
            raise
        finally:
            self._thread.end()
            self._is_serving = False

    # In the thread.

    def _write_batch(self, events: Sequence[Event]) -> None:
        if self._pid != os.getpid():
            self._reset()
        events = exclude_read_from(events, self._log)
        self._leave_replaced_segment()
        kinds = {*map(type, events)}
        first = 0
        while first < len(events):
            chunk = events[first : first + self._policy.events_at_once(_EVENTS_AT_ONCE)]
            began = _perf_counter()
            self._add_pending(chunk, has_losses=EventsLost in kinds)
            self._policy.scrubbed(len(chunk), _perf_counter() - began)
            if not first or not self._books.degraded:  # try a failing disk once per batch
                self._flush()
            first += len(chunk)
        if self._books.degraded:
            self._bound_pending()
        if self._policy.wants_sync_after(events, kinds):
            self._sync()

    def _add_pending(self, events: Sequence[Event], *, has_losses: bool) -> None:
        # Not in `_write_batch`, which would keep the last block alive beside the next: then their lines
        # no longer fit the processor's cache.
        try:
            blocks = numbered_blocks(events, self._seq, has_losses=has_losses)
        except Exception as error:  # noqa: BLE001 - one event must not take the others of its batch away
            self._add_one_by_one(events, error)
            return
        for block in blocks:
            self._pending.add(block)
            self._seq = block.last_seq

    def _add_one_by_one(self, events: Sequence[Event], error: Exception) -> None:
        if len(events) > 1:
            for event in events:
                self._add_pending([event], has_losses=isinstance(event, EventsLost))
            return
        self._seq += 1
        self._books.lose(error)

    def _bound_pending(self) -> None:
        self._books.lost += self._pending.drop_oldest(max_count=MAX_PENDING_LINES, max_size=MAX_PENDING_BYTES)

    def _flush(self) -> None:
        """Write pending records; if that fails, keep them and log the failure."""
        error: Exception | None = None
        while self._pending.count and error is None:
            try:
                block = self._pending.first_block()
                size, error = self._segment_for(block).append(block.lines)
                self._note_written(size)
            except Exception as failure:  # noqa: BLE001 - a clock or a path of the program's own may fail
                error = failure
            if self._lose_overlong_record(error):
                error = None
        if error is None:
            self._books.degraded = False
            return
        self._books.fail("written", error)
        # This file may be unable to grow further where another one is not: it is too large for the
        # limit, or was lost by a server. One without records would only be followed by many like it.
        is_full = isinstance(error, OSError) and error.errno in _FULL
        if not is_full and self._segment is not None and self._segment.has_records:
            self._end_segment()
        self._policy.write_failed()

    def _lose_overlong_record(self, error: Exception | None) -> bool:
        """Lose a record that is larger than a file may be, instead of holding up those behind it."""
        if not isinstance(error, OSError) or error.errno != errno.EFBIG:
            return False
        if self._segment is None or not self._segment.begin_again():
            return False
        self._pending.drop_first()
        self._books.lose(error)
        return True

    def _note_written(self, size: int) -> None:
        self._books.written += self._pending.drop(size)
        if size:
            self._policy.written()

    def _leave_replaced_segment(self) -> None:
        if self._segment is not None and not self._segment.is_in_place():
            self._books.warn(
                "replaced", f"begins another segment: {self._segment.path} was deleted or replaced"
            )
            self._close_segment()

    def _segment_for(self, block: Block) -> Segment:
        """Return the segment to append a block to."""
        if self._segment is not None and self._segment.size + len(block.lines) > self._segment_bytes:
            self._end_segment()
        if self._segment is None:
            self._segment = Segment(self._directory, self._bus_id, block.first_seq)
            self._path = self._segment.path
            self._begun_at = self._segment.begun_at
            self._prune_if_due()  # the thread was never idle since the last segment was begun
            self._policy.segment_begun()
        return self._segment

    def _end_segment(self) -> None:
        if self._policy.wants_sync_before_close():
            self._sync()
        self._close_segment()

    def _sync(self) -> None:
        if self._segment is None or not self._policy.allows_sync():
            return
        try:
            self._segment.sync()
            self._policy.nothing_to_sync()
        except OSError as error:
            self._books.fail("synced", error)
            self._close_segment()
            self._policy.sync_failed()

    def _work_when_idle(self) -> float | None:
        """Do what is due; return after how many seconds to be called again."""
        if self._pending.count and self._policy.is_retry_due():
            self._leave_replaced_segment()
            self._flush()
        if self._policy.is_sync_due():
            self._sync()
        self._prune_if_due()
        return self._policy.seconds_until_due(is_pending=self._pending.count > 0)

    def _prune_if_due(self) -> None:
        """Remove segments beyond the limits, once per segment; in this thread, because deleting may block."""
        if not self._policy.is_prune_due:
            return
        self._policy.pruned()
        try:
            older_than = timedelta(days=self._keep_days) if self._keep_days else None
            prune(
                self._directory,
                older_than=older_than,
                max_bytes=self._keep_bytes or None,
                # On the clock that made the other times: the program's may have been set by a test.
                now=self._begun_at,
            )
        except (OSError, OverflowError) as error:
            self._books.warn("prune", f"cannot be pruned: {error}")

    def _finish(self) -> None:
        self._leave_replaced_segment()
        self._flush()
        self._prune_if_due()  # the thread was never idle since the segment was begun
        self._end_segment()
        self._give_up_pending()

    def _give_up_pending(self) -> None:
        self._books.lost += self._pending.drop_oldest(max_count=0, max_size=0)
        self._books.close()

    def _close_segment(self) -> None:
        segment, self._segment = self._segment, None
        self._policy.nothing_to_sync()
        if segment is not None:
            try:
                segment.close()
            except OSError as error:
                self._books.fail("closed", error)


def _resolved(directory: str | os.PathLike[str]) -> Path:
    # Once, now: a program that changes its working directory later keeps one log. And not
    # `Path.resolve`, which follows a link in the directory's place, so that it would not be refused.
    try:
        return Path(os.path.abspath(directory))  # noqa: PTH100
    except OSError:
        return Path(directory)  # the working directory is gone: writing will fail, and say so


def _real(directory: Path) -> str:
    try:
        return os.path.realpath(directory)
    except (OSError, ValueError):
        return str(directory)
