"""Convert records to lines of other formats: CSV, and CloudEvents 1.0 in JSON.

The columns and attributes are the same for every log, so that files of several logs fit together.
"""

from __future__ import annotations

import csv
import re
from itertools import repeat
from typing import Any

import msgspec

from eventbus.events import UnknownEvent, encode
from eventbus.events.printable import printable
from eventbus.ground.session_names import may_be_spelled
from eventbus.history.reading import Record

__all__ = ["CSV_COLUMNS", "cloud_event", "csv_header", "csv_line"]

_PLACE = ("bus_id", "seq")
_BASE = ("timestamp", "event_type", "session_id")
_FIELDS = (
    "skill_name",
    "invocation_id",
    "workflow_path",
    "workflow_id",
    "run_id",
    "node_id",
    "attempt",
    "status",
    "success",
    "completed",
    "duration_seconds",
    "error_type",
)
_KNOWN = (*_BASE, *_FIELDS)
_FLAGS = (_KNOWN.index("success"), _KNOWN.index("completed"))
CSV_COLUMNS = (*_PLACE, *_KNOWN, "other")
"""The columns for every log; ``other`` contains the remaining fields as a JSON object."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
may_hold_formula = re.compile(rb'"[=+\-@\\]').search  # in a line; an escape may stand for any character
BLANKS: tuple[Any, ...] = (None, {}, [], ())
_AS_THEY_ARE = {type(None), int, float}
_SIMPLE = _AS_THEY_ARE | {str}
_MAX_ATTRIBUTE = 4_096
_SMALL, _SHALLOW = 32_768, 16  # bytes and brackets of a line that is certainly not truncated


def csv_header() -> bytes:
    """Return the line with the names of the columns, with its line feed."""
    return _csv(CSV_COLUMNS)


def csv_line(record: Record) -> bytes:
    """Return a record as a line of CSV, with its line feed.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    fields = _fields(record)
    known: list[Any] = list(map(fields.pop, _KNOWN, repeat(None)))
    for flag in _FLAGS:
        known[flag] = _cell(known[flag])
    # Most lines need no look at each of the other cells, which would take half of the time.
    if may_hold_formula(record.line) or not _SIMPLE.issuperset(map(type, known)):
        known = list(map(_cell, known))
    other = {name: value for name, value in fields.items() if value not in BLANKS}
    return _csv([record.bus_id, record.seq, *known, msgspec.json.encode(other).decode() if other else ""])


def cloud_event(record: Record) -> bytes:
    """Return a record as a CloudEvent in JSON, without a line feed.

    ``source`` identifies the bus and its process, ``id`` the record of that bus. The session is the
    extension attribute ``sessionid``; ``sequence`` is the number as a text that sorts like numbers.

    See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md.
    """
    fields = _fields(record)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(record.seq),
        "source": f"/eventbus/{record.bus_id}/{record.pid}",
        "type": f"eventbus.{printable(fields.pop('event_type'), _MAX_ATTRIBUTE)}",
        "time": fields.pop("timestamp"),
        "datacontenttype": "application/json",
        "sequence": f"{record.seq:020d}",
    }
    session_id = fields.pop("session_id", None)
    if session_id:  # attributes must not be null or contain control characters
        event["sessionid"] = printable(session_id, _MAX_ATTRIBUTE)
    return msgspec.json.encode(event | {"data": fields})


def _fields(record: Record) -> dict[str, Any]:
    """Return an event's fields on the wire, without the record's number."""
    event, line = record.event, record.line
    if type(event) is UnknownEvent or not is_ordinary(line):
        return msgspec.json.decode(encode(event))  # type: ignore[no-any-return]
    return msgspec.to_builtins(event, str_keys=True)  # type: ignore[no-any-return]


def is_ordinary(line: bytes) -> bool:
    """Return True if an event of this line is encoded without truncation, and its session as it is."""
    brackets = line.count(b"{") + line.count(b"[")
    return len(line) < _SMALL and brackets < _SHALLOW and not may_be_spelled(line)


def _cell(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        value = msgspec.json.encode(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


class _Returned:
    """A file that returns what is written to it, which `writerow` returns in turn."""

    def write(self, text: str) -> str:
        return text


# Before Python 3.13, only the characters of the line's end are quoted: a carriage return must be, too.
_writer = csv.writer(_Returned(), lineterminator="\r\n")


def _csv(cells: Any) -> bytes:
    line: Any = _writer.writerow(cells)
    return line[:-2].encode() + b"\n"  # type: ignore[no-any-return]
