"""Reading a log: every event, in order, filtered by session, type and time."""

from __future__ import annotations

import os
import resource
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from eventbus_subscribers import JsonPersister
from hypothesis import given
from hypothesis import strategies as st

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    PatternDetected,
    SkillEvent,
    SkillStarted,
    SubscriberError,
    UnknownEvent,
    WorkflowStarted,
    session_scope,
)
from eventbus.history import EventLog, Record
from eventbus.history.session_history import SessionHistory
from tests.history.log_examples import START, Segments, fewer_examples, progress, segment_path, stored


def names(events: list[Event]) -> list[str]:
    return [f"{event.node_id}{event.attempt}" for event in events if isinstance(event, NodeProgress)]


def test_persisted_events_are_read_back(tmp_path: Path) -> None:
    """Every event that a persister was given is read back in the bus's order, equal."""
    events = [progress(number, session_id=f"s{number % 7}") for number in range(3_000)]
    with EventBus([JsonPersister(tmp_path)]) as bus:
        for event in events:
            bus.publish(event)
    log = EventLog(tmp_path)
    assert list(log) == events
    assert list(log.events()) == events
    records = list(log.records())
    assert [(record.bus_id, record.seq, record.event) for record in records] == [
        (bus.id, seq, event) for seq, event in enumerate(events, 1)
    ]
    assert log.damage() == []


def test_a_record_has_the_place_of_its_line(segment: Segments) -> None:
    """The stored line is at `path`, `offset` and `length`."""
    path = segment(progress(number) for number in range(100))
    content = path.read_bytes()
    for record in EventLog(path.parent.parent).records():
        assert record.path == path
        assert content[record.offset : record.offset + record.length] == record.line
        assert content[record.offset + record.length : record.offset + record.length + 1] == b"\n"


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is in EVENTBUS_DIR, by default .session-buddy; without it there are no events."""
    monkeypatch.chdir(tmp_path)
    assert EventLog().directory == tmp_path / ".session-buddy"
    monkeypatch.setenv("EVENTBUS_DIR", "named")
    log = EventLog()
    assert log.directory == tmp_path / "named"
    assert (list(log), log.segments(), log.damage()) == ([], [], [])
    assert EventLog(tmp_path / "given").directory == tmp_path / "given"


def test_segments_are_returned_in_the_order_of_their_starts(tmp_path: Path, segment: Segments) -> None:
    """Files with other names, and anything but regular files, are ignored."""
    later = segment(b"", start=START + timedelta(days=1), bus_id="aa", pid=7)
    earlier = segment(b"", bus_id="zz")
    (tmp_path / "events" / "notes.jsonl").write_text("x\n")
    (tmp_path / "events" / "20260230T000000.000000Z-1-ab.jsonl").write_text("x\n")
    (tmp_path / "events" / "20260101T000000.000000Z-1-ab.jsonl").mkdir()
    os.mkfifo(tmp_path / "events" / "20260101T000000.000000Z-2-ab.jsonl")
    (tmp_path / "events" / "20260101T000000.000000Z-3-ab.jsonl").symlink_to(later)
    first, second = EventLog(tmp_path).segments()
    assert (first.path, second.path) == (earlier, later)
    assert (second.bus_id, second.pid, second.start, second.size) == (
        "aa",
        7,
        START + timedelta(days=1),
        later.stat().st_size,
    )


# Order.


def test_across_buses_records_come_in_the_order_of_time(tmp_path: Path, segment: Segments) -> None:
    """Events of two buses are read as one stream, merged by timestamp."""
    segment([progress(number, "a") for number in (1, 2, 5, 6, 9)], bus_id="aa")
    segment([progress(number, "b") for number in (3, 4, 7, 8)], bus_id="bb", start=START + timedelta(days=9))
    assert names(list(EventLog(tmp_path))) == ["a1", "a2", "b3", "b4", "a5", "a6", "b7", "b8", "a9"]


def test_a_buses_own_order_wins_over_its_clock(tmp_path: Path, segment: Segments) -> None:
    """The order of one bus is kept even if its clock went backwards; others are merged around it."""
    segment([progress(number, "a") for number in (5, 1, 6)], bus_id="aa")
    segment([progress(number, "b") for number in (2, 7)], bus_id="bb")
    assert names(list(EventLog(tmp_path))) == ["b2", "a5", "a1", "a6", "b7"]


def test_the_segments_of_a_bus_come_by_number(tmp_path: Path, segment: Segments) -> None:
    """A bus's segments are read in the order of its numbers, even if its clock was set back between them."""
    segment([progress(1, "a"), progress(2, "a")], start=START + timedelta(hours=1))
    segment([progress(3, "a")], start=START, first_seq=3)
    segment([progress(4, "a")], start=START + timedelta(hours=2), first_seq=4, with_header=False)
    assert names(list(EventLog(tmp_path))) == ["a1", "a2", "a3", "a4"]
    assert [record.seq for record in EventLog(tmp_path).records()] == [1, 2, 3, 4]


