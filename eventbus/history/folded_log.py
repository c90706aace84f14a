"""Compute the figures of all sessions from one pass over the log, without an index.

Where there is no index yet, this is faster than making one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventbus.correlation import CorrelatedFigures, CorrelatedSession
from eventbus.history.index_state import is_current
from eventbus.history.indexing import MAX_RECORDS_PER_SESSION
from eventbus.history.log import EventLog
from eventbus.history.merging import WriterSegments, merge
from eventbus.history.raw_decoding import count_lost, decode_raw, raw_types
from eventbus.history.reading import Reader, time_of_event
from eventbus.history.record_lines import without_header
from eventbus.history.segment_files import segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block
from eventbus.history.unfinished import LiveWriters, all_unfinished

__all__ = ["FoldedLog", "fold_log"]

_MAX_SESSIONS = 60_000  # in memory, about 2 kB each
_EVERYTHING = Selection()


class FoldedLog:
    """The figures of all sessions of a log.

    Args:
        correlation: The figures without regard to writers.
        writers_are_gone: True if what is open will never end.
    """

    def __init__(self, correlation: CorrelatedFigures, *, writers_are_gone: bool) -> None:
        self._correlation = correlation
        self._writers_are_gone = writers_are_gone

    def figures(self) -> Iterator[CorrelatedSession]:
        """Iterate over all sessions by their starts, the latest first."""
        return map(self._as_of_now, self._correlation.each_figures(newest_first=True))

    def figures_of(self, name: str) -> CorrelatedSession | None:
        """Return a session, or None if there is none of this name."""
        found = self._correlation.figures(name)
        return None if found is None else self._as_of_now(found)

    def count(self) -> int:
        """Return the number of sessions."""
        return len(self._correlation)

    def _as_of_now(self, session: CorrelatedSession) -> CorrelatedSession:
        return all_unfinished(session) if self._writers_are_gone and session.is_open else session


def fold_log(log: EventLog) -> FoldedLog | None:
    """Return the figures of all sessions of a log.

    Returns:
        None where the index is better: it is up to date, or there are too many sessions for memory, or
        it has to be found out which of several writers wrote what is open, or where events are missing,
        or how the events of a session are ordered where clocks were set back.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """
    if is_current(log):
        return None
    correlation = CorrelatedFigures(_MAX_SESSIONS, MAX_RECORDS_PER_SESSION)
    correlation.read_as(raw_types())
    has_losses = False

    def _decode(reader: Reader, block: Block) -> list[Any]:
        nonlocal has_losses
        block = without_header(block)
        structs = decode_raw(block)
        events = reader.events(block, _EVERYTHING) if structs is None else structs
        has_losses = has_losses or count_lost(events) > 0
        return events

    segments = log.segments()
    writers = [
        WriterSegments(each, _decode, time_of_event, log.on_damage) for each in segments_by_writer(segments)
    ]
    for events in merge(writers):
        correlation.add_all(events)
        if correlation.evicted or has_losses:
            return None
    if len(writers) > 1 and any(each.went_back for each in writers):
        return None
    if not correlation.has_open:
        return FoldedLog(correlation, writers_are_gone=False)
    return None if LiveWriters(segments).is_any_there() else FoldedLog(correlation, writers_are_gone=True)
