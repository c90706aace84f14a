"""Convert the records of a log to other lines, without building an event for each.

Most lines are converted from what their order needs: raw structs, which have the events' fields but take
half the time of events (see `raw_decoding`). A block of other lines is read as records. So a line is the
same either way, which the tests compare.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import compress
from typing import Any, TypeAlias

from eventbus.history.log import EventLog
from eventbus.history.merging import WriterSegments, merge
from eventbus.history.raw_decoding import decode_raw, raw_types
from eventbus.history.reading import Reader, Record, time_of_event
from eventbus.history.record_lines import chosen_lines, without_header
from eventbus.history.segment_files import segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block

__all__ = ["Convert", "ConvertRaw", "converted", "stored_lines"]

Convert: TypeAlias = Callable[[Record], bytes]
"""Returns the line of a record, with its line feed."""
ConvertRaw: TypeAlias = "Callable[[Reader, Block, list[Any], list[tuple[int, bytes]]], list[bytes]]"
"""Returns the lines of a block for its raw structs, and its stored lines with their offsets."""

_Item: TypeAlias = tuple[datetime, bytes]
_time: Callable[[_Item], datetime] = operator.itemgetter(0)
_line: Callable[[_Item], bytes] = operator.itemgetter(1)


def converted(
    log: EventLog, selection: Selection, convert: Convert, convert_raw: ConvertRaw
) -> Iterator[bytes]:
    """Iterate over the lines of the matching records in the order of the log, many at a time.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """
    selection.read_as(raw_types())

    def decode(reader: Reader, whole: Block) -> list[_Item]:
        block, lines = chosen_lines(without_header(whole), selection.pattern)
        structs = decode_raw(block)
        if structs is None:
            return [(each.event.timestamp, convert(each)) for each in reader.records(whole, selection)]
        items = list(
            zip(map(time_of_event, structs), convert_raw(reader, block, structs, lines), strict=True)
        )
        if selection.matches_all:
            return items
        return list(compress(items, map(selection.matches, structs)))

    writers = segments_by_writer(log.segments())
    for items in merge(WriterSegments(each, decode, _time, log.on_damage) for each in writers):
        yield b"".join(map(_line, items))


def stored_lines(
    _reader: Reader, _block: Block, _structs: list[Any], lines: list[tuple[int, bytes]]
) -> list[bytes]:
    """Return the lines as they are stored: the `ConvertRaw` of ``record.line``."""
    return [line + b"\n" for _, line in lines]
