"""Watch a log's directory: poll its segments for what was appended to them.

Everything here blocks, for a short time: `Tail` calls it in a thread.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from eventbus.delivery.current_bus import has_started
from eventbus.history.merging import SegmentCursor, WriterSegments, merge
from eventbus.history.reading import OnDamage, Reader, Record, time_of_record
from eventbus.history.segment_files import (
    FirstLine,
    SegmentFile,
    Writer,
    find_segments,
    segment_at,
    segments_by_writer,
)
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block
from eventbus.history.tailed_segment import TailedSegment
from eventbus.history.tailed_writer import TailedWriter
from eventbus.history.troubles import Troubles

__all__ = ["DirectoryWatch", "Start"]

Start: TypeAlias = Literal["now", "beginning"] | Mapping[str, int]
"""Where to begin: at what is appended from now on, at the log's beginning, or at a `Tail.position`."""

_LIST_SECONDS = 1.0  # the directory is listed at least this often: its time may not show a new file
_SETTLED_NS = 100_000_000  # two changes within a tick of the file system's clock have the same time
_MAX_ACTIVE = 200
_POLLS_PER_ROUND = 40
_MAX_AWAY = 10_000


class DirectoryWatch:
    """The segments of a log, while they are created, grow, go away and come back.

    Each poll reads the last segments of all writers, at most of 200: of more writers, each poll reads
    those of the 200 most likely ones, which are alive and wrote last, and each other one once in 40
    polls. Once in 40 polls, the earlier segments of each writer are looked at, too.

    What cannot be read is reported once and tried again. What is gone may come back: the numbers of
    the records that were received are kept for each writer, so none comes twice.

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
        self.start_positions: dict[str, int] = dict(start) if isinstance(start, Mapping) else {}
        self._events = directory / "events"
        self._starts_now = start == "now"
        self._selection = selection
        self._include_own = include_own
        self._on_damage = on_damage
        self._troubles = Troubles(on_damage)
        self._history: Iterator[list[Record]] = iter(())
        self._writers: dict[Writer, TailedWriter] = defaultdict(lambda: TailedWriter(self._troubles))
        self._present: dict[str, tuple[Writer, TailedSegment]] = {}
        self._away: dict[str, tuple[Writer, TailedSegment]] = {}  # files that may come back
        self._found: list[Record] = []
        self._listed: tuple[int, int, int] | None = None
        self._list_again_at = 0.0
        self._turn = 0
        self._active: list[TailedWriter] = []
        self._must_rank = True

    def begin(self) -> None:
        """Find the segments that exist now.

        Raises:
            OSError: The log exists and cannot be read.
        """
        segments = [each for each in find_segments(self._events.parent) if self._is_wanted(each)]
        of_writers = list(segments_by_writer(segments))
        for of_writer in of_writers:
            tailed = [self._tail(segment, first.first_seq) for segment, first in of_writer]
            self._writers[of_writer[0][0].writer].add(tailed)
        if self._starts_now:
            self._starts_now = False  # for segments that are created from here on
        else:
            self._history = self._read_history(of_writers)

    def poll(self) -> list[Record]:
        """Return some of the new records; none if there are none now."""
        for records in self._history:
            return records
        self._find_segments()
        for writer, all_of_them in self._writers_to_poll().items():
            records = writer.poll(all_of_them=all_of_them)
            self._found += records
            self._must_rank = self._must_rank or (bool(records) and all_of_them)
        found, self._found = self._found, []
        return sorted(found, key=time_of_record)

    def _is_wanted(self, segment: SegmentFile) -> bool:
        return self._include_own or segment.pid != os.getpid() or not has_started(segment.bus_id)

    # Where to begin.

    def _tail(self, segment: SegmentFile, first_seq: int | None = None) -> TailedSegment:
        """Begin to tail a segment: at its end, where a position says so, or at its beginning."""
        origins = self._writers[segment.writer].origins
        tailed = TailedSegment(segment, origins, self._selection, self._on_damage, first_seq)
        self._present[tailed.name] = segment.writer, tailed
        end = segment.size if self._starts_now else self.start_positions.get(tailed.name, 0)
        if end:
            self._skip(tailed, end)
        return tailed

    def _skip(self, tailed: TailedSegment, end: int) -> None:
        try:
            tailed.skip_to(end)
            end = tailed.position
        except FileNotFoundError:
            pass
        except OSError as error:
            self._troubles.report(tailed.path, 0, error)
        if self._starts_now:
            self.start_positions[tailed.name] = end

    def _read_history(self, of_writers: list[list[tuple[SegmentFile, FirstLine]]]) -> Iterator[list[Record]]:
        """Yield the records of existing segments, in the order of the log."""
        positions = {name: tailed.position for name, (_, tailed) in self._present.items()}
        history = [
            WriterSegments(
                each, self._decode, time_of_record, self._on_damage, positions=positions, leaves_tail=True
            )
            for each in of_writers
        ]
        yield from merge(history)
        for writer in history:
            for cursor in writer.cursors:
                self._continue(cursor)

    def _continue(self, cursor: SegmentCursor) -> None:
        _, tailed = self._present[cursor.segment.path.name]
        tailed.continue_from(cursor)

    def _decode(self, reader: Reader, block: Block) -> list[Record]:
        _, tailed = self._present[reader.segment.path.name]
        return tailed.take(reader, block)

    # What there is.

    def _find_segments(self) -> None:
        now = time.monotonic()
        try:
            status = os.stat(self._events)  # noqa: PTH116
            listed = status.st_dev, status.st_ino, status.st_mtime_ns
            if listed == self._listed and now < self._list_again_at:
                return
            names = set(os.listdir(self._events))  # noqa: PTH208
        except FileNotFoundError:
            self._listed, names = None, set[str]()
        except OSError as error:
            self._troubles.report(self._events, 0, error)
            self._listed = None
            return
        else:
            is_settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
            self._listed, self._list_again_at = listed, now + _LIST_SECONDS * is_settled
            self._troubles.end(self._events)
        self._remove(self._present.keys() - names)
        self._add(sorted(names - self._present.keys()))

    def _remove(self, names: set[str]) -> None:
        gone: defaultdict[Writer, set[TailedSegment]] = defaultdict(set)
        for name in names:
            writer, tailed = self._away[name] = self._present.pop(name)
            gone[writer].add(tailed)
        for writer, segments in gone.items():
            self._writers[writer].remove(segments)
        for name in list(self._away)[: max(0, len(self._away) - _MAX_AWAY)]:
            del self._away[name]  # if it comes back, it is read from its beginning

    def _add(self, names: list[str]) -> None:
        new: defaultdict[Writer, list[TailedSegment]] = defaultdict(list)
        for name in names:
            if name in self._away:
                writer, tailed = self._present[name] = self._away.pop(name)
                tailed.is_at_end = False
                new[writer].append(tailed)
                continue
            # None also if its status cannot be read at the moment: then the next list has it again.
            segment = segment_at(os.path.join(self._events, name))  # noqa: PTH118
            if segment is not None and self._is_wanted(segment):
                new[segment.writer].append(self._tail(segment))
        for writer, segments in new.items():
            self._writers[writer].add(segments)
        self._must_rank = self._must_rank or bool(new)

    def _writers_to_poll(self) -> dict[TailedWriter, bool]:
        """Return the writers to poll now; True for those whose earlier segments are looked at, too."""
        turn = self._turn = (self._turn + 1) % _POLLS_PER_ROUND
        writers = list(self._writers.values())
        if len(writers) <= _MAX_ACTIVE:
            self._active = writers
        elif not turn or self._must_rank:
            self._must_rank = False
            self._active = sorted(writers, key=lambda each: each.rank, reverse=True)[:_MAX_ACTIVE]
        return dict.fromkeys(self._active, False) | dict.fromkeys(writers[turn::_POLLS_PER_ROUND], True)
