"""The index of a log: an SQLite file beside the segments.

With it, reading one session of a million events takes milliseconds instead of seconds. It stores:

    figures    of each session: a `CorrelatedSession` without records
    extents    of each partition key: the byte ranges of segments with the events of this key
    attempts   when nodes, runs and skills ended, how long they took, and how
    damage     the places that were skipped, as every reader reports them

A partition key groups the events that have to be read together to know a session (`grouping`).

    session_history   opens the index and updates it, then returns figures, or reads extents
    indexing          updates the index: reads only what was appended, once
    extents           reads the events of one partition key
    index             the tables (this module)
    index_schema      the tables' definitions, and their version
    index_rows        rows of figures, each with its checksum, and the errors of an index
    attempts          rows of attempts, packed
    index_state       describes an index without changing it, for `eventbus doctor`
    folded_log        does without an index where reading the whole log once is faster

It contains nothing that the log does not; `docs/sessions.md` says how it is checked before it is used.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.events.json_safe import safe_text
from eventbus.history.attempts import AttemptTable
from eventbus.history.index_rows import (
    DATABASE_ERRORS,
    InvalidIndexError,
    check_row,
    decode_figures,
    figures_row,
    index_error,
)
from eventbus.history.index_schema import APPLICATION, SCHEMA, TABLES, VERSION
from eventbus.history.stored_lines import Damage

__all__ = ["INDEX_NAME", "Extent", "ForeignIndexError", "Index", "IndexedSegment"]

INDEX_NAME = "index.sqlite3"
_BUSY_SECONDS = 10.0


class ForeignIndexError(Exception):
    """The file in the index's place belongs to something else and is left alone."""


class IndexedSegment(NamedTuple):
    """How far a segment has been indexed.

    Attributes:
        id: Its number in the extents.
        device: The device of the file.
        inode: The inode of the file.
        size: The file's size in bytes.
        mtime: When the file was last changed, in nanoseconds.
        indexed_to: Where the last indexed line ends.
        checksum: A checksum of the bytes before that.
        lost: How many events are missing up to there.
    """

    id: int
    device: int
    inode: int
    size: int
    mtime: int
    indexed_to: int
    checksum: int
    lost: int = 0


class Extent(NamedTuple):
    """A byte range of a segment that contains events of a partition key, and maybe other lines."""

    key: str
    segment: int
    start: int
    length: int


