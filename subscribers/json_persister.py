"""JsonPersister: write every event to the log, one JSON object a line.

The rules:

- A batch is written as soon as it arrives, whole lines at a time, unbuffered: what was written
  survives a ``kill -9`` of the process. `sync` says when it is made to survive a power cut too.
- Every line begins with ``{"seq":``, the record's number within the bus's log, from 1. Where events
  were lost, before they came here or for want of a place to write them, numbers are missing.
- What was read from the same log, followed or replayed, is left out: it is there already.
- A file system that fails never raises into the bus: what could not be written is kept, up to
  `MAX_PENDING_BYTES`, and tried again with the next batch, each second, and at the end. One
  warning per cause every 20 seconds says so.
- All of it happens in a thread of the persister's own: a disk that hangs holds up nobody else.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from eventbus import (
    Event,
    EventsLost,
    EventTypes,
    OwnThread,
    SkillCompleted,
    Subscriber,
    SubscriberError,
    WorkflowCompleted,
    encode,
    new_to_log,
)
from subscribers.segment import Segment

if TYPE_CHECKING:
    from eventbus import EventBus

__all__ = ["JsonPersister", "PersisterStatistics", "Sync"]

Sync: TypeAlias = Literal["never", "interval", "always"]
"""When what was written is made to reach the disk."""

MAX_PENDING_LINES = 65_536
"""So many lines that could not be written are kept; beyond it the oldest are lost, and counted."""
MAX_PENDING_BYTES = 16 * 1024 * 1024
"""So many bytes of them."""

_SYNC_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_SECONDS_BETWEEN_WARNINGS = 20.0

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
        directory: Where the log lives. By default the environment's ``EVENTBUS_DIR``, else
            ``.session-buddy``, looked up when the bus starts.
        sync: ``"interval"``: within a second, and at once when something failed, when a workflow or
            a skill ended, and at the end. ``"always"``: after each batch. ``"never"``: leave it to
            the operating system.

    Raises:
        ValueError: `sync` is none of these.
    """

    events: EventTypes = Event
    capacity: int = 65_536
    max_batch: int = 2_048  # the hop to the thread and back costs as much as writing 200 events
    name: str | None = "json_persister"

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, sync: Sync = "interval") -> None:
        if sync not in ("never", "interval", "always"):
            raise ValueError(f"sync={sync!r} is no policy. Pass 'never', 'interval' or 'always'")
        self._given_directory = directory
        self._sync_policy = sync
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
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._seq = 0
        self._written = 0
        self._lost = 0
        self._failed = 0
        self._degraded = False
        self._sync_at: float | None = None
        self._no_sync_before = 0.0
        self._retry_at = 0.0
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
            pending=len(self._pending),
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
        self._directory = _resolved(self._given_directory or _default_directory())
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
        events = new_to_log(events, self._log)
        self._keep(self._lines_of(events))
        self._flush()
        if self._sync_policy == "always" or (self._sync_policy == "interval" and _is_urgent(events)):
            self._sync()

    def _lines_of(self, events: Sequence[Event]) -> list[bytes]:
        lines: list[bytes] = []
        seq = self._seq
        for event in events:
            if type(event) is EventsLost:  # half the price of isinstance, for every event there is
                seq += max(0, event.count)
            seq += 1
            # First in the line, by its place: an event of one's own may have a field of that name.
            lines.append(b'{"seq":%d,%b\n' % (seq, encode(event)[1:]))
        self._seq = seq
        return lines

    def _keep(self, lines: list[bytes]) -> None:
        self._pending.extend(lines)
        self._pending_bytes += sum(map(len, lines))
        while self._pending_bytes > MAX_PENDING_BYTES or len(self._pending) > MAX_PENDING_LINES:
            self._pending_bytes -= len(self._pending.popleft())
            self._lost += 1

    def _flush(self) -> None:
        """Write what is pending; on failure keep it, and say so."""
        before = len(self._pending)
        if not before:
            return
        try:
            self._current_segment().append(self._pending)
        except (OSError, ValueError) as error:
            self._fail("write", error)
            self._retry_at = time.monotonic() + _RETRY_SECONDS
        else:
            self._degraded = False
        if len(self._pending) < before:
            self._written += before - len(self._pending)
            self._pending_bytes = sum(map(len, self._pending))
            if self._sync_at is None and self._sync_policy != "never":
                self._sync_at = time.monotonic() + _SYNC_SECONDS

    def _current_segment(self) -> Segment:
        if self._segment is not None and not self._segment.is_in_place():
            self._warn("replaced", f"{self._segment.path} was deleted or replaced; another is begun")
            self._close_segment()
        if self._segment is None:
            self._segment = Segment(self._directory, self._bus_id, _seq_of(self._pending[0]))
            self._path = self._segment.path
        return self._segment

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
        if self._pending and now >= self._retry_at:
            self._flush()
        if self._sync_at is not None and now >= self._sync_at:
            self._sync()
        due = [self._retry_at] if self._pending else []
        if self._sync_at is not None:
            due.append(self._sync_at)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _finish(self) -> None:
        self._flush()
        if self._sync_policy != "never":
            self._sync()
        self._close_segment()

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
            _logger.warning("%s (%d records pending, %d lost)", message, len(self._pending), self._lost)


def _default_directory() -> str:
    return os.environ.get("EVENTBUS_DIR") or ".session-buddy"


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


def _is_urgent(events: Sequence[Event]) -> bool:
    """Whether a failure, or the end of a workflow or a skill, is among them."""
    # By class first: asking each event all of it would cost a third of encoding it.
    kinds = {type(event) for event in events}
    if any(issubclass(kind, WorkflowCompleted | SkillCompleted) for kind in kinds):
        return True
    can_fail = any("success" in kind.__struct_fields__ for kind in kinds)
    return can_fail and any(getattr(event, "success", True) is False for event in events)


def _seq_of(line: bytes) -> int:
    return int(line[line.index(b":") + 1 : line.index(b",")])
