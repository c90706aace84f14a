"""Reading the log: every event, in order, by session, type and time, whatever wrote it."""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from eventbus_subscribers import JsonPersister
from hypothesis import given, settings
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
    encode,
    session_scope,
)
from eventbus.history import EventLog, Record

Segments: TypeAlias = Callable[..., Path]
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def progress(name: str = "n", number: int = 1, **fields: Any) -> NodeProgress:
    given: dict[str, Any] = {"session_id": "s", "timestamp": START + timedelta(seconds=number)} | fields
    return NodeProgress(workflow_id="w", node_id=name, attempt=number, **given)


def stored(seq: int, event: Event) -> bytes:
    return b'{"seq":%d,%b\n' % (seq, encode(event)[1:])


def names(events: list[Event]) -> list[str]:
    return [f"{event.node_id}{event.attempt}" for event in events if isinstance(event, NodeProgress)]


def test_what_a_bus_persisted_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Every event a persister was given comes back, equal, in the bus's order."""
    events = [progress("n", number, session_id=f"s{number % 7}") for number in range(3_000)]
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


def test_a_record_says_where_its_line_is(segment: Segments) -> None:
    """`path`, `offset` and `length` lead to the line as it is stored."""
    path = segment(progress("n", number) for number in range(100))
    content = path.read_bytes()
    for record in EventLog(path.parent.parent).records():
        assert record.path == path
        assert content[record.offset : record.offset + record.length] == record.line
        assert content[record.offset + record.length : record.offset + record.length + 1] == b"\n"


def test_the_directory_is_the_one_everything_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_DIR names the directory, else it is .session-buddy; one that is not there is empty."""
    monkeypatch.chdir(tmp_path)
    assert EventLog().directory == tmp_path / ".session-buddy"
    monkeypatch.setenv("EVENTBUS_DIR", "named")
    log = EventLog()
    assert log.directory == tmp_path / "named"
    assert (list(log), log.segments(), log.damage()) == ([], [], [])
    assert EventLog(tmp_path / "given").directory == tmp_path / "given"


def test_segments_are_told_in_the_order_of_their_starts(tmp_path: Path, segment: Segments) -> None:
    """What is no segment by its name, or no regular file, is none."""
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
    """Two buses that wrote at once are read as one stream, merged by timestamp."""
    segment([progress("a", number) for number in (1, 2, 5, 6, 9)], bus_id="aa")
    segment([progress("b", number) for number in (3, 4, 7, 8)], bus_id="bb", start=START + timedelta(days=9))
    assert names(list(EventLog(tmp_path))) == ["a1", "a2", "b3", "b4", "a5", "a6", "b7", "b8", "a9"]


def test_a_buses_own_order_wins_over_its_clock(tmp_path: Path, segment: Segments) -> None:
    """A bus's records come by number, though its clock was set back; others are merged in around them."""
    segment([progress("a", number) for number in (5, 1, 6)], bus_id="aa")
    segment([progress("b", number) for number in (2, 7)], bus_id="bb")
    assert names(list(EventLog(tmp_path))) == ["b2", "a5", "a1", "a6", "b7"]


