"""Watch a directory of segments: what was appended to any of them since one looked last.

All of it blocks, a little: `following` calls it in a thread.
"""

from __future__ import annotations

import heapq
import operator
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from eventbus.delivery.current_bus import has_started
from eventbus.history.merging import Chain, Place, merge
from eventbus.history.reading import OnDamage, Reader, Record
from eventbus.history.segment_files import SegmentFile, Writer, chains, find_segments, segment_at
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, StoredLines
from eventbus.history.tailed_segment import GrowingSegment

__all__ = ["Start", "Watch"]

Start: TypeAlias = Literal["now", "beginning"] | Mapping[str, int]
"""Where following begins: with what is appended from now on, with all there is, or at a position."""

_LIST_SECONDS = 1.0  # where a directory's time does not tell, a new file is found as late as this
_SETTLED_NS = 100_000_000  # two changes within a tick of the file system's clock have one time
_WATCHED_CLOSELY = 200
_TURNS = 40
_time_of: Callable[[Record], datetime] = operator.attrgetter("event.timestamp")


class Watch:
    """The segments of a log, as they come, grow and go.

    Of more than 200 writers those that have ended, and then those that have been silent longest,
    are looked at by turns, each at every fortieth look: there are logs of thousands.

    Args:
        directory: Where the log lives; it need not be there yet.
        start: Where to begin.
        selection: Which records are wanted.
        include_own: Whether the segments of this process's own buses are wanted, too.
        on_damage: Is told of what is passed over.

    Attributes:
        passed: By the name of each segment, the byte up to which it was passed over at the start.
    """

    def __init__(
        self, directory: Path, start: Start, selection: Selection, include_own: bool, on_damage: OnDamage
    ) -> None:
        if start not in ("now", "beginning") and not isinstance(start, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"start={start!r} is none of 'now', 'beginning' or a position")
        self.passed: dict[str, int] = {}
        self._directory = directory
        self._start = start
        self._selection = selection
        self._include_own = include_own
        self._on_damage = on_damage
        self._history: Iterator[list[Record]] = iter(())
        self._growing: dict[Writer, deque[GrowingSegment]] = {}
        self._known: set[str] = set()
        self._listed_ns = 0
        self._list_again_at = 0.0
        self._looks = 0
        self._closely: list[Writer] = []
        self._by_turns: list[Writer] = []

    def begin(self) -> None:
        """Note what is there.

        Raises:
            OSError: The log is there and cannot be read.
        """
        segments = [each for each in find_segments(self._directory) if self._is_wanted(each)]
        self._known = {each.path.name for each in segments}
        if self._start == "now":
            for chain in chains(segments):
                self._pass_over([segment for segment, _ in chain])
            return
        if isinstance(self._start, Mapping):
            self.passed = {name: end for name, end in self._start.items() if name in self._known}
        self._history = self._read_all(segments)

    def look(self) -> list[Record]:
        """Return some of what has not been returned yet; nothing if there is nothing now.

        Raises:
            OSError: The log cannot be read.
        """
        for records in self._history:
            return records
        self._find_new_segments()
        found = {writer: records for writer in self._due() if (records := self._read_on(writer))}
        if not found.keys() <= set(self._closely):
            self._looks = 0  # one that was silent is not: rank them anew
        return list(heapq.merge(*found.values(), key=_time_of))

    def _is_wanted(self, segment: SegmentFile) -> bool:
        return self._include_own or segment.pid != os.getpid() or not has_started(segment.bus_id)

    def _pass_over(self, chain: list[SegmentFile]) -> None:
        """Begin at the end of a writer's last segment; the others are finished."""
        self.passed |= {segment.path.name: segment.size for segment in chain}
        growing = self._add(chain[-1])
        self._guarded(lambda: self.passed.update({chain[-1].path.name: growing.go_to_end()}), growing)

    def _read_all(self, segments: list[SegmentFile]) -> Iterator[list[Record]]:
        """Yield what is there, in the order of the whole log, and have its segments watched."""
        history = [
            Chain(each, self._decode, _time_of, self._on_damage, positions=self.passed, leaves_tail=True)
            for each in chains(segments)
        ]
        yield from merge(history)
        for chain in history:
            place = chain.last
            growing = GrowingSegment(place, self._selection, self._on_damage)
            self._growing[place.segment.writer] = deque([growing])

    def _decode(self, reader: Reader, block: Block) -> list[Record]:
        return reader.records(block, self._selection)

    def _add(self, segment: SegmentFile) -> GrowingSegment:
        place = Place(segment, StoredLines(segment.path), Reader(segment, self._on_damage))
        growing = GrowingSegment(place, self._selection, self._on_damage)
        self._growing.setdefault(segment.writer, deque()).append(growing)
        return growing

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

    def _due(self) -> list[Writer]:
        """Return whose segments to look at now: usually all, and never thousands."""
        if len(self._growing) <= _WATCHED_CLOSELY:
            return list(self._growing)
        turn = self._looks % _TURNS
        self._looks += 1
        if not turn:
            by_rank = sorted(self._growing, key=lambda each: self._growing[each][0].rank, reverse=True)
            self._closely, self._by_turns = by_rank[:_WATCHED_CLOSELY], by_rank[_WATCHED_CLOSELY:]
        due = self._closely + self._by_turns[turn::_TURNS]
        return [writer for writer in due if writer in self._growing]

    def _read_on(self, writer: Writer) -> list[Record]:
        """Read a writer's segments, each to its end before the next."""
        chain = self._growing[writer]
        while chain:
            growing = chain[0]
            has_next = len(chain) > 1  # looked up before it is read: then it is finished
            records = self._guarded(growing.read, growing) or []
            if records or not (growing.is_gone or (has_next and growing.is_at_end)):
                return records
            chain.popleft()
        del self._growing[writer]
        return []

    def _guarded(
        self, read: Callable[[], list[Record] | None], growing: GrowingSegment
    ) -> list[Record] | None:
        """Read of a segment what can be; one that is gone, or that cannot be read, is left alone."""
        try:
            return read()
        except FileNotFoundError:
            growing.is_gone = True
        except OSError as error:
            growing.is_gone = True
            self._on_damage(Damage(path=growing.path, offset=growing.position, length=0, reason=str(error)))
        return None
