"""Read the events of partition keys from the extents that the index lists."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import TypeAlias

from eventbus.events import Event, SessionLinked
from eventbus.history.grouping import LINKS, partition_key, session_id_of
from eventbus.history.index import Extent, Index
from eventbus.history.reading import Reader
from eventbus.history.segment_files import SegmentFile, Writer, segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, read_bytes

__all__ = ["PartitionReader"]

_Parts: TypeAlias = list[tuple[SegmentFile, list[Extent]]]
_EVERYTHING = Selection()
_time: Callable[[tuple[datetime, Event]], datetime] = operator.itemgetter(0)


class PartitionReader:
    """Reads the events of partition keys, in the order of the log.

    Args:
        index: Lists the extents.
        segments: The segments of the log.
    """

    def __init__(self, index: Index, segments: list[SegmentFile]) -> None:
        self._index = index
        indexed = index.segments()
        self._segments = {indexed[each.path.name].id: each for each in segments if each.path.name in indexed}
        self._lost = {each.id: each.lost for each in indexed.values() if each.lost}

    def events(self, *keys: str) -> Iterator[Event]:
        """Iterate over the events of keys."""
        writers = [_events_of_writer(key, parts) for key in keys for parts in self._parts(key)]
        if len(writers) == 1:
            return map(operator.itemgetter(1), writers[0])
        return (event for _, event in heapq.merge(*writers, key=_time))

    def lost(self, *keys: str) -> int:
        """Return how many events are missing in the segments with events of keys."""
        if not self._lost:
            return 0
        segments = {extent.segment for key in keys for extent in self._index.extents(key)}
        return sum(self._lost.get(each, 0) for each in segments)

    def total_lost(self) -> int:
        """Return how many events are missing in all segments."""
        return sum(self._lost.values())

    def writers(self, *keys: str) -> list[Writer]:
        """Return the writers that wrote events of keys."""
        return list(dict.fromkeys(parts[0][0].writer for key in keys for parts in self._parts(key)))

    def events_by_writer(self, *keys: str) -> Iterator[tuple[Writer, list[Event]]]:
        """Iterate over the writers that wrote events of keys, each with these events."""
        for key in keys:
            for parts in self._parts(key):
                events = [event for _, event in _events_of_writer(key, parts)]
                if events:
                    yield parts[0][0].writer, events

    def _parts(self, key: str) -> list[_Parts]:
        """Return the segments of each writer that contain events of a key, each with its extents.

        Only these segments are looked at: a log may have thousands, and a session is in one or two.
        """
        extents: dict[int, list[Extent]] = {}
        for extent in self._index.extents(key):
            extents.setdefault(extent.segment, []).append(extent)
        found = {self._segments[each].path: each for each in extents if each in self._segments}
        of_writers = segments_by_writer([self._segments[each] for each in found.values()])
        return [[(segment, extents[found[segment.path]]) for segment, _ in each] for each in of_writers]


def _events_of_writer(key: str, parts: _Parts) -> Iterator[tuple[datetime, Event]]:
    """Yield one writer's events with the times to merge them by, which never decrease."""
    time: datetime | None = None
    for segment, extents in parts:
        for extent in extents:
            for event in _read(key, segment, extent):
                time = event.timestamp if time is None else max(time, event.timestamp)
                yield time, event


def _read(key: str, segment: SegmentFile, extent: Extent) -> list[Event]:
    data = b""
    with suppress(OSError):  # deleted since
        data = read_bytes(segment.path, extent.start, extent.length)
    reader = Reader(segment, _ignore)
    block = Block(extent.start, data, not data.endswith(b"\n"))
    session_id = session_id_of(key)
    if session_id is None:
        return [event for event in reader.events(block, _EVERYTHING) if _has_key(event, key)]
    quoted = b'"session_id":"%b"' % session_id.encode("utf-8", "replace")
    if data.count(quoted) < data.count(b"\n"):  # other sessions' lines are between its own
        return reader.events(block, Selection(session_id=session_id))
    return [event for event in reader.events(block, _EVERYTHING) if event.session_id == session_id]


def _has_key(event: Event, key: str) -> bool:
    return isinstance(event, SessionLinked) if key == LINKS else partition_key(event) == key


def _ignore(_: object) -> None:
    """Ignore damage, which `EventLog` reports."""
