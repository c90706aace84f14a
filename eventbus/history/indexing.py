"""Update an index: read what was appended to the log since the last update, once.

A session that is new gets its figures from this pass. A session that was known before is folded again
from all its events, wherever they are: figures cannot be added up, because events repeat, overtake one
another, and come from several processes. `eventbus.history.index` explains the whole.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventbus.correlation import CorrelatedFigures, CorrelatedSession
from eventbus.events import SessionLinked
from eventbus.history.attempts import EndCollector
from eventbus.history.extents import PartitionReader
from eventbus.history.grouping import (
    LINKS,
    has_several_sessions,
    partition_key,
    partition_key_of_session,
)
from eventbus.history.index import Extent, Index, IndexedSegment
from eventbus.history.merging import WriterSegments, merge
from eventbus.history.raw_decoding import count_lost, decode_raw, raw_types
from eventbus.history.reading import Reader, time_of_event
from eventbus.history.record_lines import without_header
from eventbus.history.segment_files import FirstLine, SegmentFile, segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, read_bytes

if TYPE_CHECKING:
    from eventbus.history.log import EventLog

__all__ = ["MAX_RECORDS_PER_SESSION", "stale_segments", "update"]

MAX_RECORDS_PER_SESSION = 65_536
"""The limit of `Correlation` on skills, runs and attempts of one session, for sessions of a log."""
_MAX_SESSIONS = 8_192  # folded at once; an evicted session is complete, or is folded again
_MAX_FIGURES = 1_024  # in memory before they are written
_MAX_OPEN_EXTENTS = 8_192
_GAP = 16 * 1024  # events of a key that are no farther apart share an extent, whatever is between them
_CHECKED_BYTES = 64  # before `indexed_to`: if they changed, the file is not the one that was indexed
_EVERYTHING = Selection()


def stale_segments(index: Index, segments: list[SegmentFile]) -> tuple[list[SegmentFile], list[str]]:
    """Return the segments that are new or have changed, and the names of those that are gone."""
    known = index.segments()
    stale = [each for each in segments if not _is_unchanged(each.path, known.pop(each.path.name, None))]
    return stale, list(known)


def update(index: Index, log: EventLog) -> None:
    """Bring an index up to date with a log.

    Raises:
        InvalidIndexError: Rows are missing.
        sqlite3.Error: It cannot be written, or is in use for too long.
        OSError: The log's directory exists and cannot be read.
    """
    segments = log.segments()
    index.check_totals()
    if stale_segments(index, segments) == ([], []):
        return
    with index.transaction():
        stale, gone = stale_segments(index, segments)  # another process may have updated it
        if not _is_any_known(index, segments):
            index.clear()
            gone = []
        if stale or gone:
            _Update(index, segments).run(stale, gone)
        index.put_totals()


class _Update:
    """One pass over the new lines of a log."""

    def __init__(self, index: Index, segments: list[SegmentFile]) -> None:
        self._index = index
        self._segments = segments
        self._known = index.segments()
        self._next_id = 1 + max((each.id for each in self._known.values()), default=0)
        self._ids: dict[str, int] = {}
        self._positions: dict[str, int] = {}
        self._begun: dict[int, int] = {}  # where reading begins, by segment
        self._damage: list[Damage] = []
        self._lost: Counter[int] = Counter()  # events lost, by segment
        self._extents = _Extents(index)
        self._ends = EndCollector(index.attempts)
        self._figures: dict[str, CorrelatedSession] = {}  # not written yet, by partition key
        self._refolded_keys: set[str] = set()
        self._correlation = CorrelatedFigures(
            _MAX_SESSIONS, MAX_RECORDS_PER_SESSION, joins=False, on_evict=self._add_figures
        )
        self._correlation.read_as(raw_types())

    def run(self, stale: list[SegmentFile], gone: list[str]) -> None:
        """Read the stale segments, and remove those that are gone."""
        for name in gone:
            self._index.drop_damage(name)
            self._refolded_keys |= self._index.drop_segment(self._known[name].id)
        indexed: dict[str, IndexedSegment] = {}
        for segment in stale:
            try:
                indexed[segment.path.name] = self._begin(segment)
            except FileNotFoundError:  # deleted since, as the next update will notice
                pass
            except OSError as error:  # what is known of it stays, and each update tries again
                self._add_unreadable(segment, error)
        present = [each for each in stale if each.path.name in indexed]
        writers = [self._read(each) for each in segments_by_writer(present)]
        for events in merge(writers):
            self._correlation.add_all(events)
        self._extents.flush()
        self._ends.flush()
        for name, how_far in indexed.items():
            lost = how_far.lost + self._lost[how_far.id]
            self._index.put_segment(name, how_far._replace(lost=lost))
        self._put_damage(indexed)
        for figures in self._correlation.each_figures():
            self._add_figures(figures)
        self._write_figures()
        partitions = PartitionReader(self._index, self._segments)
        if any(each.went_back for each in writers):
            self._refolded_keys |= self._shared_keys(partitions)
        for key in sorted(self._refolded_keys):
            self._refold(key, partitions)

    def _read(self, segments: list[tuple[SegmentFile, FirstLine]]) -> WriterSegments[Any]:
        return WriterSegments(
            segments, self._decode, time_of_event, self._damage.append, positions=self._positions
        )

    def _add_unreadable(self, segment: SegmentFile, error: OSError) -> None:
        damage = Damage(path=segment.path, offset=0, length=0, reason=error.strerror or str(error))
        self._damage.append(damage)

    def _put_damage(self, indexed: dict[str, IndexedSegment]) -> None:
        self._index.put_damage(self._damage)
        for damage in self._damage:
            how_far = indexed.get(damage.path.name)
            if not damage.length and how_far is not None:  # reading failed: the next update tries again
                self._refolded_keys |= self._index.drop_segment(how_far.id)

    def _begin(self, segment: SegmentFile) -> IndexedSegment:
        """Prepare for reading a segment on; return how far it will be indexed afterwards."""
        status, known = segment.path.stat(), self._known.get(segment.path.name)
        end = _end_of_lines(segment.path, status.st_size)
        checksum = _checksum_before(segment.path, end)
        start = lost = 0
        if known is not None:
            number = known.id
            start = known.indexed_to if _is_continued(segment.path, status, known) else 0
            lost = known.lost if start else 0
            self._refolded_keys |= self._index.drop_read(number, start)
        else:
            number, self._next_id = self._next_id, self._next_id + 1
        self._positions[segment.path.name], self._ids[segment.path.name] = start, number
        self._begun[number] = start
        self._index.drop_damage(segment.path.name, start)
        return IndexedSegment(
            number,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            end,
            checksum,
            lost,
        )

    def _decode(self, reader: Reader, block: Block) -> list[Any]:
        number = self._ids[reader.segment.path.name]
        block = without_header(block)
        events = decode_raw(block)
        if events is None:
            records = reader.records(block, _EVERYTHING)
            for record in records:
                self._extents.add(number, record.event, record.offset, record.length + 1)
            events = [record.event for record in records]
        else:
            self._extents.add_block(number, events, block)
        self._lost[number] += count_lost(events)
        self._ends.add_all(number, self._begun[number], events)
        return events

    def _add_figures(self, figures: CorrelatedSession) -> None:
        key = partition_key_of_session(figures.session_id)
        is_complete = not (
            has_several_sessions(key)
            or key in self._refolded_keys
            or key in self._figures
            or self._index.has_figures(key)
        )
        if not is_complete:
            self._refolded_keys.add(key)
            return
        self._figures[key] = figures
        if len(self._figures) >= _MAX_FIGURES:
            self._write_figures()

    def _write_figures(self) -> None:
        self._index.put_figures(self._figures.items())
        self._figures.clear()

    def _shared_keys(self, partitions: PartitionReader) -> set[str]:
        """Return the keys with events of several writers, as far as this pass read events of them.

        Where a time goes back, the later events of its writer count as no earlier than the ones before,
        which may be of other keys. Read alone, the events of a key may come in another order then.
        """
        keys = self._index.split_keys(min(self._begun))
        return {key for key in keys if len(partitions.writers(key)) > 1}

    def _refold(self, key: str, partitions: PartitionReader) -> None:
        correlation = CorrelatedFigures(None, MAX_RECORDS_PER_SESSION, joins=False)
        correlation.add_all(partitions.events(key))
        self._index.drop_figures(key)
        self._index.put_figures((key, figures) for figures in correlation.each_figures())


class _Extents:
    """Extents, each open until the next event of its partition key is too far away."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._open: dict[str, list[int]] = {}  # segment, start and end, by partition key
        self._closed: list[Extent] = []

    def add_block(self, segment: int, events: list[Any], block: Block) -> None:
        """Add the events of a block, one a line; there may be none, as in a block of a header alone."""
        if not events:
            return
        session: str | None = None
        start = offset = block.offset
        first = events[0]
        for event, line in zip(events, block.data.split(b"\n"), strict=False):
            if event.session_id != session or session is None:
                if offset > start:
                    self.add(segment, first, start, offset - start)
                first, session, start = event, event.session_id, offset
            offset += len(line) + 1
        self.add(segment, first, start, offset - start)

    def add(self, segment: int, event: Any, start: int, length: int) -> None:
        """Add the bytes of an event, or of consecutive events of one session."""
        if isinstance(event, SessionLinked):  # never among raw structs
            self._add(LINKS, segment, start, length)
        key = partition_key(event)
        if key is not None:
            self._add(key, segment, start, length)

    def _add(self, key: str, segment: int, start: int, length: int) -> None:
        extent = self._open.get(key)
        if extent is not None and extent[0] == segment and 0 <= start - extent[2] <= _GAP:
            extent[2] = start + length
            return
        if extent is not None:
            self._close(key, extent)
        elif len(self._open) >= _MAX_OPEN_EXTENTS:
            self.flush()
        self._open[key] = [segment, start, start + length]

    def flush(self) -> None:
        """Close and write all extents."""
        for key, extent in self._open.items():
            self._close(key, extent)
        self._open.clear()
        self._index.put_extents(self._closed)
        self._closed.clear()

    def _close(self, key: str, extent: list[int]) -> None:
        segment, start, end = extent
        self._closed.append(Extent(key, segment, start, end - start))


