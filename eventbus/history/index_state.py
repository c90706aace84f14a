"""Describe the state of a log's index, without changing it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Literal, NamedTuple, TypeAlias

from eventbus.history.index import INDEX_NAME, ForeignIndexError, Index
from eventbus.history.index_rows import DATABASE_ERRORS, InvalidIndexError, index_error
from eventbus.history.indexing import stale_segments
from eventbus.history.log import EventLog
from eventbus.history.segment_files import SegmentFile

__all__ = ["IndexCondition", "IndexState", "index_state", "is_current"]

IndexCondition: TypeAlias = Literal["current", "stale", "missing", "damaged", "foreign", "unusable"]


class IndexState(NamedTuple):
    """The state of an index.

    Attributes:
        condition: The next command that uses sessions makes a ``stale``, ``missing`` or ``damaged``
            index current; it leaves a ``foreign`` file alone and does without an index.
        detail: More about it, in a few words.
    """

    condition: IndexCondition
    detail: str


def index_state(log: EventLog) -> IndexState:
    """Check the index of a log completely. Never raises for the state that it is in.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """
    path, segments = log.directory / INDEX_NAME, log.segments()
    try:
        path.stat(follow_symlinks=False)
        return _state_of(Index(path), segments)
    except FileNotFoundError:
        return IndexState("missing", "it will be made when it is needed")
    except ForeignIndexError as error:
        return IndexState("foreign", str(error))
    except InvalidIndexError as error:
        return IndexState("damaged", str(error))
    except (sqlite3.Error, OSError) as error:
        return IndexState("unusable", str(error))


def is_current(log: EventLog) -> bool:
    """Return True if there is an index and it is up to date; its contents are not checked.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """
    path, segments = log.directory / INDEX_NAME, log.segments()
    if not path.exists():
        return False
    try:
        with closing(Index(path)) as index:
            return stale_segments(index, segments) == ([], [])
    except (ForeignIndexError, InvalidIndexError, *DATABASE_ERRORS, OSError):
        return False


def _state_of(index: Index, segments: list[SegmentFile]) -> IndexState:
    try:
        index.check()
        stale, gone = stale_segments(index, segments)
    except DATABASE_ERRORS as error:
        raise index_error(error) from error
    finally:
        index.close()
    if stale or gone:
        return IndexState("stale", f"{len(stale)} segments are new or changed, {len(gone)} are gone")
    return IndexState("current", f"{len(segments)} segments")
