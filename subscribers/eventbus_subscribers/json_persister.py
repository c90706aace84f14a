"""JsonPersister: write every event to the log, one JSON object a line.

The rules:

- A batch is written as soon as it arrives, whole lines at a time, unbuffered: what was written
  survives a ``kill -9`` of the process. `sync` says when it is made to survive a power cut too.
- Secrets, e-mail addresses and home directories are left out of what is written (`scrubbed_lines`).
- Every line begins with ``{"seq":``, the record's number within the bus's log, from 1. Where events
  were lost, before they came here or for want of a place to write them, numbers are missing.
- What was read from the same log, followed or replayed, is left out: it is there already.
- A file system that fails never raises into the bus: what could not be written is kept, up to
  `MAX_PENDING_BYTES`, and tried again with the next batch, each second, and at the end. One
  warning per cause every 20 seconds says so.
- A segment that has grown to `segment_bytes` is followed by another; when one is begun, old ones go.
- All of it happens in a thread of the persister's own: a disk that hangs holds up nobody else.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from eventbus import (
    DEFAULT_KEEP_BYTES,
    DEFAULT_KEEP_DAYS,
    DEFAULT_SEGMENT_BYTES,
    Event,
    EventsLost,
    EventTypes,
    OwnThread,
    SkillCompleted,
    Subscriber,
    SubscriberError,
    SyncPolicy,
    WorkflowCompleted,
    exclude_read_from,
    log_directory,
    scrubbed_lines,
)
from eventbus.history import prune
from eventbus_subscribers.numbered_lines import numbered
from eventbus_subscribers.pending_lines import PendingLines
from eventbus_subscribers.segment import Segment

if TYPE_CHECKING:
    from eventbus import EventBus

__all__ = ["JsonPersister", "PersisterStatistics"]

MAX_PENDING_LINES = 65_536
"""So many lines that could not be written are kept; beyond it the oldest are lost, and counted."""
MAX_PENDING_BYTES = 16 * 1024 * 1024
"""So many bytes of them."""

_EVENTS_AT_ONCE = 256  # their lines fit the processor's cache, and are worth a call
_SYNC_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_SECONDS_BETWEEN_WARNINGS = 20.0

_success: Callable[[Event], object] = attrgetter("success")
_logger = logging.getLogger("eventbus.persister")


class PersisterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A persister's books; ``written + pending + lost`` is what it was given.

    Attributes:
        path: The segment being written; None before the first event.
        written: Records written.
        pending: Records that are kept, to be written when it is possible again.
        lost: Records that could not be written, nor kept any longer.
        failed: Operations on files that failed.
        degraded: Whether the last attempt to write failed.
    """

    path: Path | None
    written: int
    pending: int
    lost: int
    failed: int
    degraded: bool