# Whether a file is the one that was indexed.


def _is_any_known(index: Index, segments: list[SegmentFile]) -> bool:
    """Return True if any indexed segment still exists, unchanged or with more behind it.

    Where a log was copied or restored there is none, and clearing the index is the fastest.
    """
    known = index.segments()
    return any(_is_known(each.path, known.get(each.path.name)) for each in segments)


def _is_known(path: Path, known: IndexedSegment | None) -> bool:
    if known is None:
        return False
    with suppress(OSError):
        return _is_unchanged(path, known) or _is_continued(path, path.stat(), known)
    return False


def _is_unchanged(path: Path, known: IndexedSegment | None) -> bool:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return known is None
    return known is not None and known[1:5] == (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    )  # fmt: skip


def _is_continued(path: Path, status: os.stat_result, known: IndexedSegment) -> bool:
    """Return True if a file is the one that was indexed, with more behind it."""
    return (
        (known.device, known.inode) == (status.st_dev, status.st_ino)
        and status.st_size > known.size
        and _checksum_before(path, known.indexed_to) == known.checksum
    )


def _checksum_before(path: Path, end: int) -> int:
    start = max(0, end - _CHECKED_BYTES)
    return zlib.crc32(read_bytes(path, start, end - start))


def _end_of_lines(path: Path, size: int) -> int:
    """Return where the last line with a line feed ends, within the file's first `size` bytes."""
    while size:
        start = max(0, size - 65_536)
        place = read_bytes(path, start, size - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        size = start
    return 0
