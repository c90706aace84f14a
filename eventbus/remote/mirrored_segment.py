"""The segments of a mirror: the lines that the persisters of other hosts wrote, one file for each writer."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec

from eventbus.history.record_lines import record_number
from eventbus.remote.stream_reader import Message
from eventbus.remote.wire import line_of

__all__ = ["append", "segment_name"]

_TAIL_BYTES = 128 * 1024  # an event takes at most half of this
_OPEN = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_SCHEMA_VERSION = 1
_NUMBER = re.compile(rb'^\{"seq":(\d{1,18}),', re.MULTILINE)


class _Time(msgspec.Struct):
    timestamp: datetime


_decoder = msgspec.json.Decoder(_Time)


def segment_name(first: Message) -> str:
    """Return the name of the segment whose first record is a message."""
    start = _time(first).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{start}-{first.record.pid}-{first.record.bus_id}.jsonl"


def append(path: Path, messages: Sequence[Message]) -> None:
    """Append the records of one writer that the segment does not have; make it if there is none.

    Raises:
        OSError: It cannot be written.
    """
    descriptor = os.open(path, _OPEN, 0o600)
    try:
        size, last = _mend(descriptor)
        if not _ascend([last, *(each.record.seq for each in messages)]):
            messages = _new(path, messages)
        lines = [line_of(each.payload, each.record.seq) + b"\n" for each in messages]
        if not size:
            lines.insert(0, _header(messages[0]))
        data = b"".join(lines)
        while data:
            data = data[os.write(descriptor, data) :]
        if messages:
            # The time of what happened: from it readers conclude whether a writer is gone.
            changed_at = _time(messages[-1]).timestamp()
            os.utime(descriptor, (changed_at, changed_at))
    finally:
        os.close(descriptor)


def _mend(descriptor: int) -> tuple[int, int]:
    """Cut off what a killed process left of a line; return the size and the last record's number."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    end = tail.rfind(b"\n") + 1
    if end < len(tail):
        size -= len(tail) - end
        os.ftruncate(descriptor, size)
    line = tail[tail.rfind(b"\n", 0, max(0, end - 1)) + 1 : end]
    return size, record_number(line)[0] or 0


def _ascend(numbers: Sequence[int]) -> bool:
    """Return False if some may be there: they were shipped again behind the server's duplicate window."""
    return all(one < other for one, other in pairwise(numbers))


def _new(path: Path, messages: Sequence[Message]) -> list[Message]:
    known = set(map(int, _NUMBER.findall(path.read_bytes())))
    by_number = {each.record.seq: each for each in messages}
    return [each for number, each in by_number.items() if number not in known]


def _header(first: Message) -> bytes:
    """Return the first line. It claims no lock, as the writer is elsewhere: see `history.writer_lock`."""
    header: dict[str, object] = {
        "event_type": "segment_started",
        "session_id": None,
        "timestamp": _time(first).isoformat().replace("+00:00", "Z"),
        "metadata": {},
        "schema_version": _SCHEMA_VERSION,
        "bus_id": first.record.bus_id,
        "pid": first.record.pid,
        "pid_space": "remote",
        "first_seq": first.record.seq,
        "locked": False,
        "host": first.host,
    }
    return msgspec.json.encode(header) + b"\n"


def _time(message: Message) -> datetime:
    try:
        return _decoder.decode(message.payload).timestamp.astimezone(UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return datetime.now(UTC)
