"""Bring an index up to date with its log: read what is new, once, and note where it lies.

Sessions that are new get their figures from this one pass. One that was known before is folded anew
from all its events, wherever they lie: figures cannot be added up, for events repeat, overtake one
another, and a session goes on in other processes.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventbus.correlation import CorrelatedFigures, CorrelatedSession
from eventbus.history.extents import LaneReader
from eventbus.history.grouping import holds_several, lane_of, lane_of_name
from eventbus.history.index import Index, Indexed, Piece
from eventbus.history.merging import Chain, merge
from eventbus.history.raw_decoding import decode_mirrors, mirrored
from eventbus.history.reading import Reader, _without_header
from eventbus.history.segment_files import FirstLine, SegmentFile, chains
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block

if TYPE_CHECKING:
    from eventbus.history.log import EventLog

__all__ = ["MAX_REMEMBERED", "stale_segments", "time_of", "update"]

MAX_REMEMBERED = 65_536
"""How many skills, runs and attempts of one session a repeat is recognised of."""
_MAX_SESSIONS = 8_192
"""So many sessions are folded at once; one evicted for others is complete, or folded anew."""
_MAX_SETTLED = 1_024
_MAX_OPEN_PIECES = 8_192
_GAP = 16 * 1024
"""Events of a lane no farther apart than this lie in one piece, whatever stands between them."""
_CHECKED = 64
"""The bytes before where indexing ended: if they changed, it is not the file that was indexed."""
_EVERYTHING = Selection()


def stale_segments(index: Index, segments: list[SegmentFile]) -> tuple[list[SegmentFile], list[str]]:
    """Return the segments that are not indexed as they are, and the names of indexed ones that are gone."""
    known = index.segments()
    stale = [each for each in segments if not _is_as_indexed(each.path, known.pop(each.path.name, None))]
    return stale, list(known)


def update(index: Index, log: EventLog) -> bool:
    """Bring an index up to date; answer whether anything was new.

    Raises:
        DistrustedIndexError: Rows are missing.
        sqlite3.Error: It cannot be written, or is in use for too long.
        OSError: The log cannot be read.
    """
    segments = log.segments()
    index.check_totals()
    if stale_segments(index, segments) == ([], []):
        return False
    index.db.execute("BEGIN IMMEDIATE")  # whoever else found it stale waits here, and finds it fresh
    try:
        stale, gone = stale_segments(index, segments)
        if not _goes_on(index, segments):
            index.clear()
            gone = []
        if stale or gone:
            _Pass(index, segments).run(stale, gone)
        index.note_totals()
        index.db.execute("COMMIT")
    except BaseException:
        index.db.execute("ROLLBACK")
        raise
    return True


class _Pass:
    """One pass over what is new."""

    def __init__(self, index: Index, segments: list[SegmentFile]) -> None:
        self._index = index
        self._segments = segments
        self._from: dict[str, int] = {}
        self._ids: dict[str, int] = {}
        self._known = index.segments()
        self._next_id = 1 + max((each.id for each in self._known.values()), default=0)
        self._pieces = _OpenPieces(index)
        self._refold: set[str] = set()
        self._settled: dict[str, CorrelatedSession] = {}
        self._correlation = CorrelatedFigures(_MAX_SESSIONS, MAX_REMEMBERED, on_evict=self._settle)
        self._correlation.read_as(mirrored())

    def run(self, stale: list[SegmentFile], gone: list[str]) -> None:
        """Read the stale segments, and forget those that are gone."""
        for name in gone:
            self._refold |= self._index.drop_segment(self._known[name].id)
        indexed: dict[str, Indexed] = {}
        for segment in stale:
            with suppress(FileNotFoundError):  # deleted meanwhile: the next to ask finds it gone
                indexed[segment.path.name] = self._begin(segment)
        there = [each for each in stale if each.path.name in indexed]
        for events in merge(self._chain(each) for each in chains(there)):
            self._correlation.add_all(events)
        self._pieces.close()
        for name, how_far in indexed.items():
            self._index.put_segment(name, how_far)
        for figures in self._correlation.each_figures():
            self._settle(figures)
        self._write_settled()
        lanes = LaneReader(self._index, self._segments)
        for lane in sorted(self._refold):
            self._fold_anew(lane, lanes)

    def _chain(self, segments: list[tuple[SegmentFile, FirstLine]]) -> Chain[Any]:
        return Chain(segments, self._decode, time_of, _ignore, positions=self._from)

    def _begin(self, segment: SegmentFile) -> Indexed:
        """Prepare for reading a segment from where indexing ended; return how far it will be indexed."""
        status, before = segment.path.stat(), self._known.get(segment.path.name)
        start = 0
        if before is not None:
            number = before.id
            start = before.whole if _is_continued(segment.path, status, before) else 0
            self._refold |= self._index.drop_pieces(number, start)
        else:
            number, self._next_id = self._next_id, self._next_id + 1
        self._from[segment.path.name], self._ids[segment.path.name] = start, number
        whole = _end_of_whole_lines(segment.path, status.st_size)
        return Indexed(
            number,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            whole,
            _last(segment.path, whole),
        )

    def _decode(self, reader: Reader, block: Block) -> list[Any]:
        number = self._ids[reader._segment.path.name]
        block = _without_header(block)
        events = None if block.is_tail else decode_mirrors(block.data)
        if events is None:
            records = reader.records(block, _EVERYTHING)
            for record in records:
                self._pieces.note(number, record.event, record.offset, record.length + 1)
            return [record.event for record in records]
        self._pieces.note_all(number, events, block)
        return events

    def _settle(self, figures: CorrelatedSession) -> None:
        lane = lane_of_name(figures.session_id)
        if holds_several(lane) or lane in self._refold or lane in self._settled or self._index.knows(lane):
            self._refold.add(lane)
            return
        self._settled[lane] = figures
        if len(self._settled) >= _MAX_SETTLED:
            self._write_settled()

    def _write_settled(self) -> None:
        self._index.put_sessions(self._settled.items())
        self._settled.clear()

    def _fold_anew(self, lane: str, lanes: LaneReader) -> None:
        correlation = CorrelatedFigures(None, MAX_REMEMBERED)
        correlation.add_all(lanes.events(lane))
        self._index.drop_sessions(lane)
        self._index.put_sessions((lane, figures) for figures in correlation.each_figures())


class _OpenPieces:
    """Where events of lanes lie, kept open until the next one is too far away."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._open: dict[str, list[int]] = {}
        self._done: list[Piece] = []

    def note_all(self, segment: int, events: list[Any], block: Block) -> None:
        """Note the places of a block's events, one a line."""
        session: str | None = None
        start = offset = block.offset
        first = events[0]
        for event, line in zip(events, block.data.split(b"\n"), strict=False):
            if event.session_id != session or session is None:
                if offset > start:
                    self.note(segment, first, start, offset - start)
                first, session, start = event, event.session_id, offset
            offset += len(line) + 1
        self.note(segment, first, start, offset - start)

    def note(self, segment: int, event: Any, start: int, length: int) -> None:
        """Note where an event lies, or several of one session in a row."""
        lane = lane_of(event)
        if lane is None:
            return
        piece = self._open.get(lane)
        if piece is not None and piece[0] == segment and 0 <= start - piece[2] <= _GAP:
            piece[2] = start + length
            return
        if piece is not None:
            self._close(lane, piece)
        elif len(self._open) >= _MAX_OPEN_PIECES:
            self.close()
        self._open[lane] = [segment, start, start + length]

    def close(self) -> None:
        """Write down all that are open."""
        for lane, piece in self._open.items():
            self._close(lane, piece)
        self._open.clear()
        self._index.put_pieces(self._done)
        self._done.clear()

    def _close(self, lane: str, piece: list[int]) -> None:
        segment, start, end = piece
        self._done.append(Piece(lane, segment, start, end - start))


