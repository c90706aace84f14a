"""`SqliteSink`: stores events batch by batch, in a thread of its own."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from eventbus import Event, EventBus, EventsLost, OwnThread, Subscriber, log_directory, scrubbed_line

from eventbus_sqlite.schema import prepare

__all__ = ["SqliteSink"]

_BUSY_SECONDS = 1.0
"""How long a batch waits for another writer; longer, and a close of the bus would miss its deadline."""
_logger = logging.getLogger("eventbus_sqlite")


class SqliteSink(Subscriber[Event]):
    """Stores every event in an SQLite database.

    Each batch is one transaction: a killed process leaves whole batches. While the database is locked, or the
    disk is full, events wait in memory; too many are lost, counted, and marked in the table ``gaps``.

    Args:
        path: The database; by default ``events.sqlite3`` in the directory of the event log.
        max_waiting: How many events may wait for a database that cannot be written.
    """

    capacity = 65_536

    def __init__(self, path: Path | None = None, max_waiting: int = 100_000) -> None:
        self._path = path
        self._max_waiting = max_waiting
        self._thread = OwnThread("eventbus-sqlite")
        self._connection: sqlite3.Connection | None = None
        self._source = self._number = self._lost = 0
        self._waiting: list[tuple[int, str]] = []
        self._gaps: list[tuple[int, int, str]] = []
        self._said: set[str] = set()

    async def start(self, bus: EventBus) -> None:
        """Open the database."""
        await self._thread.run(self._write)

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Store events; `EventsLost` becomes a row of ``gaps``."""
        await self._thread.run(self._store, events)

    async def stop(self) -> None:
        """Store what is waiting, and close the database."""
        await self._thread.run(self._close)
        self._thread.end()

    # In the thread.

    def _store(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, EventsLost):
                self._lose(event.count, "the mailbox was full")
            else:
                self._number += 1
                self._waiting.append((self._number, scrubbed_line(event).decode()))
        self._write()
        excess = len(self._waiting) - self._max_waiting
        if excess > 0:
            first = self._waiting[0][0]
            del self._waiting[:excess]
            self._lose(excess, "the database could not be written", after=first - 1)

    def _lose(self, count: int, reason: str, after: int | None = None) -> None:
        self._lost += count
        self._gaps.append((self._number if after is None else after, count, reason))
        self._warn(f"events are lost: {reason}")

    def _write(self, ended: str | None = None) -> None:
        """Write all that waits in one transaction; if that fails, it goes on waiting."""
        try:
            connection = self._connection or self._open()
            with connection:
                own = self._source
                connection.executemany(
                    "INSERT INTO events (source, number, body) VALUES (?, ?, ?)",
                    [(own, *row) for row in self._waiting],
                )
                connection.executemany(
                    "INSERT INTO gaps VALUES (?, ?, ?, ?)", [(own, *gap) for gap in self._gaps]
                )
                connection.execute(
                    "UPDATE sources SET stored = stored + ?, lost = ?, ended = ? WHERE id = ?",
                    (len(self._waiting), self._lost, ended, own),
                )
        except (sqlite3.Error, OSError, ValueError) as error:
            self._warn(f"{self._path} cannot be written: {error}")
            self._reopen_if_gone(error)
            return
        self._waiting.clear()
        self._gaps.clear()

    def _open(self) -> sqlite3.Connection:
        self._path = self._path or log_directory() / "events.sqlite3"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        try:
            os.chmod(self._path, 0o600)
            prepare(connection)
            with connection:
                cursor = connection.execute(
                    "INSERT INTO sources (pid, began) VALUES (?, ?)", (os.getpid(), _now())
                )
        except BaseException:
            connection.close()
            raise
        self._source = cursor.lastrowid or 0
        self._connection = connection
        return connection

    def _reopen_if_gone(self, error: Exception) -> None:
        """Close a connection whose file is broken or was removed; the next batch opens another one."""
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _close(self) -> None:
        self._write(ended=_now())
        if self._waiting:
            _logger.error("%d events were not stored in %s", len(self._waiting), self._path)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _warn(self, problem: str) -> None:
        if problem not in self._said:
            self._said.add(problem)
            _logger.warning("%s", problem)


def _now() -> str:
    return datetime.now(UTC).isoformat()
