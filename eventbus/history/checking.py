"""Check a log: report everything that is not as a persister writes it, with its place."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from eventbus.history.raw_decoding import decode_raw
from eventbus.history.reading import Reader, Record
from eventbus.history.record_lines import split_lines, without_header
from eventbus.history.repair import TORN_SUFFIX, torn_tail
from eventbus.history.segment_files import FirstLine, SegmentFile, find_segments, segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, StoredLines

__all__ = ["Problem", "ProblemKind", "check"]

ProblemKind: TypeAlias = Literal[
    "permissions",
    "foreign file",
    "no header",
    "schema version",
    "damage",
    "torn tail",
    "gap",
    "index",
    "package",
]
"""The kind of a problem; only ``damage`` makes a written record unreadable."""

_KNOWN_SCHEMA_VERSION = 1


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a log that is not as it should be.

    Attributes:
        kind: The kind of problem.
        path: The file or directory.
        message: What is wrong, for people.
        offset: Where in the file, in bytes; None for the file as a whole.
        length: The number of bytes; None for the file as a whole.
    """

    kind: ProblemKind
    path: Path
    message: str
    offset: int | None = None
    length: int | None = None


def check(directory: Path) -> Iterator[Problem]:
    """Read a whole log, in bounded memory, and yield its problems.

    Raises:
        OSError: The log cannot be read at all.
    """
    segments = find_segments(directory)
    yield from _check_permissions([directory, directory / "events", *(each.path for each in segments)])
    yield from _find_foreign_files(directory / "events", {each.path for each in segments})
    for of_writer in segments_by_writer(segments):
        yield from _check_segments(of_writer)


def _check_permissions(paths: Iterable[Path]) -> Iterator[Problem]:
    for path in paths:
        try:
            status = path.stat(follow_symlinks=False)
        except OSError:  # gone, or reported as damage when it is read
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077 and not stat.S_ISLNK(status.st_mode):
            expected = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
            message = f"other users may use it: its mode is {mode:04o}, not {expected:04o}"
            yield Problem(kind="permissions", path=path, message=message)


def _find_foreign_files(events: Path, segments: set[Path]) -> Iterator[Problem]:
    for path in sorted(events.iterdir()) if events.is_dir() else ():
        if path not in segments and path.suffix != TORN_SUFFIX:
            message = "not a segment of this log: it is left alone"
            yield Problem(kind="foreign file", path=path, message=message)


def _check_segments(of_writer: list[tuple[SegmentFile, FirstLine]]) -> Iterator[Problem]:
    expected_seq: int | None = None  # any number, as retention removes the first segments
    for segment, first in of_writer:
        if segment.size:
            yield from _check_first_line(segment, first)
        gaps = _Gaps(segment, expected_seq)
        damage: list[Damage] = []
        for reader, block in _read(segment, damage):
            gaps.read(reader, block)
            yield from map(_damage_problem, damage)
            damage.clear()
        yield from map(_damage_problem, damage)
        yield from gaps.problems()
        expected_seq = gaps.expected_seq
        yield from _check_tail(segment)


def _check_first_line(segment: SegmentFile, first: FirstLine) -> Iterator[Problem]:
    if not first.has_header:
        message = "its first line is not a header: it is read by its name"
        yield Problem(kind="no header", path=segment.path, message=message)
    elif first.schema_version != _KNOWN_SCHEMA_VERSION:
        message = f"its schema version is {first.schema_version}, not {_KNOWN_SCHEMA_VERSION}"
        yield Problem(kind="schema version", path=segment.path, message=message)


def _read(segment: SegmentFile, damage: list[Damage]) -> Iterator[tuple[Reader, Block]]:
    lines, reader = StoredLines(segment.path), Reader(segment, damage.append)
    try:
        while (block := lines.next_block()) is not None:
            if isinstance(block, Block):
                yield reader, block
                if block.is_tail:
                    break
            else:
                damage.append(block)
    except FileNotFoundError:  # removed by retention since
        return
    except OSError as error:
        damage.append(Damage(path=segment.path, offset=lines.position, length=0, reason=str(error)))


def _damage_problem(damage: Damage) -> Problem:
    return _problem("damage", damage, f"{damage.length} bytes contain no record: {damage.reason}")


def _check_tail(segment: SegmentFile) -> Iterator[Problem]:
    tail: Damage | None = None
    with suppress(OSError):  # reported as damage already, or deleted since
        tail = torn_tail(segment)
    if tail is not None:
        yield _problem("torn tail", tail, f"its writer died in the middle of a line: {tail.length} bytes")


def _problem(kind: ProblemKind, place: Damage, message: str) -> Problem:
    return Problem(kind=kind, path=place.path, offset=place.offset, length=place.length, message=message)


class _Gaps:
    """The numbers that are missing in a segment, because of lost events or damage."""

    def __init__(self, segment: SegmentFile, expected_seq: int | None) -> None:
        self.expected_seq = expected_seq
        self._segment = segment
        self._missing = 0
        self._out_of_order = 0
        self._first: Record | None = None  # after a gap

    def read(self, reader: Reader, block: Block) -> None:
        """Read a block, as records only if a line in it is not ordinary or a number is missing."""
        before, ordinary = reader.seq, without_header(block)
        if decode_raw(ordinary):
            numbers = reader.numbers(list(split_lines(ordinary)))
            first = numbers[0] if self.expected_seq is None else self.expected_seq
            if numbers == list(range(first, first + len(numbers))):
                self.expected_seq = numbers[-1] + 1
                return
        reader.seq = before
        self._add(reader.records(block, Selection()))

    def _add(self, records: list[Record]) -> None:
        for record in records:
            if self.expected_seq is not None and record.seq != self.expected_seq:
                self._first = self._first or record
                self._missing += max(0, record.seq - self.expected_seq)
                self._out_of_order += record.seq < self.expected_seq
            self.expected_seq = record.seq + 1

    def problems(self) -> Iterator[Problem]:
        if self._first is not None:
            counts = [f"{self._missing} numbers are missing"] if self._missing else []
            counts += [f"{self._out_of_order} are out of order"] if self._out_of_order else []
            yield Problem(
                kind="gap",
                path=self._segment.path,
                offset=self._first.offset,
                length=self._first.length,
                message=f"{', '.join(counts)}, first before {self._first.seq}",
            )
