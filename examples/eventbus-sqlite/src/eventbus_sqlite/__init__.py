"""Keeps the events of eventbus in an SQLite database, to be queried with SQL."""

from eventbus_sqlite.sink import SqliteSink

__all__ = ["SqliteSink"]
