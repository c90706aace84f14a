"""Lines of CSV from raw structs: those of `csv_line` in less than half of its time.

A line that takes quotes around an ordinary cell, or a correction that only an event makes, gets its event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from eventbus.events.json_safe import json_safe_mapping
from eventbus.history.export_formats import BLANKS, CSV_COLUMNS, csv_line, is_ordinary, may_hold_formula
from eventbus.history.reading import Reader, time_of_event
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block

__all__ = ["csv_lines"]

_COMMAS = len(CSV_COLUMNS) - 1
_SUCCEEDED = ("ok", "skipped")
_EVERYTHING = Selection()


class _Shape(NamedTuple):
    """How the fields of a raw struct become a line.

    Attributes:
        line: The line up to the last comma, with places for the bus, the number and the cells.
        cells: Picks the cells, the first of which is the time, from the values of the fields.
        time: The place of the time among the values.
        rest: Picks the values without a column.
        blank: What that is if there are none.
        others: The names and places of the fields without a column.
        has_status: True if an event may correct the status or the success.
    """

    line: str
    cells: Callable[[Sequence[Any]], tuple[Any, ...]]
    time: int
    rest: Callable[[Sequence[Any]], Any]
    blank: Any
    others: tuple[tuple[str, int], ...]
    has_status: bool


def csv_lines(
    reader: Reader, block: Block, structs: list[Any], lines: list[tuple[int, bytes]]
) -> list[bytes]:
    """Return the same as `csv_line` of each record of a block that raw structs were decoded from."""
    bus_id, found = reader.segment.bus_id, list[bytes]()
    has_formula, has_escape = may_hold_formula(block.data), b"\\" in block.data
    rows = zip(reader.numbers(lines), _times(structs), structs, lines, strict=True)
    for number, time, struct, (offset, line) in rows:
        text = _csv_line(bus_id, number, time, struct, line)
        if (
            text is None
            or (has_formula and may_hold_formula(line))
            or (has_escape and b"\\" in line and not text[:-1].isprintable())
        ):
            found.append(_slowly(reader, number, offset, line))
        else:
            found.append(text.encode())
    return found


def _slowly(reader: Reader, number: int, offset: int, line: bytes) -> bytes:
    latest = reader.seq
    (record,) = reader.records(Block(offset, line + b"\n"), _EVERYTHING)
    reader.seq = latest
    return csv_line(msgspec.structs.replace(record, seq=number))


def _times(structs: list[Any]) -> list[str]:
    """Return the times as texts, in UTC if they were in UTC: in a sixth of the time of `isoformat`."""
    times = msgspec.json.encode(list(map(time_of_event, structs)))
    return times[2:-2].decode().split('","') if structs else []


def _csv_line(bus_id: str, number: int, time: str, struct: Any, line: bytes) -> str | None:
    """Return a line; None if that takes an event, or quotes around a cell."""
    shape = _shape(struct.__class__)
    values = list(astuple(struct))
    values[shape.time] = time
    text = shape.line % (
        bus_id,
        number,
        *["" if cell is None else cell if type(cell) is str else _text(cell) for cell in shape.cells(values)],
    )
    if text.count(",") != _COMMAS or '"' in text or time[-1] != "Z":
        return None
    if shape.has_status and struct.success is not (
        struct.status in _SUCCEEDED
    ):  # an event would make them agree
        return None
    if shape.rest(values) == shape.blank:
        return f"{text}\n"
    return f"{text}{_other(shape, values)}\n" if is_ordinary(line) else None


def _text(cell: Any) -> str:
    return str(cell) if type(cell) is not bool else "true" if cell else "false"


def _other(shape: _Shape, values: list[Any]) -> str:
    fields = {name: values[place] for name, place in shape.others if values[place] not in BLANKS}
    if "metadata" in fields:
        fields["metadata"] = json_safe_mapping(fields["metadata"])
    quoted = msgspec.json.encode(fields).decode().replace('"', '""')
    return f'"{quoted}"' if fields else ""


@cache
def _shape(raw: Any) -> _Shape:
    tag, fields = str(raw.__struct_config__.tag), msgspec.structs.fields(raw)
    places = {field.name: place for place, field in enumerate(fields)}
    known = [name for name in CSV_COLUMNS if name in places]
    marks = dict.fromkeys(("bus_id", "seq", *known), "%s") | {"event_type": tag}
    others = tuple((name, place) for name, place in places.items() if name not in known)
    rest = itemgetter(*(place for _, place in others))
    empty: list[Any] = [
        {} if field.name == "metadata" else () if field.default == () else None for field in fields
    ]
    return _Shape(
        line=",".join(marks.get(name, "") for name in CSV_COLUMNS),
        cells=itemgetter(*(places[name] for name in known)),
        time=places["timestamp"],
        rest=rest,
        blank=rest(empty),
        others=others,
        has_status="status" in places,
    )
