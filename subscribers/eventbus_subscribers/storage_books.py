"""The books of a persister: what was written, what was lost and why, and what is logged about it."""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from pathlib import Path

import msgspec

from eventbus import RateLimitedLog
from eventbus_subscribers.pending_lines import PendingLines

__all__ = ["PersisterStatistics", "StorageBooks"]

_logger = logging.getLogger("eventbus.persister")


class PersisterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A persister's counts. Events read from the same log are in none of them.

    Attributes:
        path: The segment being written; None before the first event.
        written: Records written.
        pending: Records kept because they cannot be written yet; 0 once the persister has stopped.
        lost: Records that could neither be written nor kept, and those pending when it stopped.
        failed: File operations that failed.
        degraded: True if the last attempt to write failed.
    """

    path: Path | None
    written: int
    pending: int
    lost: int
    failed: int
    degraded: bool


class StorageBooks:
    """Counts a persister's records and failures, and logs each cause at most every 20 seconds.

    Args:
        directory: The directory of the log, for messages.
        pending: The records that wait to be written.

    Attributes:
        written: Records written.
        lost: Records lost.
        failed: File operations that failed.
        degraded: True if the last attempt to write failed.
    """

    __slots__ = ("_cause", "_directory", "_log", "_pending", "degraded", "failed", "lost", "written")

    def __init__(self, directory: Path, pending: PendingLines) -> None:
        self._directory = directory
        self._pending = pending
        self._log = RateLimitedLog(_logger, f"the event log in {directory}")
        self._cause = ""
        self.written: int = 0
        self.lost: int = 0
        self.failed: int = 0
        self.degraded: bool = False

    def statistics(self, path: Path | None) -> PersisterStatistics:
        """Return the counts; from any thread."""
        return PersisterStatistics(
            path=path,
            written=self.written,
            pending=self._pending.count,
            lost=self.lost,
            failed=self.failed,
            degraded=self.degraded,
        )

    def fail(self, participle: str, error: Exception) -> None:
        """Count and log that the log could not be ``"written"``, or whatever the participle is."""
        self.failed += 1
        self.degraded = True
        self._cause = _text(error)
        number = error.errno if isinstance(error, OSError) else None
        name = errno.errorcode.get(number or 0, type(error).__name__)
        self.warn(f"{participle} {name}", f"cannot be {participle}: {error}")

    def lose(self, error: Exception) -> None:
        """Count and log a record that can never be written."""
        self.lost += 1
        self._cause = _text(error)
        self.warn("lost", f"cannot hold an event: {error!r}")

    def warn(self, cause: str, problem: str) -> None:
        """Log a problem, unless its cause was logged within 20 seconds."""
        self._log.warn(cause, f"{problem} ({self._pending.count} records pending, {self.lost} lost)")

    def close(self) -> None:
        """Say how many records were lost, whatever was logged before: once, and last.

        Pending ones are among them: a file system that does not respond may or may not take them.
        """
        count, cause = self.lost + self._pending.count, self._cause or "the file system does not respond"
        if not count:
            return
        events = f"{count:,} event{'' if count == 1 else 's'}"
        with suppress(Exception):  # a logging handler of the program's own
            _logger.error("not stored: %s (%s: %s)", events, _short(self._directory), cause)


def _text(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"


def _short(directory: Path) -> str:
    """Return a path as it is written in the working directory."""
    try:
        return str(directory.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(directory)