def test_the_segments_of_a_bus_come_by_number(tmp_path: Path, segment: Segments) -> None:
    """After a rotation, and a clock set back between, a bus's segments are read in its order."""
    segment([progress("a", 1), progress("a", 2)], start=START + timedelta(hours=1))
    segment([progress("a", 3)], start=START, first_seq=3)
    segment([progress("a", 4)], start=START + timedelta(hours=2), first_seq=4, with_header=False)
    assert names(list(EventLog(tmp_path))) == ["a1", "a2", "a3", "a4"]
    assert [record.seq for record in EventLog(tmp_path).records()] == [1, 2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=5),
    st.sampled_from([1, 64, 1 << 18]),
)
def test_however_buses_overlap_each_keeps_its_order(
    tmp_path_factory: pytest.TempPathFactory, buses: list[list[int]], block: int
) -> None:
    """Every record once, each bus's in order; in order of time wherever the buses' clocks ran forward."""
    directory = tmp_path_factory.mktemp("log")
    (directory / "events").mkdir()
    for number, seconds in enumerate(buses):
        events = [progress(f"b{number}_", second) for second in seconds]
        name = f"{START:%Y%m%dT%H%M%S.%fZ}-1-b{number}.jsonl"
        lines = (stored(seq, event) for seq, event in enumerate(events, 1))
        (directory / "events" / name).write_bytes(b"".join(lines))
    whole = list(EventLog(directory))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventbus.history.merging.BLOCK_BYTES", block)
        patch.setattr("eventbus.history.merging._SMALLEST_BLOCK", 1)
        records = list(EventLog(directory).records())
        assert [record.event for record in records] == list(EventLog(directory).events()) == whole
    for number, seconds in enumerate(buses):
        own = [each.event for each in records if each.bus_id == f"b{number}"]
        assert own == [progress(f"b{number}_", second) for second in seconds]
    if all(seconds == sorted(seconds) for seconds in buses):
        times = [record.event.timestamp for record in records]
        assert times == sorted(times)


# Filters.


@pytest.fixture
def mixed(tmp_path: Path, segment: Segments) -> EventLog:
    """A log with events of several sessions and types."""
    events: list[Event] = [
        progress("n", 1, session_id="one"),
        SkillStarted(session_id="two", skill_name='say "one"', timestamp=START),
        WorkflowStarted(session_id="one", workflow_id="w", timestamp=START + timedelta(seconds=3)),
        PatternDetected(session_id=None, pattern="p", message="m", metadata={"session_id": "one"}),
        progress("n", 4, session_id="naïve/\u2028"),
        UnknownEvent(
            session_id="one", unknown_type="of_another_program", fields={"to": "prod"}, timestamp=START
        ),
    ]
    segment(events)
    return EventLog(tmp_path)


def test_a_filter_takes_what_matches_and_nothing_else(mixed: EventLog) -> None:
    """By session, by class with its subclasses, by union, by time: all conditions hold at once."""
    all_events = list(mixed)
    assert len(all_events) == 6

    def taken(**filters: Any) -> list[int]:
        found = list(mixed.events(**filters))
        assert [record.event for record in mixed.records(**filters)] == found
        return [all_events.index(event) for event in found]

    assert taken(session_id="one") == [0, 2, 5]
    assert taken(session_id="naïve/\u2028") == [4]
    assert taken(session_id="none") == []
    assert taken(types=NodeEvent) == [0, 4]
    assert taken(types=NodeEvent | SkillEvent) == [0, 1, 4]
    assert taken(types=UnknownEvent) == [5]
    assert taken(types=Event) == [0, 1, 2, 3, 4, 5]
    assert taken(types=NodeCompleted) == []
    assert taken(since=START + timedelta(seconds=3), until=START + timedelta(seconds=4)) == [2]
    assert taken(session_id="one", types=NodeEvent) == [0]


def test_a_naive_time_is_local(mixed: EventLog) -> None:
    """As everywhere, a time without a zone is the host's."""
    naive = (START + timedelta(seconds=3)).astimezone().replace(tzinfo=None)
    assert list(mixed.events(since=naive)) == list(mixed.events(since=START + timedelta(seconds=3)))


def test_a_filter_that_is_no_event_class_is_told_at_once(mixed: EventLog) -> None:
    """Not at the first event: when it is asked for."""
    with pytest.raises(SubscriberError, match="int"):
        mixed.events(types=int)  # type: ignore[type-var]


# What is read is what was written.


@pytest.mark.parametrize("with_unknown", [False, True])
def test_the_readers_session_and_time_do_not_get_into_what_is_read(
    tmp_path: Path, segment: Segments, with_unknown: bool
) -> None:
    """A line without a session has none; one without a time takes the one before, or the segment's start."""
    ordinary = b'"event_type":"pattern_detected","pattern":"p","message":"m"}\n'
    timed = b'"timestamp":"2026-01-03T00:00:00Z",' + ordinary
    unknown = b'{"seq":5,"event_type":"of_the_future","x":1}\n'
    segment(b'{"seq":1,' + ordinary + b'{"seq":2,' + timed + b'{"seq":3,' + ordinary + unknown * with_unknown)
    with session_scope("the reader's"):
        events = list(EventLog(tmp_path))
    assert {event.session_id for event in events} == {None}
    noted = datetime(2026, 1, 3, tzinfo=UTC)
    assert [event.timestamp for event in events] == [START, noted, noted] + [noted] * with_unknown


