"""A record of a log as a message, and back: docs/remote.md, "On the wire"."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from eventbus.history.record_lines import record_number

if TYPE_CHECKING:
    from eventbus.history import Record

__all__ = ["HOST_HEADER", "ID_HEADER", "LEFT_OUT_HEADER", "RecordId", "line_of", "payload_of", "writer_name"]

ID_HEADER = "Nats-Msg-Id"
HOST_HEADER = "Eventbus-Host"
LEFT_OUT_HEADER = "Eventbus-Left-Out"
"""How many records of the same writer directly before this one are of types that are not shipped."""

_ID = re.compile(r"([0-9A-Za-z]{1,32})-(\d{1,10})-(\d{1,18})", re.ASCII)


class RecordId(msgspec.Struct, frozen=True):
    """What names a record among those of all hosts: ``<bus id>-<pid>-<seq>`` as text.

    Attributes:
        bus_id: The bus that wrote it.
        pid: The process that wrote it.
        seq: Its number, from 1; missing numbers are lost events.
    """

    bus_id: str
    pid: int
    seq: int

    def __str__(self) -> str:
        return f"{writer_name(self.bus_id, self.pid)}-{self.seq}"

    @classmethod
    def of(cls, record: Record) -> RecordId:
        """Return the id of a record."""
        return cls(record.bus_id, record.pid, record.seq)

    @classmethod
    def parsed(cls, text: str) -> RecordId:
        """Return the id that a text stands for.

        Raises:
            ValueError: It stands for none.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:100]!r} is not the id of a record")
        return cls(match[1], int(match[2]), int(match[3]))


def writer_name(bus_id: str, pid: int) -> str:
    """Return the name of a writer, which the ids of its records begin with."""
    return f"{bus_id}-{pid}"


def payload_of(line: bytes) -> bytes:
    """Return the line of a record without its number: the event's own JSON object."""
    _, end = record_number(line)
    return b"{" + line[end:].lstrip() if end else line


def line_of(payload: bytes, seq: int) -> bytes:
    """Return the line of a record, as a persister writes it."""
    return b'{"seq":%d,%b' % (seq, payload.lstrip()[1:])
