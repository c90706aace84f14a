"""The index: what is known of each session, and where its events lie, in SQLite beside the log.

It holds nothing that the log does not tell, so that it can be deleted at any time; who asks next
makes it again. It is believed only as far as it can be checked: each segment by its identity, size,
time and the end of what was indexed, each row by a checksum, and the tables by their numbers of rows.
What fails a check is not used, and the answers come from a temporary index made on the spot.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventbus.correlation.correlated_session import CorrelatedSession

__all__ = [
    "INDEX_NAME",
    "DistrustedIndexError",
    "ForeignIndexError",
    "Index",
    "Indexed",
    "Piece",
    "as_distrusted",
]

INDEX_NAME = "index.sqlite3"
_APPLICATION = 0x45564258  # "EVBX"
_VERSION = 1
_BUSY_SECONDS = 10.0
# Whoever opens it at the same time makes the same: each statement is content with what is there.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS segments (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, device INTEGER NOT NULL, inode INTEGER NOT NULL,
    size INTEGER NOT NULL, mtime INTEGER NOT NULL, whole INTEGER NOT NULL, last INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
    name TEXT PRIMARY KEY, lane TEXT NOT NULL, start TEXT NOT NULL,
    figures BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_by_start ON sessions (start, name);
CREATE INDEX IF NOT EXISTS sessions_by_lane ON sessions (lane);
CREATE TABLE IF NOT EXISTS pieces (
    lane TEXT NOT NULL, segment INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (lane, segment, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (sessions INTEGER NOT NULL, pieces INTEGER NOT NULL);
INSERT INTO totals SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM totals);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
COMMIT;
"""  # noqa: S608 - made of two constants


class ForeignIndexError(Exception):
    """In the index's place is something that is not ours: it is left alone."""


class DistrustedIndexError(Exception):
    """The index does not hold what it should."""


def as_distrusted(error: sqlite3.Error) -> Exception:
    """Return what an error of the database means: that it is damaged, or that it cannot be used now."""
    is_damage = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    return DistrustedIndexError(str(error)) if is_damage else error


class Indexed(NamedTuple):
    """How far a segment has been indexed.

    Attributes:
        id: What its pieces call it.
        device: Where the file was.
        inode: Which file it was.
        size: How many bytes it had.
        mtime: When it was changed last, in nanoseconds.
        whole: Where its last whole line ended.
        last: A checksum of what stood before that.
    """

    id: int
    device: int
    inode: int
    size: int
    mtime: int
    whole: int
    last: int


class Piece(NamedTuple):
    """A part of a segment in which events of a lane lie, perhaps with others between them."""

    lane: str
    segment: int
    start: int
    length: int


