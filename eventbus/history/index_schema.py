"""The tables of an index; another version of them is another index."""

from __future__ import annotations

from typing import Final

__all__ = ["APPLICATION", "SCHEMA", "TABLES", "VERSION"]

APPLICATION: Final = 0x45564258  # "EVBX"
VERSION: Final = 7
TABLES: Final = ("sessions", "extents", "attempts")
"""Those whose rows are counted, so that none can be missing unnoticed."""

# Processes may create it at the same time, so each statement accepts what is already there.
SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS segments (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, device INTEGER NOT NULL, inode INTEGER NOT NULL,
    size INTEGER NOT NULL, mtime INTEGER NOT NULL, indexed_to INTEGER NOT NULL, checksum INTEGER NOT NULL,
    lost INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
    name TEXT PRIMARY KEY, partition_key TEXT NOT NULL, start TEXT NOT NULL,
    figures BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_by_start ON sessions (start, name);
CREATE INDEX IF NOT EXISTS sessions_by_key ON sessions (partition_key);
CREATE TABLE IF NOT EXISTS extents (
    partition_key TEXT NOT NULL, segment INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (partition_key, segment, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    kind TEXT NOT NULL, name TEXT NOT NULL, node TEXT NOT NULL, segment INTEGER NOT NULL,
    start INTEGER NOT NULL, ends BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS attempts_by_subject ON attempts (kind, name, node);
CREATE INDEX IF NOT EXISTS attempts_by_segment ON attempts (segment);
CREATE TABLE IF NOT EXISTS damage (
    name TEXT NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (name, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (
    sessions INTEGER NOT NULL, extents INTEGER NOT NULL, attempts INTEGER NOT NULL
);
INSERT INTO totals SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT * FROM totals);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""  # noqa: S608 - made of two constants