def _goes_on(index: Index, segments: list[SegmentFile]) -> bool:
    """Whether anything that was indexed is still there, as it was or with more behind it.

    Where a log was copied or put back nothing is: then beginning anew takes a fraction of the time.
    """
    known = index.segments()
    return any(_holds_what_was_indexed(each.path, known.get(each.path.name)) for each in segments)


def _holds_what_was_indexed(path: Path, before: Indexed | None) -> bool:
    if before is None:
        return False
    with suppress(FileNotFoundError):
        return _is_as_indexed(path, before) or _is_continued(path, path.stat(), before)
    return False


def _is_as_indexed(path: Path, indexed: Indexed | None) -> bool:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return indexed is None
    return indexed is not None and indexed[1:5] == (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    )  # fmt: skip


def _is_continued(path: Path, status: os.stat_result, before: Indexed) -> bool:
    """Whether a file is the one that was indexed, with more behind it."""
    return (
        (before.device, before.inode) == (status.st_dev, status.st_ino)
        and status.st_size > before.size
        and _last(path, before.whole) == before.last
    )


def _last(path: Path, end: int) -> int:
    with path.open("rb") as file:
        file.seek(max(0, end - _CHECKED))
        return zlib.crc32(file.read(min(end, _CHECKED)))


def _end_of_whole_lines(path: Path, size: int) -> int:
    """Return where the last line that has its line feed ends, within so many bytes."""
    with path.open("rb") as file:
        while size:
            start = max(0, size - 65_536)
            file.seek(start)
            place = file.read(size - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            size = start
    return 0


def time_of(event: Any) -> Any:
    """Return when an event, or what mirrors one, happened."""
    return event.timestamp


def _ignore(_: object) -> None:
    """Damage is told by whoever reads the log for its own sake."""
