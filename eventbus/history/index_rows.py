"""The rows of figures in an index, each with a checksum, and the errors of an index."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import suppress
from typing import Any

import msgspec

from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.ground.session_names import spell, unspell

__all__ = [
    "DATABASE_ERRORS",
    "InvalidIndexError",
    "check_row",
    "decode_figures",
    "figures_row",
    "index_error",
]

DATABASE_ERRORS = sqlite3.Error, UnicodeDecodeError  # the latter of a message about a damaged schema


class InvalidIndexError(Exception):
    """The index is damaged, wrong, or of another version."""


def index_error(error: Exception) -> Exception:
    """Return `InvalidIndexError` if the database is damaged, or the error if it only cannot be used now."""
    is_damage = isinstance(error, DATABASE_ERRORS) and not isinstance(error, sqlite3.OperationalError)
    return InvalidIndexError(str(error)) if is_damage else error


def figures_row(key: str, session: CorrelatedSession) -> tuple[Any, ...]:
    """Return the row of a session."""
    name = spell(session.session_id)
    figures = msgspec.json.encode(msgspec.structs.replace(session, session_id=name))
    row = name, key, session.start_time, figures
    return *row, _checksum(*row)


def decode_figures(row: tuple[Any, ...]) -> CorrelatedSession:
    """Return the session of a row; raise InvalidIndexError if the row is damaged."""
    check_row(row)
    session = msgspec.json.decode(row[3], type=CorrelatedSession)
    session.session_id = unspell(session.session_id)
    return session


def start_and_name(session: CorrelatedSession) -> tuple[str, str]:
    """Return what sessions are ordered by, in the index and where there is none."""
    return session.start_time, session.session_id


def check_row(row: tuple[Any, ...]) -> None:
    """Raise InvalidIndexError if a row is damaged."""
    with suppress(TypeError, AttributeError, ValueError):  # SQLite stores values of any type
        if _checksum(*row[:4]) == row[4]:
            return
    raise InvalidIndexError("a row of sessions is damaged")


def _checksum(name: str, key: str, start: str, figures: bytes) -> int:
    return zlib.crc32(figures, zlib.crc32(f"{name}\0{key}\0{start}".encode()))
