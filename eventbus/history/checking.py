"""Examine a log: whatever is not as it should be, by place."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from eventbus.history.reading import Reader, Record
from eventbus.history.repair import TORN_SUFFIX, torn_tail
from eventbus.history.segment_files import FirstLine, SegmentFile, chains, find_segments
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, StoredLines

__all__ = ["FindingKind", "Problem", "examine"]

FindingKind: TypeAlias = Literal[
    "permissions", "foreign file", "no header", "schema version", "damage", "torn tail", "gap", "index"
]
"""What is wrong: all but ``damage`` leaves every record that was written readable."""

_KNOWN_SCHEMA_VERSION = 1


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be.

    Attributes:
        kind: What is wrong, in a word.
        path: With which file or directory.
        message: What is wrong, for people.
        offset: Where in the file, in bytes; None when it is the file as a whole.
        length: How many bytes; None when it is the file as a whole.
    """

    kind: FindingKind
    path: Path
    message: str
    offset: int | None = None
    length: int | None = None


def examine(directory: Path) -> Iterator[Problem]:
    """Yield what is not as it should be, in bounded memory; everything is read.

    Raises:
        OSError: The log cannot be read at all.
    """
    segments = find_segments(directory)
    yield from _permissions([directory, directory / "events", *(each.path for each in segments)])
    yield from _foreign_files(directory / "events", {each.path for each in segments})
    for chain in chains(segments):
        yield from _segments_of_a_writer(chain)


def _permissions(paths: Iterable[Path]) -> Iterator[Problem]:
    for path in paths:
        try:
            status = path.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077 and not stat.S_ISLNK(status.st_mode):
            wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
            message = f"others may use it: its mode is {mode:04o}, not {wanted:04o}"
            yield Problem(kind="permissions", path=path, message=message)


def _foreign_files(events: Path, own: set[Path]) -> Iterator[Problem]:
    for path in sorted(events.iterdir()) if events.is_dir() else ():
        if path not in own and path.suffix != TORN_SUFFIX:
            message = "no segment of this log: it is left alone"
            yield Problem(kind="foreign file", path=path, message=message)


def _segments_of_a_writer(chain: list[tuple[SegmentFile, FirstLine]]) -> Iterator[Problem]:
    expected: int | None = None  # retention takes the first ones away
    for segment, first in chain:
        if segment.size:
            yield from _first_line(segment, first)
        gaps = _Gaps(segment, expected)
        found: list[Damage] = []
        for records in _records(segment, found):
            gaps.note(records)
            yield from map(_damage, found)
            found.clear()
        yield from map(_damage, found)
        yield from gaps.findings()
        expected = gaps.expected
        tail: Damage | None = None
        with suppress(OSError):  # told as damage already, or deleted since
            tail = torn_tail(segment)
        if tail is not None:
            yield Problem(
                kind="torn tail",
                path=tail.path,
                offset=tail.offset,
                length=tail.length,
                message=f"its writer died amid a line: {tail.length} bytes",
            )


def _first_line(segment: SegmentFile, first: FirstLine) -> Iterator[Problem]:
    if not first.has_header:
        message = "its first line says nothing of it: it is read by its name"
        yield Problem(kind="no header", path=segment.path, message=message)
    elif first.schema_version != _KNOWN_SCHEMA_VERSION:
        message = f"its schema version is {first.schema_version}, not {_KNOWN_SCHEMA_VERSION}"
        yield Problem(kind="schema version", path=segment.path, message=message)


def _records(segment: SegmentFile, damage: list[Damage]) -> Iterator[list[Record]]:
    lines, reader = StoredLines(segment.path), Reader(segment, damage.append)
    try:
        while (block := lines.next_block()) is not None:
            if isinstance(block, Block):
                yield reader.records(block, Selection())
                if block.is_tail:
                    break
            else:
                damage.append(block)
    except FileNotFoundError:  # retention took it away since
        return
    except OSError as error:
        damage.append(Damage(path=segment.path, offset=lines.position, length=0, reason=str(error)))


def _damage(damage: Damage) -> Problem:
    return Problem(
        kind="damage",
        path=damage.path,
        offset=damage.offset,
        length=damage.length,
        message=f"{damage.length} bytes hold no record: {damage.reason}",
    )


class _Gaps:
    """The numbers that are missing in a segment: events that were lost, and damage."""

    def __init__(self, segment: SegmentFile, expected: int | None) -> None:
        self.expected = expected
        self._segment = segment
        self._missing = 0
        self._backwards = 0
        self._first: Record | None = None

    def note(self, records: list[Record]) -> None:
        for record in records:
            if self.expected is not None and record.seq != self.expected:
                self._first = self._first or record
                self._missing += max(0, record.seq - self.expected)
                self._backwards += record.seq < self.expected
            self.expected = record.seq + 1

    def findings(self) -> Iterator[Problem]:
        if self._first is not None:
            told = [f"{self._missing} numbers are missing"] if self._missing else []
            told += [f"{self._backwards} are out of order"] if self._backwards else []
            yield Problem(
                kind="gap",
                path=self._segment.path,
                offset=self._first.offset,
                length=self._first.length,
                message=f"{', '.join(told)}, first before {self._first.seq}",
            )
