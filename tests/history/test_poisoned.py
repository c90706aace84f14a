"""P22: whatever a file contains, reading never crashes, and reports damage in bounded memory."""

from __future__ import annotations

import logging
import os
import random
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Event, NodeProgress, PatternDetected, UnknownEvent, encode
from eventbus.history import Damage, EventLog
from tests.history.log_examples import Segments, append, fewer_examples, progress, segment_path, stored


def numbers(log: EventLog) -> list[int]:
    """Return the numbers of the records, after checking that `events` yields the same events."""
    records = list(log.records())
    assert [record.event for record in records] == list(log.events())
    return [record.seq for record in records]


def log_of(path: Path) -> EventLog:
    """Return the log of a segment; damage is not logged."""
    return EventLog(path.parent.parent, on_damage=lambda _: None)


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (b"not json", "malformed"),
        (b"\0" * 5_000, "malformed"),
        (b'{"seq":2,"event_type":"node_progress","sess', "truncated"),
        (b'{"seq":2}', "event_type"),
        (b'{"seq":2,"event_type":5}', "event_type"),
        (b"[]", "object"),
        (b'{"seq":2,"event_type":"x","timestamp":"yesterday"}', "timestamp"),
        (b'{"seq":2,"event_type":"x","session_id":7}', "session_id"),
        (b'{"seq":2,"event_type":"x","y":"\xff"}', "UTF-8"),
        (b'{"seq":2,"event_type":"pattern_detected","pattern":"","message":"","y":"\xff"}', "UTF-8"),
        (b'{"seq":2,"event_type":"x","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"seq":2,"event_type":"\\ud800","y":1}', "malformed"),
        (b"\xef\xbb\xbf" + stored(2)[:-2], "malformed"),
        (b"x" * (3 * 1024 * 1024), "more than 1,048,576 bytes"),
    ],
)
def test_a_line_without_a_record_is_skipped_and_reported(
    segment: Segments, poison: bytes, reason: str
) -> None:
    """The records around it are read; the bytes are at the reported path, offset and length."""
    path = segment(stored(1) + poison + b"\n" + stored(3))
    log = log_of(path)
    assert numbers(log) == [1, 3]
    (damage,) = log.damage()
    assert damage.path == path
    assert path.read_bytes()[damage.offset : damage.offset + damage.length] == poison
    assert reason in damage.reason


def test_damage_is_reported_while_reading(segment: Segments, caplog: pytest.LogCaptureFixture) -> None:
    """Damage is logged as a warning by default, or given to a function."""
    path = segment(b"poison\n" + stored(2))
    reported: list[Damage] = []
    assert len(list(EventLog(path.parent.parent, on_damage=reported.append))) == 1
    assert reported == EventLog(path.parent.parent).damage()
    log = EventLog(path.parent.parent)
    with caplog.at_level(logging.WARNING, "eventbus.history"):
        assert len(list(log)) == len(list(log)) == 1
    (warning,) = caplog.messages  # at most one for each segment in 20 seconds
    assert warning.startswith(f"the event log: skipped 6 bytes at {path}:{reported[0].offset}: ")


def test_records_that_share_a_line_are_read(segment: Segments) -> None:
    """If a line feed is broken, the records on both sides are read, and the one byte is reported."""
    content = bytearray(stored(1) + stored(2) + stored(3))
    broken = content.index(b"\n", len(stored(1)))
    content[broken] ^= 1
    path = segment(bytes(content), with_header=False)
    log = log_of(path)
    assert numbers(log) == [1, 2, 3]
    assert [(each.offset, each.length) for each in log.damage()] == [(broken, 1)]
    content[broken + 5] = 0  # in the number of the next record
    path.write_bytes(content)
    assert numbers(log) == [1, 2]
    assert [(each.offset, each.length) for each in log.damage()] == [(broken, len(stored(3)))]


