"""From lines to events: quickly where all is well, line by line where something is not.

Nothing of whoever reads gets into what is read: an event that was written without a session has
none, and one written without a time takes the one before it, or its segment's start.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, Union, cast

import msgspec
from msgspec.structs import force_setattr

from eventbus.errors import DecodeError
from eventbus.events import Event, UnknownEvent, decode, event_types
from eventbus.events.codec import decode_unknown, header_decoder
from eventbus.history.segment_files import SegmentFile
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage
from eventbus.session import session_scope

__all__ = ["MAX_PLACES", "OnDamage", "Reader", "Record"]

OnDamage: TypeAlias = Callable[[Damage], object]
"""Is told of what is skipped."""

_NOBODY = "\0reading"  # no session's id: it stands for none while a block is decoded
_session_of = operator.attrgetter("session_id")
_time_of: Callable[[Event], datetime] = operator.attrgetter("timestamp")
_python_decoder = json.JSONDecoder()  # unlike msgspec's it tells where a value ends
_SEQ = re.compile(rb'\s*\{\s*"seq"\s*:\s*(\d{1,18})\s*,')
MAX_PLACES = 1_000
"""So many places of a segment are told one by one, and then one of each block."""

_CANONICAL = b'{"seq":'
_MAX_DIGITS = 18
_RECORD = re.compile(rb'\{"seq":\d{1,18},"event_type":"')
_HEADER_TYPE = "segment_started"
_HEADER = b'{"event_type":"segment_started",'


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An event, and where it stands in the log; ``(bus_id, seq)`` names it.

    (A forked child that goes on with its parent's bus counts anew: there, the process, too.)

    Attributes:
        bus_id: The bus that wrote it.
        pid: The process it was written in.
        seq: Its number there, from 1; numbers that are missing are events that were lost.
        event: The event.
        path: The segment.
        offset: Where its line begins there, in bytes.
        line: The line as it is stored, without its line feed.
    """

    bus_id: str
    pid: int
    seq: int
    event: Event
    path: Path
    offset: int
    line: bytes

    @property
    def length(self) -> int:
        """The bytes of its line, without the line feed."""
        return len(self.line)


class Reader:
    """Decodes the blocks of one segment, in order.

    Args:
        segment: The segment.
        on_damage: Is told of lines that hold no record.

    Attributes:
        seq: The number of the last record that was read as one.
    """

    __slots__ = ("_latest", "_more", "_on_damage", "_segment", "_told", "seq")

    def __init__(self, segment: SegmentFile, on_damage: OnDamage) -> None:
        self._segment = segment
        self._on_damage = on_damage
        self._latest = segment.start
        self._told = 0
        self._more: Damage | None = None
        self.seq: int = 0

    def events(self, block: Block, selection: Selection) -> list[Event]:
        """Return the wanted events of a block."""
        block = _without_header(block)
        if selection.mark is None:
            events = self._all_events(block)
            if events is None:
                events = [record.event for record in self._each(block, _lines(block))]
        else:
            events = [record.event for record in self._each(block, _marked(block, selection.mark))]
        return events if selection.takes_all else list(filter(selection.takes, events))

    def records(self, block: Block, selection: Selection) -> list[Record]:
        """Return the wanted records of a block."""
        block = _without_header(block)
        if selection.mark is None:
            records = self._all_records(block)
        else:
            records = list(self._each(block, _marked(block, selection.mark)))
        return records if selection.takes_all else [each for each in records if selection.takes(each.event)]

    def _all_events(self, block: Block) -> list[Event] | None:
        """Return the events of a block in which nothing is out of the ordinary; else None."""
        decoder = _decoder_of_all()
        data = block.data
        if decoder is None or block.is_tail or not data or not _is_utf8(data):
            return None
        began = datetime.now(UTC)
        try:
            with session_scope(_NOBODY):  # a class's default, where a line says no session
                events = decoder.decode_lines(data)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            return None
        if len(events) != data.count(b"\n") or _NOBODY in map(_session_of, events):
            return None
        latest = max(map(_time_of, events))
        if latest >= began:  # a class's default, where a line says no time
            return None
        self._latest = latest
        return events

    def _all_records(self, block: Block) -> list[Record]:
        events = self._all_events(block)
        if events is None:
            return list(self._each(block, _lines(block)))
        records: list[Record] = []
        for (offset, line), event in zip(_lines(block), events, strict=True):
            records.append(self._record(_number(line)[0], event, offset, line))
        return records

    def _record(self, seq: int | None, event: Event, offset: int, line: bytes) -> Record:
        self.seq = self.seq + 1 if seq is None else seq
        segment = self._segment
        return Record(
            bus_id=segment.bus_id,
            pid=segment.pid,
            seq=self.seq,
            event=event,
            path=segment.path,
            offset=offset,
            line=line,
        )

    # Line by line.

    def _each(self, block: Block, lines: Iterator[tuple[int, bytes]]) -> Iterator[Record]:
        for offset, line in lines:
            try:
                record = self._read(offset, line)
            except DecodeError as error:
                yield from self._salvage(offset, line, None if block.is_tail else error)
            else:
                if record is not None:
                    yield record
        if self._more is not None:
            self._on_damage(self._more)
            self._more = None

    def _read(self, offset: int, line: bytes) -> Record | None:
        """Return the record of a line; None for a header, or where the line is empty.

        Raises:
            DecodeError: It holds none.
        """
        if not line:
            return None
        seq, rest = _number(line)
        # Without its number: an event of one's own may have a field of that name.
        event = self._decode(line if seq is None else b"{" + line[rest:])
        if seq is None and isinstance(event, UnknownEvent) and event.unknown_type == _HEADER_TYPE:
            return None
        return self._record(seq, event, offset, line)

    def _decode(self, line: bytes) -> Event:
        if not _is_utf8(line):  # the decoder does not look into fields it has no use for
            raise DecodeError("not UTF-8")
        began = datetime.now(UTC)
        try:
            event = decode(line)
        except DecodeError:
            # Intact, perhaps, and of a class whose fields have changed since: nothing is dropped.
            event = _as_unknown(line)
        if event.timestamp >= began and not _has_time(line):
            force_setattr(event, "timestamp", self._latest)
        self._latest = event.timestamp
        return event

    def _salvage(self, offset: int, line: bytes, error: DecodeError | None) -> Iterator[Record]:
        """Yield the records of a damaged line: where a line feed is broken, two intact ones share it."""
        told = 0
        for match in _RECORD.finditer(line):
            start, end = match.start(), _end_of_object(line, match.start())
            try:
                record = self._read(offset + start, line[start:end]) if start >= told else None
            except DecodeError:
                continue
            if record is not None:
                self._tell(offset + told, start - told, error)
                told = end
                yield record
        self._tell(offset + told, len(line) - told, error)

    def _tell(self, offset: int, length: int, error: DecodeError | None) -> None:
        if not length or error is None:  # an unfinished line is no damage: it may be finished yet
            return
        self._told += 1
        if self._told > MAX_PLACES:
            start = offset if self._more is None else self._more.offset
            reason = f"more than {MAX_PLACES:,} places here hold no record: there are some between these"
            self._more = Damage(
                path=self._segment.path, offset=start, length=offset + length - start, reason=reason
            )
        else:
            self._on_damage(Damage(path=self._segment.path, offset=offset, length=length, reason=str(error)))


