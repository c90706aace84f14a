"""P22: whatever a file holds, the reader never crashes, stays in bounded memory, and tells places."""

from __future__ import annotations

import logging
import os
import random
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus import Event, NodeProgress, PatternDetected, UnknownEvent, encode
from eventbus.history import Damage, EventLog

Segments: TypeAlias = Callable[..., Path]
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def progress(number: int, **fields: Any) -> NodeProgress:
    given: dict[str, Any] = {"session_id": "s", "timestamp": START + timedelta(seconds=number)} | fields
    return NodeProgress(workflow_id="w", node_id="n", attempt=number, **given)


def stored(seq: int, event: Event | None = None) -> bytes:
    return b'{"seq":%d,%b\n' % (seq, encode(event or progress(seq))[1:])


def numbers(log: EventLog) -> list[int]:
    """Return the numbers of the records, which are those of their events."""
    records = list(log.records())
    assert [record.event for record in records] == list(log.events())
    return [record.seq for record in records]


def log_of(path: Path) -> EventLog:
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
        (b'{"seq":2,"event_type":"x","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
        (b'{"seq":2,"event_type":"\\ud800","y":1}', "malformed"),
        (b"\xef\xbb\xbf" + stored(2)[:-2], "malformed"),
        (b"x" * (3 * 1024 * 1024), "more than 1,048,576 bytes"),
    ],
)
def test_a_poisoned_line_is_passed_over_and_its_place_told(
    segment: Segments, poison: bytes, reason: str
) -> None:
    """The records around it are read; path, offset and length lead to the very bytes."""
    path = segment(stored(1) + poison + b"\n" + stored(3))
    log = log_of(path)
    assert numbers(log) == [1, 3]
    (damage,) = log.damage()
    assert damage.path == path
    assert path.read_bytes()[damage.offset : damage.offset + damage.length] == poison
    assert reason in damage.reason


def test_passing_over_is_told_while_reading(segment: Segments, caplog: pytest.LogCaptureFixture) -> None:
    """By default as a warning; whoever wants to know gives a function."""
    path = segment(b"poison\n" + stored(2))
    told: list[Damage] = []
    assert len(list(EventLog(path.parent.parent, on_damage=told.append))) == 1
    assert told == EventLog(path.parent.parent).damage()
    log = EventLog(path.parent.parent)
    with caplog.at_level(logging.WARNING, "eventbus.history"):
        assert len(list(log)) == len(list(log)) == 1
    (warning,) = caplog.messages  # one for each segment in 20 seconds
    assert warning.startswith(f"the event log: skipped 6 bytes at {path}:{told[0].offset}: ")


def test_records_that_share_a_line_are_read(segment: Segments) -> None:
    """Where a line feed is broken the records on both sides are intact, and the one byte is told."""
    content = bytearray(stored(1) + stored(2) + stored(3))
    broken = content.index(b"\n", len(stored(1)))
    content[broken] ^= 1
    path = segment(bytes(content), with_header=False)
    log = log_of(path)
    assert numbers(log) == [1, 2, 3]
    assert [(each.offset, each.length) for each in log.damage()] == [(broken, 1)]
    content[broken + 5] = 0  # and the next one's number
    path.write_bytes(content)
    assert numbers(log) == [1, 2]
    assert [(each.offset, each.length) for each in log.damage()] == [(broken, len(stored(3)))]


def test_a_torn_tail_is_no_damage(segment: Segments) -> None:
    """Its writer may be about to finish it: it is set aside in silence, and read when it is whole."""
    path = segment(stored(1) + stored(2)[:-20])
    log = log_of(path)
    assert (numbers(log), log.damage()) == ([1], [])
    with path.open("ab") as file:
        file.write(stored(2)[-20:-1])
    assert (numbers(log), log.damage()) == ([1, 2], [])  # it lacks nothing but its line feed
    with path.open("ab") as file:
        file.write(b"\n" + stored(3))
    assert (numbers(log), log.damage()) == ([1, 2, 3], [])


def test_files_without_a_header_and_of_other_versions_are_read(segment: Segments) -> None:
    """A first line that is missing, damaged, empty or of another schema version costs no record."""
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
    """A line that lost its number, or never had one, is a record all the same."""
    lines = stored(7), encode(progress(8)) + b"\n", stored(9)
    log = log_of(segment(b"".join(lines)))
    assert numbers(log) == [7, 8, 9]
    assert log.damage() == []


