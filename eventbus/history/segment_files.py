"""Find the segments of a log, and read what their names and first lines say about them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec

from eventbus.history.stored_lines import Block, StoredLines, read_bytes

__all__ = [
    "FirstLine",
    "SegmentFile",
    "Writer",
    "find_segments",
    "in_order_of_numbers",
    "read_first_line",
    "segment_at",
    "segments_by_writer",
    "written_at",
]

_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-(\d{1,10})-([0-9A-Za-z]{1,32})\.jsonl", re.ASCII)
_FIRST_BYTES = 8_192
_LAST_BYTES = 128 * 1024  # an event takes at most half of this

_T = TypeVar("_T")

Writer = tuple[str, int]
"""A bus id and a process id."""


class SegmentFile(msgspec.Struct, frozen=True, kw_only=True):
    """A segment, as described by its name and file status.

    Attributes:
        path: The file.
        bus_id: The bus whose events it contains.
        pid: The process that wrote it.
        start: When it was begun.
        size: Its size in bytes when the directory was listed.
    """

    path: Path
    bus_id: str
    pid: int
    start: datetime
    size: int

    @property
    def writer(self) -> Writer:
        """The bus and the process that wrote it."""
        return self.bus_id, self.pid


class FirstLine(msgspec.Struct, frozen=True, kw_only=True):
    """What the beginning of a segment says about it.

    Attributes:
        has_header: True if the first line is a header.
        schema_version: The header's schema version; None without a header.
        first_seq: The number of the first record; None if neither header nor record has one.
        earliest: When the first record's event happened; None if that cannot be read.
    """

    has_header: bool = False
    schema_version: int | None = None
    first_seq: int | None = None
    earliest: datetime | None = None


class _Line(msgspec.Struct):
    """The fields of a header or a record that `FirstLine` is made from."""

    event_type: str = ""
    seq: int | None = None
    first_seq: int | None = None
    schema_version: int | None = None
    timestamp: datetime | None = None


_line_decoder = msgspec.json.Decoder(_Line)


def find_segments(directory: Path) -> list[SegmentFile]:
    """Return the segments of a log in the order of their starts; none where there is no log.

    Raises:
        OSError: The directory exists and cannot be read.
    """
    events = str(directory / "events")
    try:
        names = sorted(os.listdir(events))  # noqa: PTH208
    except FileNotFoundError:
        return []
    found = (segment_at(os.path.join(events, name)) for name in names)  # noqa: PTH118
    return [segment for segment in found if segment is not None]


def segment_at(path: str) -> SegmentFile | None:
    """Return the segment at a path; None if there is no regular file with a segment's name."""
    match = _NAME.fullmatch(os.path.basename(path))  # noqa: PTH119 - making a Path would cost the most
    if match is None:
        return None
    with suppress(OSError, ValueError):  # deleted since, or a date such as the 31st of February
        status = os.stat(path, follow_symlinks=False)  # noqa: PTH116
        if stat.S_ISREG(status.st_mode):
            start = datetime.fromisoformat(match[1])  # 40 times as fast as `strptime`
            return SegmentFile(
                path=Path(path), bus_id=match[3], pid=int(match[2]), start=start, size=status.st_size
            )
    return None


def segments_by_writer(segments: list[SegmentFile]) -> Iterator[list[tuple[SegmentFile, FirstLine]]]:
    """Yield the segments of each writer, in the order of their records' numbers."""
    by_writer = sorted(segments, key=lambda each: (each.writer, each.path.name))
    for _, group in groupby(by_writer, key=lambda each: each.writer):
        of_writer = [(segment, read_first_line(segment.path)) for segment in group]
        yield in_order_of_numbers(of_writer, [first.first_seq for _, first in of_writer])


def in_order_of_numbers(of_writer: Sequence[_T], first_seqs: Iterable[int | None]) -> list[_T]:
    """Return the segments of one writer in the order of their records' numbers.

    By number instead of time: the clock may have been set back between two segments. A segment without
    a readable number stays behind the one that was begun before it.

    Args:
        of_writer: The segments, or what stands for them, in the order of their names.
        first_seqs: The number of the first record of each; None if it is not known.
    """
    numbers: list[int] = []
    for number in first_seqs:
        numbers.append(number if number is not None else numbers[-1] if numbers else 0)
    return [of_writer[place] for place in sorted(range(len(numbers)), key=numbers.__getitem__)]


def read_first_line(path: Path) -> FirstLine:
    """Return what the beginning of a segment says about it. Never raises."""
    try:
        block = StoredLines(path).next_block(_FIRST_BYTES)
    except OSError:
        return FirstLine()
    if not isinstance(block, Block):
        return FirstLine()
    lines = block.data.split(b"\n")
    first = _decode(lines[0])
    if first.event_type != "segment_started":
        return FirstLine(first_seq=first.seq, earliest=_time_of(first))
    record = _decode(lines[1]) if len(lines) > 1 else _Line()
    return FirstLine(
        has_header=True,
        schema_version=first.schema_version,
        first_seq=first.first_seq if first.first_seq is not None else record.seq,
        earliest=_time_of(record),
    )


def written_at(segment: SegmentFile, now: float) -> float:
    """Return when a segment was last written to, in seconds since 1970; raise OSError if that is unknown.

    It was not before its start: archives and images set the modification time to any value. Then its
    last record decides. Not always: reading thousands of segments takes a while.
    """
    modified_at = segment.path.stat(follow_symlinks=False).st_mtime
    began = segment.start.timestamp()
    if modified_at >= began or began > now:  # a start in the future is of a clock that was wrong
        return modified_at
    return max(began, _last_record_at(segment))


def _last_record_at(segment: SegmentFile) -> float:
    """Return the time of a segment's last record; 0 if none can be read."""
    with suppress(OSError):
        lines = read_bytes(segment.path, max(0, segment.size - _LAST_BYTES), _LAST_BYTES).split(b"\n")
        times = (_time_of(line) for line in map(_decode, reversed(lines)) if line.seq is not None)
        return next((time.timestamp() for time in times if time is not None), 0.0)
    return 0.0


def _decode(line: bytes) -> _Line:
    try:
        return _line_decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return _Line()


def _time_of(line: _Line) -> datetime | None:
    with suppress(OverflowError, ValueError, OSError):  # a naive time in the year 1 or 9999
        return None if line.timestamp is None else line.timestamp.astimezone(UTC)
    return None