class Index:
    """An open index.

    Args:
        path: The file; None for a temporary index, which vanishes when it is closed.
        in_memory: True for a temporary index that needs no place for temporary files.

    Attributes:
        is_stored: True if it is a file.
        attempts: The ends of nodes, runs and skills.

    Raises:
        ForeignIndexError: The file is not an index.
        InvalidIndexError: It is damaged, or of another version.
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be created.
    """

    def __init__(self, path: Path | None, *, in_memory: bool = False) -> None:
        self.is_stored: bool = path is not None
        if path is not None:
            _create_private(path)
        name = ":memory:" if in_memory else path or ""
        self._db = sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None)
        self.attempts = AttemptTable(self._db)
        try:
            if in_memory:
                self._db.execute("PRAGMA temp_store = MEMORY")
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def _prepare(self) -> None:
        try:
            application = self._integer("PRAGMA application_id")
            version = self._integer("PRAGMA user_version")
            if application == version == 0 and not self._integer("SELECT count(*) FROM sqlite_master"):
                self._db.executescript(SCHEMA)
            elif application != APPLICATION:
                raise ForeignIndexError("another application's database is in the index's place")
            elif version != VERSION:
                raise InvalidIndexError(f"its version is {version}, not {VERSION}")
        except DATABASE_ERRORS as error:
            raise index_error(error) from error

    def _integer(self, query: str) -> int:
        (value,) = self._db.execute(query).fetchone()
        return int(value)

    # Transactions.

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Write all changes made in the block, or none; waits for other writers before it begins."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # some errors, as of a full disk, have ended it
                self._db.execute("ROLLBACK")
            raise

    def begin_snapshot(self) -> None:
        """Read the index as it is now from here on, even if another process updates it."""
        self._db.execute("BEGIN")
        self.count()  # the snapshot is taken by the first read

    # Segments and extents.

    def segments(self) -> dict[str, IndexedSegment]:
        """Return how far each segment has been indexed, by its file's name."""
        rows = self._db.execute("SELECT * FROM segments")
        return {name: IndexedSegment(number, *rest) for number, name, *rest in rows}

    def put_segment(self, name: str, segment: IndexedSegment) -> None:
        """Store how far a segment has been indexed."""
        row = segment.id, name, *segment[1:]
        self._db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drop_segment(self, segment: int) -> set[str]:
        """Remove a segment; return the affected partition keys."""
        self._db.execute("DELETE FROM segments WHERE id = ?", (segment,))
        return self.drop_read(segment)

    def drop_read(self, segment: int, start: int = 0) -> set[str]:
        """Remove what was read in a segment from an offset on; return the affected partition keys."""
        self.attempts.drop(segment, start)
        rows = self._db.execute(
            "SELECT DISTINCT partition_key FROM extents WHERE segment = ? AND start + length > ?",
            (segment, start),
        )
        keys = {key for (key,) in rows}
        self._db.execute("DELETE FROM extents WHERE segment = ? AND start >= ?", (segment, start))
        self._db.execute(
            "UPDATE extents SET length = ?2 - start WHERE segment = ?1 AND start + length > ?2",
            (segment, start),
        )
        return keys

    def put_extents(self, extents: Iterable[Extent]) -> None:
        """Store extents."""
        self._db.executemany("INSERT OR REPLACE INTO extents VALUES (?, ?, ?, ?)", extents)

    def extents(self, key: str) -> list[Extent]:
        """Return the extents of a partition key, by segment and offset."""
        rows = self._db.execute(
            "SELECT * FROM extents WHERE partition_key = ? ORDER BY segment, start", (key,)
        )
        return [Extent(*row) for row in rows]

    def split_keys(self, segment: int) -> list[str]:
        """Return the partition keys with extents in several segments, one of them this one or a later one."""
        rows = self._db.execute(
            "SELECT partition_key FROM extents GROUP BY partition_key"
            " HAVING min(segment) < max(segment) AND max(segment) >= ?",
            (segment,),
        )
        return [key for (key,) in rows]

    def clear(self) -> None:
        """Remove everything."""
        for table in ("segments", *TABLES):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - one of four names

    # Damage.

    def put_damage(self, damage: Iterable[Damage]) -> None:
        """Store places that were skipped."""
        rows = ((each.path.name, each.offset, each.length, safe_text(each.reason)) for each in damage)
        self._db.executemany("INSERT OR REPLACE INTO damage VALUES (?, ?, ?, ?)", rows)

    def drop_damage(self, name: str, start: int = 0) -> None:
        """Remove the damage of a segment's file from an offset on."""
        self._db.execute("DELETE FROM damage WHERE name = ? AND start >= ?", (name, start))

    def damage(self, events: Path) -> list[Damage]:
        """Return the places that were skipped in the segments of a directory."""
        rows = self._db.execute("SELECT * FROM damage ORDER BY name, start")
        return [Damage(path=events / row[0], offset=row[1], length=row[2], reason=row[3]) for row in rows]

    # Figures.

    def put_figures(self, figures: Iterable[tuple[str, CorrelatedSession]]) -> None:
        """Store the figures of sessions, each with its partition key."""
        rows = [figures_row(key, each) for key, each in figures]
        self._db.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?)", rows)

    def drop_figures(self, key: str) -> None:
        """Remove the figures of the sessions of a partition key."""
        self._db.execute("DELETE FROM sessions WHERE partition_key = ?", (key,))

    def has_figures(self, key: str) -> bool:
        """Return True if there are figures for a partition key."""
        row = self._db.execute("SELECT 1 FROM sessions WHERE partition_key = ?", (key,)).fetchone()
        return row is not None

    def figures_of(self, name: str) -> CorrelatedSession | None:
        """Return a session's figures, or None without such a session.

        Raises:
            InvalidIndexError: The row is damaged.
        """
        row = self._db.execute("SELECT * FROM sessions WHERE name = ?", (name,)).fetchone()
        return None if row is None else decode_figures(row)

    def figures(self, *, oldest_first: bool = False) -> Iterator[CorrelatedSession]:
        """Iterate over the figures of all sessions by their starts, the latest first.

        Raises:
            InvalidIndexError: A row is damaged.
        """
        order = "ASC" if oldest_first else "DESC"
        query = f"SELECT * FROM sessions ORDER BY start {order}, name {order}"  # noqa: S608 - one of two words
        rows = self._db.execute(query)
        try:
            for row in rows:
                yield decode_figures(row)
        finally:
            with suppress(sqlite3.ProgrammingError):  # the index was closed before
                rows.close()

    def count(self) -> int:
        """Return the number of sessions."""
        return self._integer("SELECT count(*) FROM sessions")

    def names(self, prefix: str, limit: int) -> list[str]:
        """Return at most `limit` names of sessions that begin with a prefix, in order."""
        rows = self._db.execute(
            "SELECT name FROM sessions WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1"
            " ORDER BY name LIMIT ?2",
            (prefix, limit),
        )
        return [name for (name,) in rows]

    # Checks, which raise InvalidIndexError.

    def put_totals(self) -> None:
        """Store the numbers of rows, for `check_totals`."""
        for table in TABLES:
            self._db.execute(f"UPDATE totals SET {table} = (SELECT count(*) FROM {table})")  # noqa: S608

    def check_totals(self) -> None:
        """Check that no rows are missing."""
        for table in TABLES:
            if self._integer(f"SELECT {table} FROM totals") != self._integer(f"SELECT count(*) FROM {table}"):  # noqa: S608
                raise InvalidIndexError(f"rows of {table} are missing")

    def check_figures(self) -> None:
        """Check the row of each session."""
        for row in self._db.execute("SELECT * FROM sessions"):
            check_row(row)

    def check(self) -> None:
        """Check everything.

        Raises:
            InvalidIndexError: A check failed.
            sqlite3.Error: It cannot be read.
        """
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise InvalidIndexError(str(found))
        self.check_totals()
        self.check_figures()
        self.attempts.check()


def _create_private(path: Path) -> None:
    """Create the file, if there is none, readable by its owner alone."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))
        return
    if not stat.S_ISREG(status.st_mode):
        raise ForeignIndexError(f"{path} is not a regular file")
