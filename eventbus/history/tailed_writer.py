"""Read the segments of one writer while they grow, each to its end before the next."""

from __future__ import annotations

import time
from collections.abc import Iterable

from eventbus.history.reading import Record
from eventbus.history.record_numbers import RecordNumbers
from eventbus.history.segment_files import in_order_of_numbers
from eventbus.history.tailed_segment import TailedSegment
from eventbus.history.troubles import Troubles

__all__ = ["TailedWriter"]

_GONE = FileNotFoundError, NotADirectoryError
_PATIENCE_SECONDS = 2.0
"""How long the records of later segments wait for a segment that cannot be read."""


class TailedWriter:
    """The segments of a writer that exist, in the order of their records' numbers.

    Args:
        troubles: Reports segments that cannot be read.

    Attributes:
        origins: The numbers that were received from its segments, also from files that are gone, by the
            segments' headers.
    """

    __slots__ = ("_open", "_segments", "_troubles", "origins")

    def __init__(self, troubles: Troubles) -> None:
        self.origins: dict[bytes, RecordNumbers] = {}
        self._troubles = troubles
        self._segments: list[TailedSegment] = []
        self._open: list[TailedSegment] = []  # the last one, and those that may contain more

    @property
    def rank(self) -> tuple[bool, float]:
        """How soon it is likely to write; writers of a higher rank write sooner."""
        return self._segments[-1].rank if self._segments else (False, 0.0)

    def add(self, segments: Iterable[TailedSegment]) -> None:
        """Follow more segments, which are given in the order of their names."""
        for last in self._segments[-1:]:
            last.is_at_end = False  # it may have grown before the new ones were created
        self._segments += segments
        if len(self._segments) > 1:
            for each in self._segments:
                each.find_first_seq()
            first_seqs = [each.first_seq for each in self._segments]
            self._segments = in_order_of_numbers(self._segments, first_seqs)
        self._open = self._may_contain_more(self._segments)

    def remove(self, gone: set[TailedSegment]) -> None:
        """Stop following segments that are gone."""
        self._segments = [each for each in self._segments if each not in gone]
        self._open = self._may_contain_more(self._segments)

    def poll(self, *, all_of_them: bool) -> list[Record]:
        """Return new records of one segment, at most a block of them.

        Args:
            all_of_them: True to look at the segments that were read to their end, too.
        """
        records: list[Record] = []
        looked_at = self._segments if all_of_them else self._open
        failed = False
        for segment in looked_at:
            if failed and segment.failed_at is not None and not all_of_them:
                continue  # one that fails shows enough: there may be thousands
            records = self._read(segment)
            failed = failed or segment.failed_at is not None
            if records or not (segment.is_at_end or _is_given_up(segment)):
                break
        self._open = self._may_contain_more(looked_at)
        return records

    def _may_contain_more(self, segments: list[TailedSegment]) -> list[TailedSegment]:
        last = self._segments[-1:]
        return [each for each in segments if not each.is_at_end and each not in last] + last

    def _read(self, segment: TailedSegment) -> list[Record]:
        try:
            records = segment.read()
        except OSError as error:
            segment.is_at_end = False
            segment.failed_at = segment.failed_at or time.monotonic()
            if not isinstance(error, _GONE):  # if it is gone, the next list of files shows it
                self._troubles.report(segment.path, segment.position, error)
            return []
        if segment.failed_at is not None:
            segment.failed_at = None
            self._troubles.end(segment.path)
        return records


def _is_given_up(segment: TailedSegment) -> bool:
    """Return True if later segments do not wait for this one any longer; it is still looked at."""
    return segment.failed_at is not None and time.monotonic() - segment.failed_at > _PATIENCE_SECONDS
