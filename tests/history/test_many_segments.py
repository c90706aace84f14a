"""A log of many small segments, as thousands of short processes leave it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stored_log import write_small_segments
from eventbus.history import EventLog
from eventbus.history.merging import WriterSegments, merge
from eventbus.history.reading import time_of_record
from eventbus.history.record_lines import canonical_numbers, record_number
from eventbus.history.segment_files import segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.session_history import SessionHistory
from tests.history.log_examples import Segments, stored

SEGMENTS = 12


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    """Return a log of 12 segments with a session of 100 events each."""
    directory = tmp_path_factory.mktemp("many")
    write_small_segments(directory, SEGMENTS)
    return EventLog(directory)


def test_a_segment_that_was_read_is_not_kept_in_memory(log: EventLog) -> None:
    """Of the segments that do not overlap in time, one at a time is in memory."""
    selection = Selection()
    writers = [
        WriterSegments(each, lambda reader, block: reader.records(block, selection), time_of_record, print)
        for each in segments_by_writer(log.segments())
    ]
    most = read = 0
    for records in merge(writers):
        read += len(records)
        most = max(most, sum(len(writer.items) for writer in writers))
    assert (read, sum(len(writer.items) for writer in writers)) == (100 * SEGMENTS, 0)
    assert most <= 200


def _listed(history: SessionHistory) -> int:
    return len(list(history.figures()))


@pytest.mark.parametrize("read", [SessionHistory.count, _listed])
def test_an_index_that_is_current_is_used_without_reading_segments(
    log: EventLog, read: Callable[[SessionHistory], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a current index, no segment is opened, and the directory is listed twice."""
    SessionHistory(log).close()
    looked_at: list[str] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def note(path: Any, *args: Any, **options: Any) -> Any:
            looked_at.append(f"{function.__name__} {str(path).endswith('.jsonl')}")
            return function(path, *args, **options)

        return note

    for name in ("open", "stat", "listdir"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    with SessionHistory(log) as history:
        assert read(history) == SEGMENTS
    assert looked_at.count("open True") == 0
    assert looked_at.count("listdir False") == 2
    assert looked_at.count("stat True") <= 3 * SEGMENTS


def test_a_session_is_read_from_its_own_segments(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """One session of many is read without a look into the segments that do not contain it."""
    with SessionHistory(log) as history:
        (name,) = history.names("", 1)
        opened: set[str] = set()
        real = os.open

        def note(path: Any, *args: Any, **options: Any) -> int:
            opened.add(os.fspath(path))
            return real(path, *args, **options)

        monkeypatch.setattr(os, "open", note)
        assert len(history.events(name)) == 100
        (path,) = (Path(each) for each in opened)
    assert next(EventLog(log.directory).events(session_id=name)).session_id == name
    assert name.encode() in path.read_bytes()


def test_filters_find_the_same_events_and_records(log: EventLog) -> None:
    """Events of a session, and their records, are the ones that a look at every event finds."""
    everything = list(log.records())
    for session_id in {record.event.session_id for record in everything}:
        wanted = [record for record in everything if record.event.session_id == session_id]
        assert list(log.records(session_id=session_id)) == wanted
        assert list(log.events(session_id=session_id)) == [record.event for record in wanted]


NUMBERS = st.sampled_from([b"0", b"7", b"12", b"9" * 18, b"9" * 19, b"-3", b"1.5", b" 4", b"4 ", b"", b"1_0"])
BEGINNINGS = st.sampled_from([b'{"seq":', b'{"seq": ', b' {"seq":', b'{"event_type":', b"", b'{"seq'])
ENDS = st.sampled_from([b",", b"}", b',"x":1}'])


def _line(beginning: bytes, number: bytes, end: bytes) -> tuple[int, bytes]:
    return 0, beginning + number + end


LINES = st.lists(st.builds(_line, BEGINNINGS, NUMBERS, ENDS))


@given(LINES)
def test_numbers_of_a_block_are_those_of_its_lines(lines: list[tuple[int, bytes]]) -> None:
    """Numbers that are read together are the ones that each line has, or none is read together."""
    together = canonical_numbers(lines)
    assert together is None or together == [record_number(line)[0] for _, line in lines]
    ordinary = [(0, b'{"seq":%d,"x":1}' % number) for number, _ in enumerate(lines)]
    assert canonical_numbers(ordinary) == (list(range(len(lines))) or None)


def test_numbers_of_another_form_are_read(tmp_path: Path, segment: Segments) -> None:
    """A record without a number has the one after the record before it; spaces in a line change nothing."""
    first, second, third = (stored(number) for number in (3, 7, 9))
    lines = [first, second.replace(b'{"seq":7,', b"{"), third.replace(b'"seq":9,', b' "seq" : 9, ')]
    segment(b"".join(lines))
    assert [record.seq for record in EventLog(tmp_path).records()] == [3, 4, 9]
