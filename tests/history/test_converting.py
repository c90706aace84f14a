"""Lines that are converted without building events are those of the records, wherever they come from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus import NodeEvent, SkillStarted, WorkflowStarted
from eventbus.events import UnknownEvent
from eventbus.history import Damage, EventLog, Record
from eventbus.history.converting import Convert, ConvertRaw, converted, stored_lines
from eventbus.history.csv_rows import csv_lines
from eventbus.history.export_formats import csv_line
from eventbus.history.selection import Selection
from eventbus.testing import quality_session, unusual_events
from tests.history.log_examples import START, Segments, append, progress, stored

NODE = b'"workflow_id":"w","node_id":"n"'
UNUSUAL = [
    b"no record\n",
    b"\n",
    b"\xff\xfe\n",
    b'{"seq":1,"event_type":"unknown_here","session_id":"s","metadata":{"a":[1]},"x":"y"}\n',
    b'{"event_type":"node_started","session_id":"s","timestamp":"2026-01-02T03:04:06Z",%b}\n' % NODE,
    b'{"seq":4,"event_type":"node_started","timestamp":"2026-01-02T05:04:06+02:00",%b}\n' % NODE,
    b'{"seq":4,"event_type":"node_started","timestamp":"2026-01-02T03:04:06.5Z","x":1,%b}\n' % NODE,
    b'{"seq":4,"event_type":"node_started",%b}\n' % NODE,
    b'{"seq":4,"event_type":"node_started","timestamp":"2026-01-02T03:04:06Z","workflow_id":7}\n',
    *(
        b'{"seq":4,"event_type":"node_completed","timestamp":"2026-01-02T03:04:06Z","status":"%b",'
        b'"success":%b,%b}\n' % (status, success, NODE)
        for status in (b"ok", b"failed", b"skipped", b"cancelled")
        for success in (b"true", b"false")
    ),
    b'{"seq":4,"event_type":"node_progress","timestamp":"2026-01-02T03:04:06Z",%b,"metadata":%b}\n'
    % (NODE, b'{"a":' * 40 + b"{}" + b"}" * 40),
    b'{"seq":4,"event_type":"node_progress","timestamp":"2026-01-02T03:04:06Z",%b,"metadata":{"n":%b}}\n'
    % (NODE, b"9" * 40),
    b'{"seq":4,"event_type":"node_progress","timestamp":"2026-01-02T03:04:06Z",%b,"message":"%b"}\n'
    % (NODE, b"\xc3\xa4" * 40_000),
]
FORMS: dict[str, tuple[Convert, ConvertRaw]] = {
    "jsonl": (lambda record: record.line + b"\n", stored_lines),
    "csv": (csv_line, csv_lines),
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[Convert, ConvertRaw]:
    """Return the two ways to convert to a format."""
    return FORMS[request.param]


def agree(directory: Path, form: tuple[Convert, ConvertRaw], **filters: Any) -> bytes:
    """Check that both ways give the same lines and the same damage; return the lines."""
    convert, convert_raw = form
    found: tuple[list[Damage], list[Damage]] = [], []
    slow, fast = (EventLog(directory, on_damage=each.append) for each in found)
    lines = b"".join(converted(fast, Selection(**filters), convert, convert_raw))
    assert lines == b"".join(map(convert, slow.records(**filters)))
    assert found[0] == found[1]
    return lines


def test_every_kind_of_event(segment: Segments, tmp_path: Path, form: tuple[Convert, ConvertRaw]) -> None:
    """Ordinary events, and those with anything in them, become the same lines."""
    events = [*quality_session(), *unusual_events()]
    for number, event in enumerate(
        events
    ):  # one at a time, too: an odd line costs its neighbours the raw way
        segment([event], bus_id=f"b{number}")
    segment(events, bus_id="all")
    assert agree(tmp_path, form)


@pytest.mark.parametrize("line", UNUSUAL)
def test_a_line_in_the_middle_that_is_not_ordinary(
    segment: Segments, tmp_path: Path, form: tuple[Convert, ConvertRaw], line: bytes
) -> None:
    """It changes neither the lines around it nor their numbers."""
    segment(stored(2) + line + stored(7) + stored(8))
    assert agree(tmp_path, form).count(b"\n") >= 3


def test_a_torn_tail(segment: Segments, tmp_path: Path, form: tuple[Convert, ConvertRaw]) -> None:
    """What a writer did not complete is no line; what lacks only its line feed is one."""
    segment(stored(1) + stored(2)[:-9])
    segment(stored(1) + stored(2)[:-1], bus_id="b1")
    assert agree(tmp_path, form).count(b"\n") == 3


def test_writers_that_overlap(segment: Segments, tmp_path: Path, form: tuple[Convert, ConvertRaw]) -> None:
    """Their lines are merged by time, also where one of them has an odd line."""
    for number in range(3):
        segment([progress(each, f"n{number}") for each in range(number, 90, number + 1)], bus_id=f"b{number}")
    append(next(iter(EventLog(tmp_path).segments())).path, b"no record\n", stored(95))
    agree(tmp_path, form)


@pytest.mark.parametrize(
    "filters",
    [
        {"since": START + timedelta(seconds=4)},
        {"until": START + timedelta(seconds=4)},
        {"session_id": "s"},
        {"session_id": "ä"},
        {"types": NodeEvent},
        {"types": NodeEvent | SkillStarted, "since": START + timedelta(seconds=3)},
        {"types": UnknownEvent},
        {"types": WorkflowStarted, "session_id": "s"},
    ],
)
def test_filters(
    segment: Segments, tmp_path: Path, form: tuple[Convert, ConvertRaw], filters: dict[str, Any]
) -> None:
    """They find the same lines, in segments with and without odd lines."""
    events = [
        each
        for number in range(3)
        for each in (
            progress(number * 3),
            SkillStarted(session_id="ä", skill_name="x", timestamp=START + timedelta(seconds=number * 3)),
            WorkflowStarted(
                session_id="s", workflow_id="w", timestamp=START + timedelta(seconds=number * 3 + 1)
            ),
        )
    ]
    segment(events)
    append(segment(events, bus_id="b1"), UNUSUAL[3])
    agree(tmp_path, form, **filters)


def test_segments_that_vanish_meanwhile(
    segment: Segments, tmp_path: Path, form: tuple[Convert, ConvertRaw]
) -> None:
    """A segment that was deleted has ended, without damage; one that was begun since is not read."""
    convert, convert_raw = form
    starts = [START + timedelta(minutes=number) for number in range(3)]
    paths = [
        segment([progress(60 * number)], start=start, first_seq=number + 1)
        for number, start in enumerate(starts)
    ]
    damage: list[Damage] = []
    expected = list(map(convert, EventLog(tmp_path).records()))
    lines = converted(EventLog(tmp_path, on_damage=damage.append), Selection(), convert, convert_raw)
    begun = next(lines)
    paths[-1].unlink()
    segment([progress(900)], bus_id="b9")
    assert begun + b"".join(lines) == b"".join(expected[:2])
    assert damage == []


def test_most_lines_build_no_event(
    segment: Segments, tmp_path: Path, form: tuple[Convert, ConvertRaw]
) -> None:
    """In an ordinary log none does."""
    segment(quality_session())
    converted_slowly: list[Record] = []

    def convert(record: Record) -> bytes:
        converted_slowly.append(record)
        return form[0](record)

    assert list(converted(EventLog(tmp_path), Selection(), convert, form[1]))
    assert converted_slowly == []
