"""Read the events of one partition key from the extents that the index lists."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from eventbus.events import Event
from eventbus.history.grouping import partition_key, session_id_of
from eventbus.history.index import Extent, Index
from eventbus.history.reading import Reader
from eventbus.history.segment_files import SegmentFile, segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, read_bytes

__all__ = ["PartitionReader"]


class PartitionReader:
    """Reads the events of one partition key, in the order of the log.

    Args:
        index: Lists the extents.
        segments: The segments of the log.
    """

    def __init__(self, index: Index, segments: list[SegmentFile]) -> None:
        self._index = index
        ids = {name: each.id for name, each in index.segments().items()}
        self._writers = [
            {ids[each.path.name]: each for each, _ in of_writer if each.path.name in ids}
            for of_writer in segments_by_writer(segments)
        ]

    def events(self, key: str) -> Iterator[Event]:
        """Iterate over the events of a key."""
        extents: dict[int, list[Extent]] = {}
        for extent in self._index.extents(key):
            extents.setdefault(extent.segment, []).append(extent)
        of_writers = [
            _events_of_writer(key, [(segments[each], extents[each]) for each in segments if each in extents])
            for segments in self._writers
        ]
        return (event for _, event in heapq.merge(*of_writers, key=lambda each: each[0]))


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
    return [event for event in events if partition_key(event) == key]


def _ignore(_: object) -> None:
    """Ignore damage, which `EventLog` reports."""
