"""The tables, and the way from one version of them to the next.

    sources  one row for each run of a sink: its process, when it began and ended, how much it stored and lost
    events   one row for each event: its source, its number there, and the event as JSON
    gaps     where events are missing: after which number, how many, and why
    nodes    a view: how each attempt at a node ended

The columns of ``events`` that people ask for are computed from the JSON when they are read, and indexed. So
an event of any class has a place, and the JSON is the only truth. A source without ``ended`` is running,
or its process was killed.
"""

from __future__ import annotations

import sqlite3

__all__ = ["prepare"]

_COLUMNS = (
    "event_type", "session_id", "timestamp", "workflow_id", "run_id", "node_id", "attempt", "skill_name",
    "status", "success", "duration_seconds", "error_type",
)  # fmt: skip
_COMPUTED = ",\n".join(
    f"    {name} GENERATED ALWAYS AS (json_extract(body, '$.{name}'))" for name in _COLUMNS
)

_VERSIONS = (
    f"""
CREATE TABLE sources (
    id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, began TEXT NOT NULL, ended TEXT,
    stored INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE events (
    source INTEGER NOT NULL REFERENCES sources, number INTEGER NOT NULL, body TEXT NOT NULL,
{_COMPUTED},
    PRIMARY KEY (source, number)
) WITHOUT ROWID;
CREATE INDEX events_of_session ON events (session_id, timestamp);
CREATE INDEX events_of_type ON events (event_type, timestamp);
CREATE TABLE gaps (
    source INTEGER NOT NULL REFERENCES sources, after INTEGER NOT NULL, count INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE VIEW nodes AS
    SELECT session_id, workflow_id, run_id, node_id, attempt, status, duration_seconds, error_type, timestamp
    FROM events WHERE event_type = 'node_completed';
""",
)
"""The statements that lead from each version to the next."""


def prepare(connection: sqlite3.Connection) -> None:
    """Bring a database, which may be new, to the newest version.

    Raises:
        ValueError: A newer release has made it.
    """
    connection.execute("PRAGMA journal_mode = WAL")  # readers and this writer do not wait for each other
    connection.execute("PRAGMA synchronous = NORMAL")  # after a power failure the last batches may be missing
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_VERSIONS):
        raise ValueError(f"the database has version {version}, which is newer than this eventbus-sqlite")
    for number, statements in enumerate(_VERSIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;{statements}PRAGMA user_version = {number};COMMIT;")