def test_a_torn_tail_is_not_damage(segment: Segments) -> None:
    """A torn tail is not reported, because its writer may still complete it; then it is read."""
    path = segment(stored(1) + stored(2)[:-20])
    log = log_of(path)
    assert (numbers(log), log.damage()) == ([1], [])
    append(path, stored(2)[-20:-1])
    assert (numbers(log), log.damage()) == ([1, 2], [])  # a complete record without a line feed
    append(path, b"\n" + stored(3))
    assert (numbers(log), log.damage()) == ([1, 2, 3], [])


def test_files_without_a_header_and_of_other_versions_are_read(segment: Segments) -> None:
    """A missing, damaged or empty header, or one of another schema version, costs no record."""
    segment(stored(1), bus_id="a", with_header=False)
    segment(b'{"event_type":"segment_sta\n' + stored(1), bus_id="b", with_header=False)
    segment(b"\n\n" + stored(1), bus_id="c", with_header=False)
    other = b'{"schema_version":99,"event_type":"segment_started","bus_id":"d","pid":7,"new":[1]}\n'
    segment(
        other + stored(1).replace(b'"attempt":', b'"new":{"x":[]},"attempt":'), bus_id="d", with_header=False
    )
    path = segment(b"", bus_id="e", with_header=False)
    log = log_of(path)
    assert [(record.bus_id, record.seq) for record in log.records()] == [(bus, 1) for bus in "abcd"]
    assert len(log.damage()) == 1


def test_a_record_without_a_number_takes_the_next_one(segment: Segments) -> None:
    """A line without a number is a record, too."""
    lines = stored(7), encode(progress(8)) + b"\n", stored(9)
    log = log_of(segment(b"".join(lines)))
    assert numbers(log) == [7, 8, 9]
    assert log.damage() == []


def test_an_event_that_no_longer_fits_its_class_is_kept_whole(segment: Segments) -> None:
    """If the type of a field has changed between versions, the event is read as an UnknownEvent."""
    line = b'{"seq":1,"event_type":"node_started","workflow_id":"w","node_id":{"name":"n"}}'
    log = log_of(segment(line + b"\n" + stored(2)))
    first, second = log
    assert isinstance(first, UnknownEvent)
    assert first.unknown_type == "node_started"
    assert first.fields == {"workflow_id": "w", "node_id": {"name": "n"}}
    assert second == progress(2)
    assert log.damage() == []