@fewer_examples
@given(
    st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=5),
    st.sampled_from([1, 64, 1 << 18]),
)
def test_each_bus_keeps_its_order_however_buses_overlap(
    tmp_path_factory: pytest.TempPathFactory, buses: list[list[int]], block: int
) -> None:
    """Each record comes once, in its bus's order, and by time if the clocks did not go backwards."""
    directory = tmp_path_factory.mktemp("log")
    for number, seconds in enumerate(buses):
        events = [progress(second, f"b{number}_") for second in seconds]
        lines = (stored(seq, event) for seq, event in enumerate(events, 1))
        segment_path(directory, f"b{number}").write_bytes(b"".join(lines))
    whole = list(EventLog(directory))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventbus.history.merging.BLOCK_BYTES", block)
        patch.setattr("eventbus.history.merging._SMALLEST_BLOCK", 1)
        records = list(EventLog(directory).records())
        assert [record.event for record in records] == list(EventLog(directory).events()) == whole
    for number, seconds in enumerate(buses):
        own = [each.event for each in records if each.bus_id == f"b{number}"]
        assert own == [progress(second, f"b{number}_") for second in seconds]
    if all(seconds == sorted(seconds) for seconds in buses):
        times = [record.event.timestamp for record in records]
        assert times == sorted(times)


# Filters.


@pytest.fixture
def mixed(tmp_path: Path, segment: Segments) -> EventLog:
    """Return a log with events of several sessions and types."""
    events: list[Event] = [
        progress(1, session_id="one"),
        SkillStarted(session_id="two", skill_name='say "one"', timestamp=START),
        WorkflowStarted(session_id="one", workflow_id="w", timestamp=START + timedelta(seconds=3)),
        PatternDetected(session_id=None, pattern="p", message="m", metadata={"session_id": "one"}),
        progress(4, session_id="naïve/\u2028"),
        UnknownEvent(
            session_id="one", unknown_type="of_another_program", fields={"to": "prod"}, timestamp=START
        ),
    ]
    segment(events)
    return EventLog(tmp_path)


def test_filters_select_the_matching_events(mixed: EventLog) -> None:
    """Filters select by session, by class with its subclasses, by union and by time; all must match."""
    all_events = list(mixed)
    assert len(all_events) == 6

    def selected(**filters: Any) -> list[int]:
        found = list(mixed.events(**filters))
        assert [record.event for record in mixed.records(**filters)] == found
        return [all_events.index(event) for event in found]

    assert selected(session_id="one") == [0, 2, 5]
    assert selected(session_id="naïve/\u2028") == [4]
    assert selected(session_id="none") == []
    assert selected(types=NodeEvent) == [0, 4]
    assert selected(types=NodeEvent | SkillEvent) == [0, 1, 4]
    assert selected(types=UnknownEvent) == [5]
    assert selected(types=Event) == [0, 1, 2, 3, 4, 5]
    assert selected(types=NodeCompleted) == []
    assert selected(since=START + timedelta(seconds=3), until=START + timedelta(seconds=4)) == [2]
    assert selected(session_id="one", types=NodeEvent) == [0]


def test_a_naive_time_is_local(mixed: EventLog) -> None:
    """A time without a zone is in the local one."""
    naive = (START + timedelta(seconds=3)).astimezone().replace(tzinfo=None)
    assert list(mixed.events(since=naive)) == list(mixed.events(since=START + timedelta(seconds=3)))


def test_an_invalid_filter_raises_at_once(mixed: EventLog) -> None:
    """A filter that is not an event class raises when events are requested, not at the first event."""
    with pytest.raises(SubscriberError, match="int"):
        mixed.events(types=int)  # type: ignore[type-var]


# Reading adds nothing.


@pytest.mark.parametrize("with_unknown", [False, True])
def test_reading_never_fills_in_the_readers_session_or_clock(
    tmp_path: Path, segment: Segments, with_unknown: bool
) -> None:
    """An event without a time gets that of its segment's start, also after an event with one."""
    ordinary = b'"event_type":"pattern_detected","pattern":"p","message":"m"}\n'
    timed = b'"timestamp":"2026-01-03T00:00:00Z",' + ordinary
    unknown = b'{"seq":5,"event_type":"of_the_future","x":1}\n'
    segment(b'{"seq":1,' + ordinary + b'{"seq":2,' + timed + b'{"seq":3,' + ordinary + unknown * with_unknown)
    with session_scope("the reader's"):
        events = list(EventLog(tmp_path))
    assert {event.session_id for event in events} == {None}
    written = datetime(2026, 1, 3, tzinfo=UTC)
    assert [event.timestamp for event in events] == [START, written, START] + [START] * with_unknown


