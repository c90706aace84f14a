"""The lines of other formats: what is quick says the same as what is thorough."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.events import Event, NodeCompleted, NodeProgress, SkillCompleted, WorkflowStarted, encode
from eventbus.events.codec import decode
from eventbus.ground.session_names import name_of_argument
from eventbus.history import Record
from eventbus.history.csv_rows import csv_lines
from eventbus.history.export_formats import CSV_COLUMNS, csv_line
from eventbus.history.raw_decoding import decode_raw
from eventbus.history.reading import Reader
from eventbus.history.record_lines import split_lines
from eventbus.history.segment_files import SegmentFile
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block
from tests.history.log_examples import START, progress, stored

_texts = st.sampled_from(
    ["", "a", "=1+1", "+1", "-1", "@x", "\tx", "\rx", "a,b", 'a"b', "a\nb", "ä", "\\"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_plain = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | _texts
)
_metadata = st.dictionaries(
    _texts, st.recursive(_plain, lambda inner: st.lists(inner, max_size=2)), max_size=2
)
_events = st.one_of(
    st.builds(
        NodeCompleted,
        session_id=st.none() | _texts,
        node_id=_texts,
        workflow_id=_texts,
        run_id=_texts,
        attempt=st.integers(1, 3),
        status=st.sampled_from(["ok", "failed", "skipped"]),
        duration_seconds=st.floats(0, 1e6),
        error_type=st.none() | _texts,
        metadata=_metadata,
    ),
    st.builds(
        NodeProgress,
        workflow_id=_texts,
        node_id=_texts,
        completed=st.integers(0, 1),
        total=st.none() | st.integers(0, 1),
    ),
    st.builds(
        SkillCompleted,
        skill_name=_texts,
        workflow_path=st.none() | _texts,
        completed=st.booleans(),
        follow_up_actions=st.lists(_texts, max_size=2).map(tuple),
    ),
    st.builds(WorkflowStarted, workflow_id=_texts, nodes=st.lists(_texts, max_size=3).map(tuple)),
)


class Shaped(Event, frozen=True, kw_only=True):
    """An event whose fields share the names of columns, with other types."""

    status: list[int] = msgspec.field(default_factory=list[int])
    success: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    attempt: bool | None = None
    completed: str = ""
    payload: bytes = b""


def _record(event: Event) -> Record:
    line = encode(event)
    return Record(bus_id="b", pid=1, seq=7, event=decode(line), path=Path("x"), offset=0, line=line)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@\t\r\n") else str(value)


def _expected(record: Record) -> list[str]:
    wire = msgspec.json.decode(encode(record.event))
    known = [_cell(wire.pop(name, None)) for name in CSV_COLUMNS[2:-1]]
    other = {name: value for name, value in wire.items() if value not in (None, {}, [])}
    return ["b", "7", *known, msgspec.json.encode(other).decode() if other else ""]


def _cells(record: Record) -> list[str]:
    (row,) = csv.reader(StringIO(csv_line(record).decode(), newline=""), strict=True)
    return row


@given(_events)
def test_a_cell_is_what_the_wire_says(event: Event) -> None:
    """Each cell of CSV is a field's value on the wire; what a spreadsheet would run has an apostrophe."""
    record = _record(event)
    assert _cells(record) == _expected(record)


@pytest.mark.parametrize(
    "event",
    [
        Shaped(status=[1], success={"a": 1}, attempt=True, completed="=1", payload=b"\xfb\xff"),
        NodeCompleted(
            workflow_id="w", node_id="n", status="ok", metadata={"nan": float("nan"), "x": "y" * 70_000}
        ),
        NodeProgress(workflow_id="w", node_id="n", session_id=name_of_argument("\udcff")),
    ],
    ids=["other types", "truncated", "undecodable session"],
)
def test_an_unusual_event_has_the_same_cells(event: Event) -> None:
    """Each cell of CSV is a field's value on the wire, of an unusual event, too."""
    record = _record(event)
    assert _cells(record) == _expected(record)


@given(st.lists(_events, min_size=1, max_size=5))
def test_a_block_has_the_lines_of_its_records(events: list[Event]) -> None:
    """Lines of CSV that are made of raw structs are those that are made of events."""
    data = b"".join(stored(seq, event) for seq, event in enumerate(events, 3))
    block, segment = Block(0, data), SegmentFile(path=Path("x"), bus_id="b", pid=1, start=START, size=0)
    structs = decode_raw(block)
    if structs is not None:  # else the block is read as records
        records = Reader(segment, print).records(block, Selection())
        lines = csv_lines(Reader(segment, print), block, structs, list(split_lines(block)))
        assert lines == list(map(csv_line, records))


@pytest.mark.parametrize(
    ("time", "is_raw"),
    [
        ("0002-01-01T00:00:00+01:00", True),
        ("9998-12-31T23:59:59-01:00", True),
        ("0001-01-01T00:00:00+01:00", False),
        (r"\u0030001-01-01T00:00:00+01:00", False),
        ("9999-12-31T23:59:59-01:00", False),
    ],
)
def test_a_time_that_cannot_be_converted_takes_an_event(time: str, is_raw: bool) -> None:
    """A block with a time in a year where the conversion to UTC may fail is not decoded to raw structs."""
    usual = stored(1, progress(1, run_id="r"))
    other = re.sub(rb'(?<="timestamp":")[^"]*', lambda _: time.encode(), usual)
    assert (decode_raw(Block(0, usual + other + usual)) is not None) is is_raw
