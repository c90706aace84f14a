"""Find the segments of a log, and what their names and first lines say of them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import msgspec

from eventbus.history.stored_lines import Block, StoredLines

__all__ = ["FirstLine", "SegmentFile", "Writer", "chains", "find_segments", "first_line", "segment_at"]

_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-(\d{1,10})-([0-9A-Za-z]{1,32})\.jsonl", re.ASCII)
_PEEKED_BYTES = 8_192

Writer = tuple[str, int]
"""A bus in a process: a forked child writes its own segments with its parent's bus id."""


class SegmentFile(msgspec.Struct, frozen=True, kw_only=True):
    """A segment, as its name and its status tell.

    Attributes:
        path: The file.
        bus_id: Whose events it holds.
        pid: The process that wrote it.
        start: When it was begun.
        size: Its bytes, when the directory was looked at.
    """

    path: Path
    bus_id: str
    pid: int
    start: datetime
    size: int

    @property
    def writer(self) -> Writer:
        """Who wrote it: one bus in one process."""
        return self.bus_id, self.pid


class FirstLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment's beginning says of it, as far as it can be read.

    Attributes:
        has_header: Whether the first line is a header.
        schema_version: Of its lines; None where there is no header.
        first_seq: The number of its first record; None if neither header nor record tells.
        earliest: When its first record's event happened; None if that cannot be read.
    """

    has_header: bool = False
    schema_version: int | None = None
    first_seq: int | None = None
    earliest: datetime | None = None


class _Peeked(msgspec.Struct):
    event_type: str = ""
    seq: int | None = None
    first_seq: int | None = None
    schema_version: int | None = None
    timestamp: datetime | None = None


_peek = msgspec.json.Decoder(_Peeked)


def find_segments(directory: Path) -> list[SegmentFile]:
    """Return the segments of a log in the order of their starts; none where there is no log.

    Raises:
        OSError: The directory is there and cannot be read.
    """
    events = str(directory / "events")
    try:
        names = sorted(os.listdir(events))  # noqa: PTH208
    except FileNotFoundError:
        return []
    found = (segment_at(os.path.join(events, name)) for name in names)  # noqa: PTH118
    return [segment for segment in found if segment is not None]


def segment_at(path: str) -> SegmentFile | None:
    """Return the segment at a path; None if it is none by its name, no regular file, or gone."""
    match = _NAME.fullmatch(os.path.basename(path))  # noqa: PTH119 - a Path each would cost the most
    if match is None:
        return None
    with suppress(OSError, ValueError):  # deleted since, or a date such as the 31st of February
        status = os.stat(path, follow_symlinks=False)  # noqa: PTH116
        if stat.S_ISREG(status.st_mode):
            start = datetime.strptime(match[1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
            return SegmentFile(
                path=Path(path), bus_id=match[3], pid=int(match[2]), start=start, size=status.st_size
            )
    return None


def chains(segments: list[SegmentFile]) -> Iterator[list[tuple[SegmentFile, FirstLine]]]:
    """Yield the segments of each writer, in the order of their records' numbers."""
    by_writer = sorted(segments, key=lambda each: (each.writer, each.path.name))
    for _, group in groupby(by_writer, key=lambda each: each.writer):
        chain = [(segment, first_line(segment.path)) for segment in group]
        # By number, not by time: a clock may have been set back between two of them. One whose
        # number cannot be read stays behind the one that was begun before it.
        numbers = _filled([first.first_seq for _, first in chain])
        yield [chain[i] for i in sorted(range(len(chain)), key=numbers.__getitem__)]


def _filled(numbers: list[int | None]) -> list[int]:
    filled: list[int] = []
    for number in numbers:
        filled.append(number if number is not None else filled[-1] if filled else 0)
    return filled


def first_line(path: Path) -> FirstLine:
    """Return what a segment's beginning says, whatever it is; never raises."""
    try:
        block = StoredLines(path).next_block(_PEEKED_BYTES)
    except OSError:
        return FirstLine()
    if not isinstance(block, Block):
        return FirstLine()
    lines = block.data.split(b"\n")
    first = _peeked(lines[0])
    if first.event_type != "segment_started":
        return FirstLine(first_seq=first.seq, earliest=_instant(first))
    record = _peeked(lines[1]) if len(lines) > 1 else _Peeked()
    return FirstLine(
        has_header=True,
        schema_version=first.schema_version,
        first_seq=first.first_seq if first.first_seq is not None else record.seq,
        earliest=_instant(record),
    )


def _peeked(line: bytes) -> _Peeked:
    try:
        return _peek.decode(line)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return _Peeked()


def _instant(peeked: _Peeked) -> datetime | None:
    with suppress(OverflowError):  # a naive one of the year 1 or 9999
        return None if peeked.timestamp is None else peeked.timestamp.astimezone(UTC)
    return None
