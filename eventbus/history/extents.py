"""Read the events of partition keys from the extents that the index lists."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from eventbus.events import Event, SessionLinked
from eventbus.history.grouping import LINKS, partition_key, session_id_of
from eventbus.history.index import Extent, Index
from eventbus.history.reading import Reader
from eventbus.history.segment_files import SegmentFile, Writer, segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, read_bytes

__all__ = ["PartitionReader"]


class PartitionReader:
    """Reads the events of partition keys, in the order of the log.

    Args:
        index: Lists the extents.
        segments: The segments of the log.
    """

    def __init__(self, index: Index, segments: list[SegmentFile]) -> None:
        self._index = index
        indexed = index.segments()
        ids = {name: each.id for name, each in indexed.items()}
        self._lost = {each.id: each.lost for each in indexed.values() if each.lost}
        self._writers = [
            {ids[each.path.name]: each for each, _ in of_writer if each.path.name in ids}
            for of_writer in segments_by_writer(segments)
        ]

    def events(self, *keys: str) -> Iterator[Event]:
        """Iterate over the events of keys."""
        return (event for _, event in heapq.merge(*self._of_writers(keys), key=_time))

    def lost(self, *keys: str) -> int:
        """Return how many events are missing in the segments with events of keys."""
        return sum(self._lost.get(each, 0) for each in self._segments(keys)) if self._lost else 0

    def total_lost(self) -> int:
        """Return how many events are missing in all segments."""
        return sum(self._lost.values())

    def writers(self, *keys: str) -> list[Writer]:
        """Return the writers that wrote events of keys."""
        ids = self._segments(keys)
        return [next(iter(each.values())).writer for each in self._writers if not ids.isdisjoint(each)]

    def events_by_writer(self, *keys: str) -> Iterator[tuple[Writer, list[Event]]]:
        """Iterate over the writers that wrote events of keys, each with these events."""
        for key in keys:
            extents = self._extents(key)
            for segments in self._writers:
                events = [event for _, event in self._of_writer(key, segments, extents)]
                if events:
                    yield next(iter(segments.values())).writer, events

    def _of_writers(self, keys: Iterable[str]) -> Iterator[Iterator[tuple[datetime, Event]]]:
        for key in keys:
            extents = self._extents(key)
            for segments in self._writers:
                yield self._of_writer(key, segments, extents)

    def _segments(self, keys: Iterable[str]) -> set[int]:
        return {extent.segment for key in keys for extent in self._index.extents(key)}

    def _extents(self, key: str) -> dict[int, list[Extent]]:
        extents: dict[int, list[Extent]] = {}
        for extent in self._index.extents(key):
            extents.setdefault(extent.segment, []).append(extent)
        return extents

    def _of_writer(
        self, key: str, segments: dict[int, SegmentFile], extents: dict[int, list[Extent]]
    ) -> Iterator[tuple[datetime, Event]]:
        parts = [(segment, extents[number]) for number, segment in segments.items() if number in extents]
        return _events_of_writer(key, parts)


def _events_of_writer(
    key: str, parts: list[tuple[SegmentFile, list[Extent]]]
) -> Iterator[tuple[datetime, Event]]:
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
    events = reader.events(block, Selection(session_id=session_id_of(key)))
    return [event for event in events if _has_key(event, key)]


def _has_key(event: Event, key: str) -> bool:
    return isinstance(event, SessionLinked) if key == LINKS else partition_key(event) == key


def _time(item: tuple[datetime, Event]) -> datetime:
    return item[0]


def _ignore(_: object) -> None:
    """Ignore damage, which `EventLog` reports."""