def test_an_event_that_no_longer_fits_its_class_is_kept_whole(segment: Segments) -> None:
    """A field's type may have changed between versions; nothing that is intact is dropped."""
    line = b'{"seq":1,"event_type":"node_started","workflow_id":"w","node_id":{"name":"n"}}'
    log = log_of(segment(line + b"\n" + stored(2)))
    first, second = log
    assert isinstance(first, UnknownEvent)
    assert first.unknown_type == "node_started"
    assert first.fields == {"workflow_id": "w", "node_id": {"name": "n"}}
    assert second == progress(2)
    assert log.damage() == []


def test_a_segment_that_cannot_be_read_is_told_and_the_others_are_read(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error in one file is a place like any other."""
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


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6), st.sampled_from([97, 1 << 18]))
def test_bit_flips_cost_the_lines_they_hit_only(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, flips: int, block: int
) -> None:
    """Every record whose bytes are intact is returned; every line that is not is returned or told."""
    lines = [stored(seq) for seq in range(1, 21)]
    content = bytearray(b"".join(lines))
    hit = sorted({chance.randrange(len(content)) for _ in range(flips)})
    for place in hit:
        content[place] ^= 1 << chance.randrange(8)
    path = tmp_path_factory.mktemp("log") / "events" / f"{START:%Y%m%dT%H%M%S.%fZ}-1-b.jsonl"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventbus.history.merging.BLOCK_BYTES", block)
        patch.setattr("eventbus.history.merging._SMALLEST_BLOCK", block)
        told: list[Damage] = []
        records = list(EventLog(path.parent.parent, on_damage=told.append).records())
    returned = {record.offset for record in records}
    offset = 0
    for seq, line in enumerate(lines, 1):
        whole = range(offset, offset + len(line) - 1)
        if not any(place in whole for place in hit):
            assert offset in returned, f"record {seq} is intact: {hit=} {told=}"
            assert progress(seq) in [record.event for record in records if record.offset == offset]
        elif offset not in returned:
            is_tail = content.rfind(b"\n") < offset + len(line) - 1
            assert (
                is_tail
                or any(d.offset <= offset < d.offset + d.length for d in told)
                or any(place in whole and content[place] == 10 for place in hit)
            )
        offset += len(line)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3_000))
def test_garbage_is_never_a_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any bytes at all: what is returned and what is told lies within the file, and nothing twice."""
    path = tmp_path_factory.mktemp("log") / "events" / f"{START:%Y%m%dT%H%M%S.%fZ}-1-b.jsonl"
    path.parent.mkdir()
    path.write_bytes(stored(1) + content + b"\n" + stored(2))
    told: list[Damage] = []
    records = list(EventLog(path.parent.parent, on_damage=told.append).records())
    assert [records[0].event, records[-1].event] == [progress(1), progress(2)]
    places = sorted(
        [(each.offset, each.length) for each in records] + [(each.offset, each.length) for each in told]
    )
    end = 0
    for start, length in places:
        assert start >= end
        end = start + length
    assert end <= path.stat().st_size


@pytest.mark.parametrize("filler", [b"x", b"\0"])
def test_a_giant_line_is_read_in_bounded_memory(segment: Segments, filler: bytes) -> None:
    """A line of 64 MB, or a run of NULs, costs a few megabytes, between two records that are read."""
    path = segment(stored(1))
    with path.open("ab") as file:
        for _ in range(64):
            file.write(filler * 1_000_000)
        file.write(b"\n" + stored(2))
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
    """A sparse gigabyte of NULs between two records."""
    path = segment(stored(1))
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 1_000_000_000)
    with path.open("ab") as file:
        file.write(b"\n" + stored(2))
    log = log_of(path)
    assert numbers(log) == [1, 2]
    assert [each.length for each in log.damage()] == [1_000_000_000]


def test_a_file_of_garbage_does_not_fill_memory_with_places(segment: Segments) -> None:
    """After a thousand places of a segment it is one for each block; records between them are read."""
    path = segment(b"x\n" * 60_000 + stored(1) + b"x\n" * 60_000 + stored(2))
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


def test_an_unfinished_giant_line_is_told(segment: Segments) -> None:
    """A line that is too long to be one is damage, though nobody has ended it."""
    path = segment(stored(1) + b"\0" * 2_000_000)
    log = log_of(path)
    assert numbers(log) == [1]
    assert [each.length for each in log.damage()] == [2_000_000]


@settings(max_examples=100, deadline=None)
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
    """Separators, quotes, lone NULs, right-to-left: what was written is read, one record a line."""
    directory = tmp_path_factory.mktemp("log")
    path = directory / "events" / f"{START:%Y%m%dT%H%M%S.%fZ}-1-b.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"".join(stored(seq, event) for seq, event in enumerate(events, 1)))
    log = EventLog(directory)
    assert list(log) == events
    for session in {event.session_id for event in events} - {None}:
        assert list(log.events(session_id=session)) == [each for each in events if each.session_id == session]