def test_an_unreadable_segment_is_reported_and_the_others_are_read(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error in one file is reported like other damage."""
    bad, good = segment(stored(1), bus_id="bad"), segment(stored(1), bus_id="good")
    real = os.open

    def fail(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path) == str(bad):
            raise OSError(5, "Input/output error")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)
    log = EventLog(tmp_path, on_damage=lambda _: None)
    assert [record.path for record in log.records()] == [good]
    assert [(each.path, each.reason) for each in log.damage()] == [(bad, "[Errno 5] Input/output error")]


@fewer_examples
@given(st.randoms(use_true_random=False), st.integers(1, 6), st.sampled_from([97, 1 << 18]))
def test_bit_flips_cost_only_the_lines_that_they_hit(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, flips: int, block: int
) -> None:
    """Every record whose bytes are intact is returned; every other line is returned or reported."""
    lines = [stored(seq) for seq in range(1, 21)]
    content = bytearray(b"".join(lines))
    hit = sorted({chance.randrange(len(content)) for _ in range(flips)})
    for place in hit:
        content[place] ^= 1 << chance.randrange(8)
    path = segment_path(tmp_path_factory.mktemp("log"))
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventbus.history.merging.BLOCK_BYTES", block)
        patch.setattr("eventbus.history.merging._SMALLEST_BLOCK", block)
        reported: list[Damage] = []
        records = list(EventLog(path.parent.parent, on_damage=reported.append).records())
    returned = {record.offset for record in records}
    offset = 0
    for seq, line in enumerate(lines, 1):
        whole = range(offset, offset + len(line) - 1)
        if not any(place in whole for place in hit):
            assert offset in returned, f"record {seq} is intact: {hit=} {reported=}"
            assert progress(seq) in [record.event for record in records if record.offset == offset]
        elif offset not in returned:
            is_tail = content.rfind(b"\n") < offset + len(line) - 1
            assert (
                is_tail
                or any(d.offset <= offset < d.offset + d.length for d in reported)
                or any(place in whole and content[place] == 10 for place in hit)
            )
        offset += len(line)


@fewer_examples
@given(st.binary(max_size=3_000))
def test_reading_garbage_never_crashes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Returned records and reported damage are inside the file and do not overlap, for any bytes."""
    path = segment_path(tmp_path_factory.mktemp("log"))
    path.write_bytes(stored(1) + content + b"\n" + stored(2))
    reported: list[Damage] = []
    records = list(EventLog(path.parent.parent, on_damage=reported.append).records())
    assert [records[0].event, records[-1].event] == [progress(1), progress(2)]
    places = sorted(
        [(each.offset, each.length) for each in records] + [(each.offset, each.length) for each in reported]
    )
    end = 0
    for start, length in places:
        assert start >= end
        end = start + length
    assert end <= path.stat().st_size


@pytest.mark.parametrize("filler", [b"x", b"\0"])
def test_a_giant_line_is_read_in_bounded_memory(segment: Segments, filler: bytes) -> None:
    """A line of 64 MB between two records takes a few megabytes of memory."""
    path = segment(stored(1))
    append(path, *[filler * 1_000_000] * 64, b"\n", stored(2))
    log = log_of(path)
    tracemalloc.start()
    try:
        assert [event.attempt for event in log if isinstance(event, NodeProgress)] == [1, 2]
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert [each.length for each in log.damage()] == [64_000_000]


@pytest.mark.nightly
def test_a_line_of_a_gigabyte(segment: Segments) -> None:
    """A sparse gigabyte of NULs between two records is skipped as one line."""
    path = segment(stored(1))
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 1_000_000_000)
    append(path, b"\n", stored(2))
    log = log_of(path)
    assert numbers(log) == [1, 2]
    assert [each.length for each in log.damage()] == [1_000_000_000]


def test_damage_beyond_a_thousand_places_is_reported_once_a_block(segment: Segments) -> None:
    """After a thousand places of a segment, one is reported for each block; records there are read."""
    path = segment(b"x\n" * 3_000 + stored(1) + b"x\n" * 3_000 + stored(2))
    log = log_of(path)
    damage = log.damage()
    assert len(damage) == 1_001
    assert [each.length for each in damage[:1_000]] == [1] * 1_000
    end = damage[0].offset
    for each in damage:
        assert each.offset >= end
        end = each.offset + each.length
    assert end == path.stat().st_size - len(stored(2)) - 1
    assert numbers(log) == [1, 2]


def test_an_unfinished_giant_line_is_damage(segment: Segments) -> None:
    """A line that is too long is damage, even if it has no end yet."""
    path = segment(stored(1) + b"\0" * 2_000_000)
    log = log_of(path)
    assert numbers(log) == [1]
    assert [each.length for each in log.damage()] == [2_000_000]


@fewer_examples
@given(
    st.lists(
        st.builds(
            PatternDetected,
            session_id=st.none() | st.text(max_size=8),
            timestamp=st.datetimes(datetime(1990, 1, 1), datetime(2020, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
            metadata=st.dictionaries(
                st.text(max_size=5), st.none() | st.integers(-5, 5) | st.text(max_size=5)
            ),
            pattern=st.text(max_size=8),
            message=st.text(max_size=8),
        ),
        max_size=20,
    )
)
def test_any_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    """Separators, quotes, NULs and right-to-left texts are read back as they were written."""
    directory = tmp_path_factory.mktemp("log")
    segment_path(directory).write_bytes(b"".join(stored(seq, event) for seq, event in enumerate(events, 1)))
    log = EventLog(directory)
    assert list(log) == events
    for session in {event.session_id for event in events} - {None}:
        assert list(log.events(session_id=session)) == [each for each in events if each.session_id == session]
