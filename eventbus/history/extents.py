"""Read the events of one lane from where the index says they lie."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from eventbus.events import Event
from eventbus.history.grouping import lane_of, session_of_lane
from eventbus.history.index import Index, Piece
from eventbus.history.reading import Reader
from eventbus.history.segment_files import SegmentFile, chains
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, read_bytes

__all__ = ["LaneReader"]

_Keyed = tuple[datetime, Event]


class LaneReader:
    """Reads lanes, in the order of the log.

    Args:
        index: Where their events lie.
        segments: The segments there are.
    """

    def __init__(self, index: Index, segments: list[SegmentFile]) -> None:
        self._index = index
        numbers = {name: each.id for name, each in index.segments().items()}
        self._writers = [
            {numbers[each.path.name]: each for each, _ in chain if each.path.name in numbers}
            for chain in chains(segments)
        ]

    def events(self, lane: str) -> Iterator[Event]:
        """Iterate over the events of a lane."""
        pieces: dict[int, list[Piece]] = {}
        for piece in self._index.pieces(lane):
            pieces.setdefault(piece.segment, []).append(piece)
        read = [
            _of_writer(
                lane, [(segment, pieces[number]) for number, segment in writer.items() if number in pieces]
            )
            for writer in self._writers
        ]
        return (event for _, event in heapq.merge(*read, key=lambda each: each[0]))


def _of_writer(lane: str, parts: list[tuple[SegmentFile, list[Piece]]]) -> Iterator[_Keyed]:
    """Yield one writer's events, each with the time that it counts as of."""
    key: datetime | None = None
    for segment, pieces in parts:
        for piece in pieces:
            for event in _read(lane, segment, piece):
                key = event.timestamp if key is None else max(key, event.timestamp)
                yield key, event


def _read(lane: str, segment: SegmentFile, piece: Piece) -> list[Event]:
    data = b""
    with suppress(OSError):  # deleted since: what is gone tells nothing
        data = read_bytes(segment.path, piece.start, piece.length)
    reader = Reader(segment, _ignore)
    block = Block(piece.start, data, not data.endswith(b"\n"))
    events = reader.events(block, Selection(session_id=session_of_lane(lane)))
    return [event for event in events if lane_of(event) == lane]


def _ignore(_: object) -> None:
    """Damage is told by whoever reads the log for its own sake."""