class Index:
    """An open index.

    Args:
        path: The file; None for a temporary one, which vanishes when it is closed.

    Attributes:
        db: Its database.
        is_stored: Whether it is a file beside a log.

    Raises:
        ForeignIndexError: Something that is not ours is in its place.
        DistrustedIndexError: It is damaged, or of another version.
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be made.
    """

    def __init__(self, path: Path | None) -> None:
        self.is_stored: bool = path is not None
        if path is not None:
            _make_private(path)
        self.db: sqlite3.Connection = sqlite3.connect(
            "" if path is None else path, timeout=_BUSY_SECONDS, isolation_level=None
        )
        try:
            self._prepare()
        except BaseException:
            self.db.close()
            raise

    def close(self) -> None:
        """Close it."""
        self.db.close()

    def _prepare(self) -> None:
        try:
            application, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
            if (application, version) == (0, 0) and not self._one("SELECT count(*) FROM sqlite_master"):
                self.db.executescript(_SCHEMA)
            elif application != _APPLICATION:
                raise ForeignIndexError("another application's database is in the index's place")
            elif version != _VERSION:
                raise DistrustedIndexError(f"it is of version {version}, not {_VERSION}")
        except sqlite3.Error as error:
            raise as_distrusted(error) from error

    def _one(self, query: str) -> int:
        (value,) = self.db.execute(query).fetchone()
        return int(value)

    # Segments.

    def segments(self) -> dict[str, Indexed]:
        """Return how far each segment has been indexed, by its file's name."""
        rows = self.db.execute("SELECT name, id, device, inode, size, mtime, whole, last FROM segments")
        return {name: Indexed(*rest) for name, *rest in rows}

    def put_segment(self, name: str, indexed: Indexed) -> None:
        """Note how far a segment has been indexed."""
        self.db.execute(
            "INSERT OR REPLACE INTO segments (id, name, device, inode, size, mtime, whole, last)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (indexed.id, name, *indexed[1:]),
        )

    def drop_pieces(self, segment: int, start: int = 0) -> set[str]:
        """Forget what was noted of a segment from a place on; return the lanes concerned."""
        concerned = self.db.execute(
            "SELECT DISTINCT lane FROM pieces WHERE segment = ? AND start + length > ?", (segment, start)
        )
        lanes = {lane for (lane,) in concerned}
        self.db.execute("DELETE FROM pieces WHERE segment = ? AND start >= ?", (segment, start))
        self.db.execute(
            "UPDATE pieces SET length = ?2 - start WHERE segment = ?1 AND start + length > ?2",
            (segment, start),
        )
        return lanes

    def drop_segment(self, segment: int) -> set[str]:
        """Forget a segment; return the lanes concerned."""
        self.db.execute("DELETE FROM segments WHERE id = ?", (segment,))
        return self.drop_pieces(segment)

    def clear(self) -> None:
        """Forget everything."""
        for table in ("segments", "sessions", "pieces"):
            self.db.execute(f"DELETE FROM {table}")  # noqa: S608 - one of three names

    # Sessions.

    def put_pieces(self, pieces: Iterable[Piece]) -> None:
        """Note where events lie."""
        self.db.executemany("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?)", pieces)

    def put_sessions(self, sessions: Iterable[tuple[str, CorrelatedSession]]) -> None:
        """Note what is known of sessions, each with its lane."""
        rows = [_row(lane, each) for lane, each in sessions]
        self.db.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?)", rows)

    def drop_sessions(self, lane: str) -> None:
        """Forget the sessions of a lane."""
        self.db.execute("DELETE FROM sessions WHERE lane = ?", (lane,))

    def knows(self, lane: str) -> bool:
        """Whether there is a session of a lane."""
        return self.db.execute("SELECT 1 FROM sessions WHERE lane = ?", (lane,)).fetchone() is not None

    def pieces(self, lane: str) -> list[Piece]:
        """Return where a lane's events lie, by segment and place."""
        found = self.db.execute("SELECT * FROM pieces WHERE lane = ? ORDER BY segment, start", (lane,))
        return [Piece(*row) for row in found]

    def session(self, name: str) -> CorrelatedSession | None:
        """Return a session's figures, or None when there is no such session.

        Raises:
            DistrustedIndexError: They fail their check.
        """
        row = self.db.execute("SELECT * FROM sessions WHERE name = ?", (name,)).fetchone()
        return None if row is None else _figures(row)

    def sessions(self, *, oldest_first: bool = False) -> Iterator[CorrelatedSession]:
        """Iterate over the figures of all sessions, the one that began last first.

        Raises:
            DistrustedIndexError: They fail their check.
        """
        order = "ASC" if oldest_first else "DESC"
        query = f"SELECT * FROM sessions ORDER BY start {order}, name {order}"  # noqa: S608 - one of two words
        with closing(self.db.execute(query)) as rows:
            for row in rows:
                yield _figures(row)

    def count(self) -> int:
        """Return how many sessions there are."""
        return self._one("SELECT count(*) FROM sessions")

    def names(self, prefix: str, limit: int) -> list[str]:
        """Return the names of sessions that begin with a text, in order, so many at most."""
        rows = self.db.execute(
            "SELECT name FROM sessions WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1"
            " ORDER BY name LIMIT ?2",
            (prefix, limit),
        )
        return [name for (name,) in rows]

    # Whether it is whole.

    def note_totals(self) -> None:
        """Note how many rows there are."""
        self.db.execute(
            "UPDATE totals SET sessions = (SELECT count(*) FROM sessions),"
            " pieces = (SELECT count(*) FROM pieces)"
        )

    def check_totals(self) -> None:
        """Compare how many rows there are with what was noted.

        Raises:
            DistrustedIndexError: They differ.
        """
        for table in ("sessions", "pieces"):
            if self._one(f"SELECT {table} FROM totals") != self._one(f"SELECT count(*) FROM {table}"):  # noqa: S608
                raise DistrustedIndexError(f"rows of {table} are missing")

    def check_sessions(self) -> None:
        """Check what is noted of each session.

        Raises:
            DistrustedIndexError: It is not what was written.
        """
        for row in self.db.execute("SELECT * FROM sessions"):
            _check_row(row)

    def check(self) -> None:
        """Check all of it.

        Raises:
            DistrustedIndexError: Something is wrong.
            sqlite3.Error: It cannot be read.
        """
        (found,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise DistrustedIndexError(str(found))
        self.check_totals()
        self.check_sessions()


def _row(lane: str, session: CorrelatedSession) -> tuple[Any, ...]:
    figures = msgspec.json.encode(session)
    row = session.session_id, lane, session.start_time, figures
    return *row, _checksum(*row)


def _figures(row: tuple[Any, ...]) -> CorrelatedSession:
    _check_row(row)
    return msgspec.json.decode(row[3], type=CorrelatedSession)


def _check_row(row: tuple[Any, ...]) -> None:
    with suppress(TypeError, AttributeError, ValueError):  # what a row holds may be of any type
        if _checksum(*row[:4]) == row[4]:
            return
    raise DistrustedIndexError("a row of sessions is damaged")


def _checksum(name: str, lane: str, start: str, figures: bytes) -> int:
    return zlib.crc32(figures, zlib.crc32(f"{name}\0{lane}\0{start}".encode()))


def _make_private(path: Path) -> None:
    """Make the file, if there is none, readable by its owner alone."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))
        return
    if not stat.S_ISREG(status.st_mode):
        raise ForeignIndexError(f"{path} is no regular file")