@pytest.mark.parametrize("missing", [b'"session_id":"s",', b'"timestamp":"2026-01-02T03:04:06Z",'])
def test_a_missing_field_in_an_otherwise_ordinary_block(
    tmp_path: Path, segment: Segments, missing: bytes
) -> None:
    """A missing session or time is also noticed where a block is decoded at once."""
    line = stored(1, progress())
    assert missing in line
    segment(line.replace(missing, b""))
    with session_scope("the reader's"):
        (event,) = EventLog(tmp_path)
    assert event.session_id == (None if b"session" in missing else "s")
    assert event.timestamp == (START if b"timestamp" in missing else START + timedelta(seconds=1))


@pytest.mark.parametrize("with_unknown", [False, True])
def test_an_event_is_the_same_at_each_read(tmp_path: Path, segment: Segments, with_unknown: bool) -> None:
    """An event without a time, or a skill's without its id, does not depend on what is read with it."""
    head = b'"session_id":"%c","timestamp":"2026-01-0%cT00:00:00Z",'
    skill = head % (b"s", b"3") + b'"event_type":"skill_started","skill_name":"k"}\n'
    bare = b'"event_type":"workflow_started","session_id":"s","workflow_id":"w","run_id":"r"}\n'
    other = head % (b"t", b"4") + b'"event_type":"workflow_started","workflow_id":"w"}\n'
    unknown = b'{"seq":4,"event_type":"of_the_future","x":1}\n'
    segment(b'{"seq":1,' + skill + b'{"seq":2,' + other + b'{"seq":3,' + bare + unknown * with_unknown)
    log = EventLog(tmp_path)
    whole = [event for event in log if event.session_id == "s"]
    assert list(log.events(session_id="s")) == whole == [event for event in log if event.session_id == "s"]
    with SessionHistory(log) as history:
        assert history.events("s") == whole
        session = history.session("s")
        assert session is not None
        assert (session.skills, session.workflows) == (1, 1)


def test_an_event_in_the_future_keeps_its_time(tmp_path: Path, segment: Segments) -> None:
    """A written time is kept, even if the writer's clock ran ahead."""
    ahead = datetime.now(UTC) + timedelta(days=365)
    segment([progress(1, timestamp=ahead)])
    assert [event.timestamp for event in EventLog(tmp_path)] == [ahead]


class _Numbered(Event):
    seq: str = "mine"


def test_an_event_may_have_a_field_of_the_records_name(tmp_path: Path, segment: Segments) -> None:
    """A record's number comes first in its line; a later `seq` is a field of the event."""
    event = _Numbered(seq="x", timestamp=START)
    segment([event, progress()])
    first, second = EventLog(tmp_path).records()
    assert (first.seq, first.event) == (1, event)
    assert (second.seq, second.event) == (2, progress())


def test_a_forked_child_is_a_writer_of_its_own(tmp_path: Path, segment: Segments) -> None:
    """Records of two processes with the same bus id are ordered as those of two buses."""
    segment([progress(3, "a"), progress(1, "a")], pid=1)
    segment([progress(2, "b"), progress(4, "b")], pid=2)
    assert names(list(EventLog(tmp_path))) == ["b2", "a3", "a1", "b4"]


# Bounds.


def test_no_file_stays_open_however_many_segments_there_are(tmp_path: Path, segment: Segments) -> None:
    """500 overlapping segments are read, and reading is abandoned halfway, with 64 descriptors allowed."""
    for number in range(500):
        segment([progress(number, "a"), progress(900, "b")], bus_id=f"b{number}")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        iterator = iter(EventLog(tmp_path))
        next(iterator)
        assert len(list(EventLog(tmp_path))) == 1_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("read", ["events", "records"])
@pytest.mark.parametrize("block", [1 << 16, pytest.param(1 << 18, marks=pytest.mark.nightly)])
def test_memory_does_not_grow_with_the_log(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch, read: str, block: int
) -> None:
    """Three overlapping segments of more than 14 blocks each are read with a few blocks in memory."""
    monkeypatch.setattr("eventbus.history.merging.BLOCK_BYTES", block)
    count = 18_000 * block // (1 << 18)
    for bus in ("aa", "bb", "cc"):
        segment((progress(number, bus) for number in range(count)), bus_id=bus)
    log = EventLog(tmp_path)
    assert sum(each.size for each in log.segments()) > 3 * 14 * block
    tracemalloc.start()
    try:
        found = log.records() if read == "records" else log.events()
        assert sum(1 for _ in found) == 3 * count
        assert tracemalloc.get_traced_memory()[1] < 27 * block
    finally:
        tracemalloc.stop()


def test_a_segment_deleted_while_it_is_read_ends_there(tmp_path: Path, segment: Segments) -> None:
    """If retention removes a segment while it is read, its events end and the others are read on."""
    removed = segment([progress(number, "a") for number in range(5_000)], bus_id="aa")
    segment([progress(9_000, "b")], bus_id="bb")
    records = EventLog(tmp_path).records()
    first = next(records)
    removed.unlink()
    rest = list(records)
    assert isinstance(first, Record)
    assert names([rest[-1].event]) == ["b9000"]
    assert len(rest) < 5_000
