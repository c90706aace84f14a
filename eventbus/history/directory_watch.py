"""Watch a log's directory: poll its segments for what was appended to them.

Everything here blocks, for a short time: `Tail` calls it in a thread.
"""

from __future__ import annotations

import heapq
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from eventbus.delivery.current_bus import has_started
from eventbus.history.merging import SegmentCursor, WriterSegments, merge
from eventbus.history.reading import OnDamage, Reader, Record, time_of_record
from eventbus.history.segment_files import (
    SegmentFile,
    Writer,
    find_segments,
    segment_at,
    segments_by_writer,
)
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, StoredLines
from eventbus.history.tailed_segment import TailedSegment

__all__ = ["DirectoryWatch", "Start"]

Start: TypeAlias = Literal["now", "beginning"] | Mapping[str, int]
"""Where to begin: at what is appended from now on, at the log's beginning, or at a `Tail.position`."""

_LIST_SECONDS = 1.0  # the directory is listed at least this often: its time may not show a new file
_SETTLED_NS = 100_000_000  # two changes within a tick of the file system's clock have the same time
_MAX_ACTIVE = 200
_POLLS_PER_ROUND = 40


class DirectoryWatch:
    """The segments of a log, while they are created, grow and are deleted.

    Each poll reads the segments of all writers, at most of 200: of more writers, each poll reads those
    of the 200 most likely ones, which are alive and wrote last, and each other one once in 40 polls.

    Args:
        directory: The log's directory; it need not exist yet.
        start: Where to begin.
        selection: Which records are wanted.
        include_own: True to read the segments of this process's own buses, too.
        on_damage: Called with each place that is skipped.

    Attributes:
        start_positions: The byte at which reading of a segment began, by its file's name.

    Raises:
        ValueError: `start` is something else.
    """

    def __init__(
        self, directory: Path, start: Start, selection: Selection, include_own: bool, on_damage: OnDamage
    ) -> None:
        if start not in ("now", "beginning") and not isinstance(start, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"start={start!r} is not 'now', 'beginning' or a position")
        self.start_positions: dict[str, int] = {}
        self._directory = directory
        self._start = start
        self._selection = selection
        self._include_own = include_own
        self._on_damage = on_damage
        self._history: Iterator[list[Record]] = iter(())
        self._tailed: dict[Writer, deque[TailedSegment]] = {}
        self._known: set[str] = set()
        self._listed_ns = 0
        self._list_again_at = 0.0
        self._polls = 0
        self._active: list[Writer] = []
        self._inactive: list[Writer] = []

    def begin(self) -> None:
        """Find the segments that exist now.

        Raises:
            OSError: The log exists and cannot be read.
        """
        segments = [each for each in find_segments(self._directory) if self._is_wanted(each)]
        self._known = {each.path.name for each in segments}
        if self._start == "now":
            for of_writer in segments_by_writer(segments):
                self._go_to_end([segment for segment, _ in of_writer])
            return
        if isinstance(self._start, Mapping):
            self.start_positions = {name: end for name, end in self._start.items() if name in self._known}
        self._history = self._read_history(segments)

    def poll(self) -> list[Record]:
        """Return some of the new records; none if there are none now.

        Raises:
            OSError: The log cannot be read.
        """
        for records in self._history:
            return records
        self._find_new_segments()
        found = {writer: records for writer in self._writers_to_poll() if (records := self._read(writer))}
        if not found.keys() <= set(self._active):
            self._polls = 0  # an inactive writer has become active: rank them again
        return list(heapq.merge(*found.values(), key=time_of_record))

    def _is_wanted(self, segment: SegmentFile) -> bool:
        return self._include_own or segment.pid != os.getpid() or not has_started(segment.bus_id)

    def _go_to_end(self, segments: list[SegmentFile]) -> None:
        """Begin at the end of a writer's last segment; the others will not grow any more."""
        self.start_positions |= {segment.path.name: segment.size for segment in segments}
        tailed = self._add(segments[-1])
        self._guard(lambda: self.start_positions.update({segments[-1].path.name: tailed.go_to_end()}), tailed)

    def _read_history(self, segments: list[SegmentFile]) -> Iterator[list[Record]]:
        """Yield the records of existing segments, in the order of the log, and then tail these segments."""
        history = [
            WriterSegments(
                each,
                self._decode,
                time_of_record,
                self._on_damage,
                positions=self.start_positions,
                leaves_tail=True,
            )
            for each in segments_by_writer(segments)
        ]
        yield from merge(history)
        for writer in history:
            tailed = TailedSegment(writer.cursor, self._selection, self._on_damage)
            self._tailed[writer.cursor.segment.writer] = deque([tailed])

    def _decode(self, reader: Reader, block: Block) -> list[Record]:
        return reader.records(block, self._selection)

    def _add(self, segment: SegmentFile) -> TailedSegment:
        cursor = SegmentCursor(segment, StoredLines(segment.path), Reader(segment, self._on_damage))
        tailed = TailedSegment(cursor, self._selection, self._on_damage)
        self._tailed.setdefault(segment.writer, deque()).append(tailed)
        return tailed

    def _find_new_segments(self) -> None:
        now = time.monotonic()
        events = str(self._directory / "events")
        try:
            changed_ns = os.stat(events).st_mtime_ns  # noqa: PTH116
            if changed_ns == self._listed_ns and now < self._list_again_at:
                return
            names = set(os.listdir(events))  # noqa: PTH208
        except FileNotFoundError:
            self._known.clear()
            return
        is_settled = time.time_ns() - changed_ns > _SETTLED_NS
        self._listed_ns, self._list_again_at = changed_ns, now + _LIST_SECONDS * is_settled
        for name in sorted(names - self._known):
            segment = segment_at(os.path.join(events, name))  # noqa: PTH118
            if segment is not None and self._is_wanted(segment):
                self._add(segment)
        self._known = names

    def _writers_to_poll(self) -> list[Writer]:
        if len(self._tailed) <= _MAX_ACTIVE:
            return list(self._tailed)
        turn = self._polls % _POLLS_PER_ROUND
        self._polls += 1
        if not turn:
            by_rank = sorted(self._tailed, key=lambda each: self._tailed[each][0].rank, reverse=True)
            self._active, self._inactive = by_rank[:_MAX_ACTIVE], by_rank[_MAX_ACTIVE:]
        polled = self._active + self._inactive[turn::_POLLS_PER_ROUND]
        return [writer for writer in polled if writer in self._tailed]

    def _read(self, writer: Writer) -> list[Record]:
        """Read a writer's segments, each to its end before the next."""
        segments = self._tailed[writer]
        while segments:
            tailed = segments[0]
            # Looked up before reading: a segment that has a next one does not grow any more.
            has_next = len(segments) > 1
            records = self._guard(tailed.read, tailed) or []
            if records or not (tailed.is_gone or (has_next and tailed.is_at_end)):
                return records
            segments.popleft()
        del self._tailed[writer]
        return []

    def _guard(self, read: Callable[[], list[Record] | None], tailed: TailedSegment) -> list[Record] | None:
        """Call `read`; mark the segment as gone if it was deleted or cannot be read."""
        try:
            return read()
        except FileNotFoundError:
            tailed.is_gone = True
        except OSError as error:
            tailed.is_gone = True
            self._on_damage(Damage(path=tailed.path, offset=tailed.position, length=0, reason=str(error)))
        return None