def _without_header(block: Block) -> Block:
    """Spare the decoder of events the one ordinary line that is none."""
    if block.offset or not block.data.startswith(_HEADER):
        return block
    end = block.data.find(b"\n") + 1
    return Block(block.offset + end, block.data[end:], block.is_tail) if end else block


def _lines(block: Block) -> Iterator[tuple[int, bytes]]:
    """Yield each line, without its line feed, and its offset in the file."""
    offset = block.offset
    for line in block.data.removesuffix(b"\n").split(b"\n") if block.data else ():
        yield offset, line
        offset += len(line) + 1


def _marked(block: Block, mark: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines in which a mark is found."""
    data, end = block.data, 0
    while match := mark.search(data, end):
        start = data.rfind(b"\n", end, match.start()) + 1 or end
        end = data.find(b"\n", match.end())
        end = len(data) if end < 0 else end
        yield block.offset + start, data[start:end]
        end += 1


def _number(line: bytes) -> tuple[int | None, int]:
    """Return a record's number, and where what follows it begins; None and 0 if it has none."""
    if line.startswith(_CANONICAL):  # as a persister writes it: half the price of the pattern
        end = line.find(b",", len(_CANONICAL))
        digits = line[len(_CANONICAL) : end]
        if 0 < len(digits) <= _MAX_DIGITS and digits.isdigit() and end > 0:
            return int(digits), end + 1
    match = _SEQ.match(line)
    return (None, 0) if match is None else (int(match[1]), match.end())


def _end_of_object(line: bytes, start: int) -> int:
    """Return where the JSON object that begins at `start` ends; `start` if it does not."""
    try:
        # As Latin-1 each byte is a character, and what matters to JSON stays what it is.
        return _python_decoder.raw_decode(line.decode("latin-1"), start)[1]
    except (ValueError, RecursionError):
        return start


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_unknown(line: bytes) -> UnknownEvent:
    try:
        header_decoder.decode(line)
        return decode_unknown(line)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise DecodeError(f"not an event: {error}") from error


class _Time(msgspec.Struct):
    timestamp: datetime | msgspec.UnsetType = msgspec.UNSET


_time_decoder = msgspec.json.Decoder(_Time)


def _has_time(line: bytes) -> bool:
    return _time_decoder.decode(line).timestamp is not msgspec.UNSET


def _decoder_of_all() -> msgspec.json.Decoder[Any] | None:
    """Return what decodes every ordinary event class at once, twice as fast as one by one."""
    return _decoder_of(tuple(filter(_is_ordinary, event_types().values())))


@lru_cache(maxsize=1)
def _decoder_of(types: tuple[type[Event], ...]) -> msgspec.json.Decoder[Any] | None:
    try:
        return msgspec.json.Decoder(cast("Any", Union)[types])
    except TypeError:  # classes that msgspec cannot tell apart
        return None


def _is_ordinary(cls: type[Event]) -> bool:
    config = cls.__struct_config__
    return (
        cls is not UnknownEvent
        and config.tag_field == "event_type"
        and isinstance(config.tag, str)
        and "seq" not in cls.__struct_encode_fields__
    )
