"""Remember which records of a writer were received, in a few ranges of their numbers."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

from eventbus.history.reading import Reader, Record
from eventbus.history.record_lines import record_number, without_header
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block

__all__ = ["RecordNumbers", "has_number"]

_MAX_RANGES = 10_000
_NUMBER_BYTES = 64  # more than the part of a line that says its number
_LINE_NUMBER = re.compile(rb'^\{"seq":(\d{1,18}),', re.MULTILINE)


class RecordNumbers:
    """The numbers of received records, as ranges.

    A file's name, inode and size can all change while its records stay the same, so only the numbers
    show what was received. They belong to the segments with one header, because a persister that is
    started again on the same bus may count from 1 again. Of more than 10,000 ranges the gap between the
    oldest two is closed.

    Attributes:
        may_repeat: True if several files have these records, or one was read again.
    """

    __slots__ = ("_ends", "_starts", "may_repeat")

    def __init__(self) -> None:
        self.may_repeat: bool = False
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, number: int) -> bool:
        """Return True if the record with this number was received."""
        place = bisect_right(self._starts, number)
        return place > 0 and number <= self._ends[place - 1]

    def add(self, first: int, last: int) -> None:
        """Add the numbers from `first` to `last`."""
        start = bisect_left(self._ends, first - 1)
        end = bisect_right(self._starts, last + 1)
        if start < end:  # it touches these ranges, which become one
            first, last = min(first, self._starts[start]), max(last, self._ends[end - 1])
        self._starts[start:end], self._ends[start:end] = [first], [last]
        if len(self._starts) > _MAX_RANGES:
            del self._starts[1], self._ends[0]

    def join(self, other: RecordNumbers) -> None:
        """Have all numbers in common with others, from now on."""
        for first, last in zip(self._starts, self._ends, strict=True):
            other.add(first, last)
        self._starts, self._ends = other._starts, other._ends
        self.may_repeat = other.may_repeat = True

    def read(self, reader: Reader, block: Block, selection: Selection) -> list[Record]:
        """Return the matching records of a block that were not received yet, and add their numbers.

        A record whose line has no number is returned, as nothing shows whether it was received.
        """
        new_range = self._new_range(block)
        damaged = reader.damaged
        records = reader.records(block, selection)
        is_sound = reader.damaged == damaged  # otherwise another file may have what is damaged here
        if new_range is not None and is_sound:
            self.add(*new_range)
            return records
        new = list(filter(self._take, records))
        if is_sound and not block.is_tail and not selection.matches_all:
            self._add_lines(block)  # the others, too, so that few ranges remain
        return new if self.may_repeat else records

    def _new_range(self, block: Block) -> tuple[int, int] | None:
        """Return a block's first and last number if all between are there, and none was received."""
        block = without_header(block)
        data = block.data
        if block.is_tail or not data:
            return None
        first, last = record_number(data[:_NUMBER_BYTES])[0], _last_number(data)
        if first is None or last is None or not self._is_above(first):
            return None
        return (first, last) if last - first + 1 == data.count(b"\n") else None

    def _is_above(self, number: int) -> bool:
        return not self._ends or number > self._ends[-1]

    def _take(self, record: Record) -> bool:
        """Return True for a record that was not received yet, and add its number."""
        if not has_number(record):
            return True
        if record.seq in self:
            return False
        self.add(record.seq, record.seq)
        return True

    def _add_lines(self, block: Block) -> None:
        for number in _LINE_NUMBER.findall(block.data):
            self.add(int(number), int(number))


def has_number(record: Record) -> bool:
    """Return True if the line of a record says its number."""
    return record_number(record.line)[0] is not None


def _last_number(data: bytes) -> int | None:
    start = data.rfind(b"\n", 0, len(data) - 1) + 1
    return record_number(data[start : start + _NUMBER_BYTES])[0]
