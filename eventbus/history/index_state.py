"""Say what state the index of a log is in, for whoever looks after the log."""

from __future__ import annotations

import sqlite3
from typing import Literal, NamedTuple, TypeAlias

from eventbus.history.index import INDEX_NAME, DistrustedIndexError, ForeignIndexError, Index, as_distrusted
from eventbus.history.indexing import stale_segments
from eventbus.history.log import EventLog
from eventbus.history.segment_files import SegmentFile

__all__ = ["IndexCondition", "IndexState", "index_state"]

IndexCondition: TypeAlias = Literal["current", "stale", "missing", "damaged", "foreign", "unusable"]


class IndexState(NamedTuple):
    """What is to be said of an index.

    Attributes:
        condition: ``stale``, ``missing`` and ``damaged`` ones are made good by the next command that
            needs one; a ``foreign`` one is left alone, and commands do without.
        detail: What about it, in a few words.
    """

    condition: IndexCondition
    detail: str


def index_state(log: EventLog) -> IndexState:
    """Look at the index of a log, whole, and change nothing; never raises for what it is.

    Raises:
        OSError: The log's directory is there and cannot be read.
    """
    path, segments = log.directory / INDEX_NAME, log.segments()
    try:
        path.stat(follow_symlinks=False)
        return _state_of(Index(path), segments)
    except FileNotFoundError:
        return IndexState("missing", "it will be made when it is needed")
    except ForeignIndexError as error:
        return IndexState("foreign", str(error))
    except DistrustedIndexError as error:
        return IndexState("damaged", str(error))
    except (sqlite3.Error, OSError) as error:
        return IndexState("unusable", str(error))


def _state_of(index: Index, segments: list[SegmentFile]) -> IndexState:
    try:
        index.check()
        stale, gone = stale_segments(index, segments)
    except sqlite3.Error as error:
        raise as_distrusted(error) from error
    finally:
        index.close()
    if stale or gone:
        return IndexState("stale", f"{len(stale)} segments are new or changed, {len(gone)} are gone")
    return IndexState("current", f"{len(segments)} segments")
