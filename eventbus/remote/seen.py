"""Seen: which records a reader of the stream has received, by writer.

The server recognises a record that it has for two minutes only. Behind that window its number decides: the
numbers of one writer are never used again.
"""

from __future__ import annotations

from eventbus.history.record_numbers import RecordNumbers
from eventbus.remote.wire import RecordId

__all__ = ["Seen"]

_MAX_WRITERS = 100_000


class Seen:
    """The records received so far, in bounded memory.

    Of each writer the numbers are kept as at most 10,000 ranges. Of more than 100,000 writers the one that
    was silent for the longest is forgotten. Rejected: telling a gap as an event, which cannot be taken
    back when the record comes late; the log's own `EventsLost` are shipped anyway.

    Attributes:
        missing: How many numbers are missing between received ones. Those before a writer's first received
            number do not count: the stream may have removed them, or reading began behind them.
    """

    def __init__(self, max_writers: int = _MAX_WRITERS) -> None:
        self.missing: int = 0
        self._max_writers = max_writers
        self._numbers: dict[tuple[str, int], RecordNumbers] = {}  # the latest to write comes last
        self._spans: dict[tuple[str, int], tuple[int, int]] = {}

    def add(self, record: RecordId, left_out: int = 0) -> bool:
        """Note a record; return False if it was received before.

        Args:
            record: Its id.
            left_out: How many records of its writer directly before it are not in the stream.
        """
        writer = record.bus_id, record.pid
        numbers = self._numbers.pop(writer, None) or self._of_new_writer()
        self._numbers[writer] = numbers  # now the last
        if record.seq in numbers:
            return False
        first, last = max(1, record.seq - left_out), record.seq
        low, high = self._spans.get(writer, (first, first - 1))
        if last > high:
            self.missing += max(0, first - high - 1)
        elif first < low:
            self.missing += max(0, low - last - 1)
        else:  # it was missing, and comes late
            self.missing = max(0, self.missing - (last - first + 1))
        self._spans[writer] = min(first, low), max(last, high)
        numbers.add(first, last)
        return True

    def _of_new_writer(self) -> RecordNumbers:
        if len(self._numbers) >= self._max_writers:
            oldest = next(iter(self._numbers))
            del self._numbers[oldest], self._spans[oldest]
        return RecordNumbers()
