"""Compute the figures of all sessions from one pass over the log, without an index.

Where there is no index yet, this is faster than making one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from eventbus.correlation import UNATTRIBUTED, CorrelatedFigures, CorrelatedSession
from eventbus.events import SessionLinked
from eventbus.history.index_rows import start_and_name
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

_MAX_FOLDS = 4_096  # at once, about 3 kB each, and as many links
_MAX_FIGURES = 100_000  # of sessions that are over, about 1 kB each
_EVERYTHING = Selection()


class FoldedLog:
    """The figures of all sessions of a log.

    Args:
        figures: The figures, in which what has no end is open.
        owner: Returns the session that another belongs to.
        writers_are_gone: True if what is open will never end.
    """

    def __init__(
        self, figures: Iterable[CorrelatedSession], owner: Callable[[str], str], *, writers_are_gone: bool
    ) -> None:
        self._figures = {each.session_id: each for each in figures}
        self._owner = owner
        self._writers_are_gone = writers_are_gone

    def figures(self) -> Iterator[CorrelatedSession]:
        """Iterate over all sessions by their starts, the latest first."""
        return map(self._as_of_now, sorted(self._figures.values(), key=start_and_name, reverse=True))

    def figures_of(self, name: str) -> CorrelatedSession | None:
        """Return a session, or None if there is none of this name."""
        found = self._figures.get(self._owner(name))
        return None if found is None else self._as_of_now(found)

    def count(self) -> int:
        """Return the number of sessions."""
        return len(self._figures)

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
    segments = log.segments()
    one_pass = _Pass()
    writers = [
        WriterSegments(each, one_pass.decode, time_of_event, log.on_damage)
        for each in segments_by_writer(segments)
    ]
    for events in merge(writers):
        one_pass.correlation.add_all(events)
        if one_pass.needs_index:
            return None
    if len(writers) > 1 and any(each.went_back for each in writers):
        return None
    has_open = one_pass.correlation.has_open
    figures = one_pass.figures()
    if figures is None or (has_open and LiveWriters(segments).is_any_there()):
        return None
    return FoldedLog(figures, one_pass.correlation.owner, writers_are_gone=has_open)


class _Pass:
    """One pass over a log, with the figures of the sessions that are over.

    Attributes:
        correlation: The sessions that had events most recently.
    """

    def __init__(self) -> None:
        self.correlation: CorrelatedFigures = CorrelatedFigures(
            _MAX_FOLDS, MAX_RECORDS_PER_SESSION, on_evict=self._add
        )
        self.correlation.read_as(raw_types())
        self._over: dict[str, CorrelatedSession] = {}
        self._links = 0
        self._has_failed = False

    @property
    def needs_index(self) -> bool:
        """True if this pass cannot give the figures."""
        return self._has_failed or self._links > _MAX_FOLDS or bool(self._links and self._over)

    def decode(self, reader: Reader, block: Block) -> list[Any]:
        """Decode a block to raw structs, or to events if one of its lines needs that."""
        block = without_header(block)
        events = decode_raw(block)
        if events is None:
            events = reader.events(block, _EVERYTHING)
            self._links += sum(isinstance(each, SessionLinked) for each in events)
        if count_lost(events):
            self._has_failed = True
        return events

    def figures(self) -> list[CorrelatedSession] | None:
        """Return the figures of all sessions; None if one had events after it seemed to be over."""
        rest = list(self.correlation.each_figures())
        if self.needs_index or not self._over.keys().isdisjoint(each.session_id for each in rest):
            return None
        return [*self._over.values(), *rest]

    def _add(self, figures: CorrelatedSession) -> None:
        """Keep the figures of the session without events for the longest time: it is nearly always over."""
        name = figures.session_id
        if (
            figures.is_open
            or name in self._over
            or name.startswith(UNATTRIBUTED)  # whose runs are told apart by all that is remembered of them
            or len(self._over) >= _MAX_FIGURES
        ):
            self._has_failed = True
        self._over[name] = figures