class JsonPersister(Subscriber[Event]):
    """Writes every event of one bus to ``<directory>/events/<start>-<pid>-<bus id>.jsonl``.

    The file is made at the first event, with mode 0600, in directories of mode 0700.

    Args:
        directory: Where the log lives; by default `eventbus.log_directory()`, looked up when the bus
            starts.
        sync: ``"interval"``: within a second, and at once when something failed, when a workflow or
            a skill ended, and at the end. ``"always"``: after each batch. ``"never"``: leave it to
            the operating system.
        segment_bytes: How large a segment may grow, in bytes, but for a batch that is larger.
        keep_days: For how many days segments are kept after they were last written to; 0: for ever.
            Decided, like the next, whenever a segment is begun, for those of other processes too, but
            never for one that somebody is writing.
        keep_bytes: How many bytes of segments are kept in all; 0: any number.

    Raises:
        ValueError: `sync` is none of these, or a number is negative, or `segment_bytes` is 0.
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
        self._sync_policy = sync
        self._segment_bytes = segment_bytes
        self._keep_days = keep_days
        self._keep_bytes = keep_bytes
        self._thread = OwnThread("eventbus-json-persister", idle=self._work_when_idle)
        self._bus_id = ""
        self._is_serving = False
        self._directory = Path()
        self._log = ""
        self._segment: Segment | None = None
        self._begin_new()

    def _begin_new(self) -> None:
        """Forget what was: in a forked child, what the parent has not written is the parent's."""
        self._pid = os.getpid()
        self._close_segment()
        self._path: Path | None = None
        self._pending = PendingLines()
        self._seq = 0
        self._written = 0
        self._lost = 0
        self._failed = 0
        self._degraded = False
        self._sync_at: float | None = None
        self._no_sync_before = 0.0
        self._retry_at = 0.0
        self._prune_due = False
        self._warn_again_at: dict[str, float] = {}

    @property
    def path(self) -> Path | None:
        """The segment being written, or written last; None before the first event."""
        return self._path

    def statistics(self) -> PersisterStatistics:
        """Return what has been written and what has not, from any thread."""
        return PersisterStatistics(
            path=self._path,
            written=self._written,
            pending=self._pending.count,
            lost=self._lost,
            failed=self._failed,
            degraded=self._degraded,
        )

    async def start(self, bus: EventBus) -> None:
        """Note whose events these are.

        Args:
            bus: The bus.

        Raises:
            SubscriberError: This persister is writing another bus's events: each needs its own.
        """
        if self._is_serving and self._pid == os.getpid():
            raise SubscriberError("a JsonPersister writes one bus's events. Make another for this bus")
        self._bus_id = bus.id
        self._is_serving = True
        self._directory = _resolved(log_directory(self._given_directory))
        self._log = _real(self._directory)
        self._begin_new()

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Write events.

        Args:
            events: At least one, in the bus's order.
        """
        await self._thread.run(self._write_batch, events)

    async def stop(self) -> None:
        """Write what is pending, have it reach the disk, and close the file."""
        try:
            await self._thread.run(self._finish)
        finally:
            self._thread.end()
            self._is_serving = False

    # In the thread.

    def _write_batch(self, events: Sequence[Event]) -> None:
        if self._pid != os.getpid():
            self._begin_new()
        events = exclude_read_from(events, self._log)
        self._leave_what_was_taken_away()
        kinds = {*map(type, events)}
        lines_of = self._lines_with_gaps if EventsLost in kinds else self._lines
        for first in range(0, len(events), _EVENTS_AT_ONCE):
            some = events[first : first + _EVENTS_AT_ONCE]
            self._pending.add(lines_of(some), len(some))
            if not first or not self._degraded:  # a disk that fails is asked once for each batch
                self._flush()
        if self._degraded:
            self._bound_pending()
        if self._sync_policy == "always" or (self._sync_policy == "interval" and _is_urgent(events, kinds)):
            self._sync()

    def _lines(self, events: Sequence[Event]) -> bytes:
        first = self._seq + 1
        self._seq += len(events)
        return numbered(scrubbed_lines(events), first)

    def _lines_with_gaps(self, events: Sequence[Event]) -> bytes:
        lines: list[bytes] = []
        for event in events:
            if isinstance(event, EventsLost):
                self._seq += max(0, event.count)
            lines.append(self._lines([event]))
        return b"".join(lines)

    def _bound_pending(self) -> None:
        self._lost += self._pending.drop_oldest(max_count=MAX_PENDING_LINES, max_size=MAX_PENDING_BYTES)

    def _flush(self) -> None:
        """Write what is pending; on failure keep it, and say so."""
        error: Exception | None = None
        while self._pending.count and error is None:
            try:
                size, error = self._current_segment().append(self._pending.first_block())
                self._note_written(size)
            except (OSError, ValueError) as failure:
                error = failure
        if error is None:
            self._degraded = False
            return
        self._fail("write", error)
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            self._end_segment()  # it may not grow further: another may
        self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _note_written(self, size: int) -> None:
        self._written += self._pending.drop(size)
        if size and self._sync_at is None and self._sync_policy != "never":
            self._sync_at = time.monotonic() + _SYNC_SECONDS

    def _leave_what_was_taken_away(self) -> None:
        if self._segment is not None and not self._segment.is_in_place():
            self._warn("replaced", f"{self._segment.path} was deleted or replaced; another is begun")
            self._close_segment()

    def _current_segment(self) -> Segment:
        block = self._pending.first_block()
        if self._segment is not None and self._segment.size + len(block) > self._segment_bytes:
            self._end_segment()
        if self._segment is None:
            self._segment = Segment(self._directory, self._bus_id, _seq_of(block))
            self._path = self._segment.path
            if self._prune_due:  # since the last one: there was never a moment without something to write
                self._prune()
            self._prune_due = True
        return self._segment

    def _end_segment(self) -> None:
        if self._sync_policy != "never":
            self._sync()
        self._close_segment()

    def _sync(self) -> None:
        self._sync_at = None
        if self._segment is None or time.monotonic() < self._no_sync_before:
            return
        try:
            self._segment.sync()
        except OSError as error:
            self._fail("sync", error)
            self._close_segment()
            # Where syncing always fails, each attempt costs a segment: there must not be thousands.
            self._no_sync_before = time.monotonic() + _SECONDS_BETWEEN_WARNINGS

    def _work_when_idle(self) -> float | None:
        """Sync when it is due, try again what failed; return when to look again, in seconds."""
        now = time.monotonic()
        if self._pending.count and now >= self._retry_at:
            self._leave_what_was_taken_away()
            self._flush()
        if self._sync_at is not None and now >= self._sync_at:
            self._sync()
        if self._prune_due:
            self._prune()
        due = [self._retry_at] if self._pending.count else []
        if self._sync_at is not None:
            due.append(self._sync_at)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _prune(self) -> None:
        """Remove what is too old, or too much; here, because deleting may block like any other file work."""
        self._prune_due = False
        older_than = timedelta(days=self._keep_days) if self._keep_days else None
        try:
            prune(self._directory, older_than=older_than, max_bytes=self._keep_bytes or None)
        except (OSError, OverflowError) as error:
            self._warn("prune", f"cannot prune the event log in {self._directory}: {error}")

    def _finish(self) -> None:
        self._leave_what_was_taken_away()
        self._flush()
        self._end_segment()

    def _close_segment(self) -> None:
        segment, self._segment = self._segment, None
        self._sync_at = None
        if segment is not None:
            try:
                segment.close()
            except OSError as error:
                self._fail("close", error)

    def _fail(self, what: str, error: Exception) -> None:
        self._failed += 1
        self._degraded = True
        number = error.errno if isinstance(error, OSError) else None
        cause = errno.errorcode.get(number or 0, type(error).__name__)
        self._warn(f"{what} {cause}", f"cannot {what} the event log in {self._directory}: {error}")

    def _warn(self, cause: str, message: str) -> None:
        now = time.monotonic()
        if now >= self._warn_again_at.get(cause, now):
            self._warn_again_at[cause] = now + _SECONDS_BETWEEN_WARNINGS
            _logger.warning("%s (%d records pending, %d lost)", message, self._pending.count, self._lost)


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


def _is_urgent(events: Sequence[Event], kinds: set[type[Event]]) -> bool:
    """Whether a failure, or the end of a workflow or a skill, is among them."""
    # By class first: asking each event all of it would cost a third of encoding it.
    if any(issubclass(kind, WorkflowCompleted | SkillCompleted) for kind in kinds):
        return True
    can_fail = {kind for kind in kinds if "success" in kind.__struct_fields__}
    if not can_fail:
        return False
    asked = events if can_fail == kinds else [event for event in events if type(event) in can_fail]
    return False in map(_success, asked)


def _seq_of(line: bytes) -> int:
    return int(line[line.index(b":") + 1 : line.index(b",")])