@pytest.mark.parametrize("missing", [b'"session_id":"s",', b'"timestamp":"2026-01-02T03:04:06Z",'])
def test_one_thing_is_missing_where_all_else_is_there(
    tmp_path: Path, segment: Segments, missing: bytes
) -> None:
    """A whole block of such lines is read as quickly, and as rightly."""
    line = stored(1, progress())
    assert missing in line
    segment(line.replace(missing, b""))
    with session_scope("the reader's"):
        (event,) = EventLog(tmp_path)
    assert event.session_id == (None if b"session" in missing else "s")
    assert event.timestamp == (START if b"timestamp" in missing else START + timedelta(seconds=1))


def test_an_event_of_the_future_keeps_its_time(tmp_path: Path, segment: Segments) -> None:
    """A clock that runs ahead is no reason to doubt what was written."""
    ahead = datetime.now(UTC) + timedelta(days=365)
    segment([progress("n", 1, timestamp=ahead)])
    assert [event.timestamp for event in EventLog(tmp_path)] == [ahead]


class _Numbered(Event):
    seq: str = "mine"


def test_an_event_may_have_a_field_of_the_records_name(tmp_path: Path, segment: Segments) -> None:
    """A record's number is the first thing in its line, by its place; an event's own `seq` is its own."""
    event = _Numbered(seq="x", timestamp=START)
    segment([event, progress()])
    first, second = EventLog(tmp_path).records()
    assert (first.seq, first.event) == (1, event)
    assert (second.seq, second.event) == (2, progress())


def test_a_forked_childs_records_are_its_own_writers(tmp_path: Path, segment: Segments) -> None:
    """Two processes may write with one bus id; neither's order is mixed up with the other's."""
    segment([progress("a", 3), progress("a", 1)], pid=1)
    segment([progress("b", 2), progress("b", 4)], pid=2)
    assert names(list(EventLog(tmp_path))) == ["b2", "a3", "a1", "b4"]


# Bounds.


def test_thousands_of_segments_do_not_mean_thousands_of_open_files(tmp_path: Path, segment: Segments) -> None:
    """With 64 descriptors allowed, 500 segments that all overlap are read, and abandoned half-way."""
    for number in range(500):
        segment([progress("a", number), progress("b", 900)], bus_id=f"b{number}")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        iterator = iter(EventLog(tmp_path))
        next(iterator)
        assert len(list(EventLog(tmp_path))) == 1_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("read", ["events", "records"])
def test_memory_does_not_grow_with_the_log(tmp_path: Path, segment: Segments, read: str) -> None:
    """12 MB in three buses that overlap are read with a few blocks in memory."""
    for bus in ("aa", "bb", "cc"):
        segment((progress(bus, number) for number in range(18_000)), bus_id=bus)
    log = EventLog(tmp_path)
    assert sum(each.size for each in log.segments()) > 11_000_000
    tracemalloc.start()
    try:
        found = log.records() if read == "records" else log.events()
        assert sum(1 for _ in found) == 54_000
        assert tracemalloc.get_traced_memory()[1] < 7_000_000
    finally:
        tracemalloc.stop()


def test_a_segment_deleted_while_it_is_read_ends_there(tmp_path: Path, segment: Segments) -> None:
    """Retention may take a file away from under a reader; the others are read on."""
    doomed = segment([progress("a", number) for number in range(5_000)], bus_id="aa")
    segment([progress("b", 9_000)], bus_id="bb")
    records = EventLog(tmp_path).records()
    first = next(records)
    doomed.unlink()
    rest = list(records)
    assert isinstance(first, Record)
    assert names([rest[-1].event]) == ["b9000"]
    assert len(rest) < 5_000
