"""Remember which records of a writer were received, in a few ranges of their numbers."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

from eventbus.history.reading import Reader, Record
from eventbus.history.record_lines import record_number
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block

__all__ = ["RecordNumbers", "has_number"]

_MAX_RANGES = 10_000
_LINE_NUMBER = re.compile(rb'^\{"seq":(\d{1,18}),', re.MULTILINE)


class RecordNumbers:
    """The numbers of received records, as ranges.

    A file's name, inode and size can all change while its records stay the same, so only the numbers
    show what was received. Of more than 10,000 ranges the gap between the oldest two is closed.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
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

    def read(self, reader: Reader, block: Block, selection: Selection) -> list[Record]:
        """Return the matching records of a block that were not received yet, and add their numbers.

        A record whose line has no number is returned, as nothing shows whether it was received.
        """
        damaged = reader.damaged
        new = self._take(reader.records(block, selection))
        if not selection.matches_all and not block.is_tail and reader.damaged == damaged:
            self._add_all(list(map(int, _LINE_NUMBER.findall(block.data))))  # so that few ranges remain
        return new

    def _take(self, records: list[Record]) -> list[Record]:
        numbers = [record.seq for record in records]
        if all(map(has_number, records)) and self._are_new(numbers):
            self.add(numbers[0], numbers[-1])
            return records
        return [record for record in records if self._is_new(record)]

    def _are_new(self, numbers: list[int]) -> bool:
        """Return True for consecutive numbers above all others, as nearly all are."""
        return bool(numbers) and self._is_above(numbers[0]) and _are_consecutive(numbers)

    def _is_above(self, number: int) -> bool:
        return not self._ends or number > self._ends[-1]

    def _is_new(self, record: Record) -> bool:
        if not has_number(record):
            return True
        if record.seq in self:
            return False
        self.add(record.seq, record.seq)
        return True

    def _add_all(self, numbers: list[int]) -> None:
        if numbers and _are_consecutive(numbers):
            self.add(numbers[0], numbers[-1])
            return
        for number in numbers:
            self.add(number, number)


def has_number(record: Record) -> bool:
    """Return True if the line of a record says its number."""
    return record_number(record.line)[0] is not None


def _are_consecutive(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))
