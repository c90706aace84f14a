"""Decode lines to events: a block at once if all its lines are ordinary, line by line otherwise.

Reading adds nothing of the reader's: an event that was written without a session has none, one written
without a time gets that of its segment's start, and one without the id of its skill invocation an id that
its line gives it. So an event is the same however much is read before it. Rejected: the time of the
event before it, which depends on what is read.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias, Union, cast

import msgspec
from msgspec.structs import force_setattr

from eventbus.errors import DecodeError
from eventbus.events import Event, SkillEvent, UnknownEvent, decode
from eventbus.events.codec import decode_unknown, header_decoder
from eventbus.events.event import cache_until_next_class, classes_by_wire_name
from eventbus.ground.session_names import may_be_spelled
from eventbus.history.record_lines import (
    block_of,
    canonical_numbers,
    chosen_lines,
    end_of_object,
    is_utf8,
    lines_with,
    record_number,
    split_lines,
    without_header,
)
from eventbus.history.segment_files import SegmentFile
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage
from eventbus.session import session_scope

__all__ = ["OnDamage", "Reader", "Record", "time_of_event", "time_of_record"]

OnDamage: TypeAlias = Callable[[Damage], object]
"""Called with each place that is skipped."""

time_of_event: Callable[[Event], datetime] = operator.attrgetter("timestamp")
time_of_record: Callable[[Record], datetime] = operator.attrgetter("event.timestamp")

_PLACEHOLDER = "\0reading"  # the current session while a block is decoded; not the id of any session
_session_of = operator.attrgetter("session_id")
_RECORD = re.compile(rb'\{"seq":\d{1,18},"event_type":"')
_HEADER_TYPE = "segment_started"
_SKILL, _INVOCATION = b'"skill_name":', b'"invocation_id":'
_MAX_PLACES = 1_000  # of damage that are reported one by one


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An event and its place in the log; ``(bus_id, seq)`` identifies it.

    A forked child that enters its parent's bus has a bus id of its own.

    Attributes:
        bus_id: The bus that wrote it.
        pid: The process that wrote it.
        seq: Its number on that bus, from 1; missing numbers are lost events.
        event: The event.
        path: The segment.
        offset: Where its line begins in the file, in bytes.
        line: The stored line, without its line feed.
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
        """The number of bytes of its line, without the line feed."""
        return len(self.line)


class Reader:
    """Decodes the blocks of one segment, in order.

    Args:
        segment: The segment.
        on_damage: Called with each line that contains no record. From the 1,001st on, one call per
            block covers all such lines of the block.

    Attributes:
        segment: The segment.
        seq: The number of the last record.
        damaged: How many places without a record there were.
    """

    __slots__ = ("_merged_damage", "_on_damage", "damaged", "segment", "seq")

    def __init__(self, segment: SegmentFile, on_damage: OnDamage) -> None:
        self.segment: SegmentFile = segment
        self._on_damage = on_damage
        self.damaged: int = 0
        self._merged_damage: Damage | None = None
        self.seq: int = 0

    def events(self, block: Block, selection: Selection) -> list[Event]:
        """Return the matching events of a block."""
        block = without_header(block)
        lines = None if selection.pattern is None else list(lines_with(block, selection.pattern))
        events = self._decode_at_once(block if lines is None else block_of(block, lines))
        if events is None:
            unusual = split_lines(block) if lines is None else lines
            events = [record.event for record in self._line_by_line(unusual, block.is_tail)]
        return events if selection.matches_all else list(filter(selection.matches, events))

    def records(self, block: Block, selection: Selection) -> list[Record]:
        """Return the matching records of a block."""
        block, lines = chosen_lines(without_header(block), selection.pattern)
        records = self._records_at_once(block, lines)
        if records is None:
            records = list(self._line_by_line(lines, block.is_tail))
        return (
            records if selection.matches_all else [each for each in records if selection.matches(each.event)]
        )

    # A block at once.

    def _decode_at_once(self, block: Block) -> list[Event] | None:
        """Return the events of a block; None if a line in it is not an ordinary record."""
        decoder = _decoder_of_all()
        data = block.data
        if decoder is None or block.is_tail or not data or not is_utf8(data) or may_be_spelled(data):
            return None
        if data.count(_SKILL) > data.count(_INVOCATION):  # a new id is the default of an event without one
            return None
        began = datetime.now(UTC)
        try:
            with session_scope(_PLACEHOLDER):  # the default of an event whose line has no session
                events = decoder.decode_lines(data)
        except (Exception, SystemExit):  # noqa: BLE001 - of the `__post_init__` of a class defined elsewhere
            return None
        if len(events) != data.count(b"\n") or _PLACEHOLDER in map(_session_of, events):
            return None
        # The current time is the default of an event whose line has no time.
        return None if max(map(time_of_event, events)) >= began else events

    def _records_at_once(self, block: Block, lines: list[tuple[int, bytes]]) -> list[Record] | None:
        events = self._decode_at_once(block)
        if events is None:
            return None
        numbers = self.numbers(lines)
        segment = self.segment
        bus_id, pid, path = segment.bus_id, segment.pid, segment.path
        return [
            Record(bus_id=bus_id, pid=pid, seq=seq, event=event, path=path, offset=offset, line=line)
            for seq, event, (offset, line) in zip(numbers, events, lines, strict=True)
        ]

    def numbers(self, lines: list[tuple[int, bytes]]) -> list[int]:
        """Return the numbers of records, each with a line of its own, that come next in the segment."""
        numbers = canonical_numbers(lines) or self._numbers(lines)
        self.seq = numbers[-1] if numbers else self.seq
        return numbers

    def _numbers(self, lines: list[tuple[int, bytes]]) -> list[int]:
        latest, numbers = self.seq, list[int]()
        for _, line in lines:
            number, _ = record_number(line)
            latest = latest + 1 if number is None else number
            numbers.append(latest)
        return numbers

    def _record(self, seq: int | None, event: Event, offset: int, line: bytes) -> Record:
        self.seq = self.seq + 1 if seq is None else seq
        segment = self.segment
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

    def _line_by_line(self, lines: Iterable[tuple[int, bytes]], is_tail: bool) -> Iterator[Record]:
        for offset, line in lines:
            try:
                record = self._read(offset, line)
            except DecodeError as error:
                # A tail without a record is not damage: its writer may still complete it.
                yield from self._salvage(offset, line, None if is_tail else str(error))
            else:
                if record is not None:
                    yield record
        if self._merged_damage is not None:
            self._on_damage(self._merged_damage)
            self._merged_damage = None

    def _read(self, offset: int, line: bytes) -> Record | None:
        """Return the record of a line; None for a header or an empty line.

        Raises:
            DecodeError: The line is something else.
        """
        if not line:
            return None
        seq, rest = record_number(line)
        # Decoded without the number: an event may have a field of its own named `seq`.
        event = self._decode(line if seq is None else b"{" + line[rest:])
        if seq is None and isinstance(event, UnknownEvent) and event.unknown_type == _HEADER_TYPE:
            return None
        return self._record(seq, event, offset, line)

    def _decode(self, line: bytes) -> Event:
        if not is_utf8(line):  # the decoder does not check fields that it ignores
            raise DecodeError("not UTF-8")
        began = datetime.now(UTC)
        try:
            event = decode(line)
        except DecodeError:
            # The line may be intact, and its class may have other fields now: nothing is dropped.
            event = _decode_as_unknown(line)
        if event.timestamp >= began and not _has_time(line):
            force_setattr(event, "timestamp", self.segment.start)
        if isinstance(event, SkillEvent) and _INVOCATION not in line:
            force_setattr(event, "invocation_id", blake2b(line, digest_size=16).hexdigest())
        return event

    def _salvage(self, offset: int, line: bytes, reason: str | None) -> Iterator[Record]:
        """Yield the intact records in a damaged line: a broken line feed makes two records one line."""
        end = 0  # of the last record
        for match in _RECORD.finditer(line):
            start = match.start()
            if start < end:
                continue
            try:
                record_end = end_of_object(line, start)
                record = self._read(offset + start, line[start:record_end])
            except DecodeError:
                continue
            if record is not None:
                self._report(offset + end, start - end, reason)
                end = record_end
                yield record
        self._report(offset + end, len(line) - end, reason)

    def _report(self, offset: int, length: int, reason: str | None) -> None:
        if not length or reason is None:
            return
        self.damaged += 1
        if self.damaged <= _MAX_PLACES:
            self._on_damage(Damage(path=self.segment.path, offset=offset, length=length, reason=reason))
            return
        start = offset if self._merged_damage is None else self._merged_damage.offset
        self._merged_damage = Damage(
            path=self.segment.path,
            offset=start,
            length=offset + length - start,
            reason=f"more than {_MAX_PLACES:,} places of this file contain no record: several are in here",
        )


def _decode_as_unknown(line: bytes) -> UnknownEvent:
    try:
        header_decoder.decode(line)
        return decode_unknown(line)
    except RecursionError as error:  # whose text differs from read to read
        raise DecodeError("not an event: it is nested too deeply") from error
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise DecodeError(f"not an event: {error}") from error


class _Time(msgspec.Struct):
    timestamp: datetime | msgspec.UnsetType = msgspec.UNSET


_time_decoder = msgspec.json.Decoder(_Time)


def _has_time(line: bytes) -> bool:
    return _time_decoder.decode(line).timestamp is not msgspec.UNSET


@cache_until_next_class
def _decoder_of_all() -> msgspec.json.Decoder[Any] | None:
    """Return a decoder for all ordinary event classes, which takes half the time of `decode`."""
    # Two classes of one wire name are distinguished line by line.
    unique = (classes[0] for classes in classes_by_wire_name().values() if len(classes) == 1)
    return _decoder_of(tuple(filter(_is_ordinary, unique)))


@lru_cache(maxsize=1)
def _decoder_of(types: tuple[type[Event], ...]) -> msgspec.json.Decoder[Any] | None:
    try:
        return msgspec.json.Decoder(cast("Any", Union)[types])
    except Exception:  # noqa: BLE001 - msgspec cannot distinguish the classes, or read an annotation
        return None


def _is_ordinary(cls: type[Event]) -> bool:
    config = cls.__struct_config__
    return (
        cls is not UnknownEvent
        and config.tag_field == "event_type"
        and isinstance(config.tag, str)
        and "seq" not in cls.__struct_encode_fields__
    )
