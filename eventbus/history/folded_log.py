"""Compute the figures of all sessions from one pass over the log, without an index.

Where there is no index yet, this is faster than making one.
"""

from __future__ import annotations

from typing import Any

from eventbus.correlation import CorrelatedFigures
from eventbus.history.index_state import is_current
from eventbus.history.indexing import MAX_RECORDS_PER_SESSION
from eventbus.history.log import EventLog
from eventbus.history.merging import WriterSegments, merge
from eventbus.history.raw_decoding import decode_raw, raw_types
from eventbus.history.reading import Reader, time_of_event
from eventbus.history.record_lines import without_header
from eventbus.history.segment_files import segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block

__all__ = ["fold_log"]

_MAX_SESSIONS = 60_000  # in memory, about 2 kB each
_EVERYTHING = Selection()


def fold_log(log: EventLog) -> CorrelatedFigures | None:
    """Return the figures of all sessions of a log.

    Returns:
        None where the index is better: it is up to date, or there are too many sessions for memory.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """
    if is_current(log):
        return None
    correlation = CorrelatedFigures(_MAX_SESSIONS, MAX_RECORDS_PER_SESSION)
    correlation.read_as(raw_types())
    writers = segments_by_writer(log.segments())
    for events in merge(WriterSegments(each, _decode, time_of_event, log.on_damage) for each in writers):
        correlation.add_all(events)
        if correlation.evicted:
            return None
    return correlation


def _decode(reader: Reader, block: Block) -> list[Any]:
    block = without_header(block)
    structs = decode_raw(block)
    return reader.events(block, _EVERYTHING) if structs is None else structs
