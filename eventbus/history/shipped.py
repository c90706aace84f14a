"""How far a log has been shipped to a server: a file beside its segments, written whole.

What is shipped is for `eventbus.remote`; here it is read, so that retention spares what is not shipped yet.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from eventbus.history.reading import Reader
from eventbus.history.segment_files import segment_at
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block, Damage, StoredLines

__all__ = ["Shipped", "read_shipped", "shipped_file", "unshipped_test"]

_EVERYTHING = Selection()


class Shipped(msgspec.Struct, kw_only=True):
    """What a server has acknowledged, without a gap.

    Attributes:
        stream: The name of the stream.
        created: When the stream was made, as the server says; None before the first connection.
        last_seq: The stream's number of the message that was acknowledged last, 0 before the first.
        last_id: The id of that message.
        segments: The byte up to which each segment has been shipped, by its file's name.
        left_out: How many records behind the last one that was shipped are of types that are not, by their
            writer.
    """

    stream: str
    created: datetime | None = None
    last_seq: int = 0
    last_id: str = ""
    segments: dict[str, int] = {}
    left_out: dict[str, int] = {}


def shipped_file(directory: Path) -> Path:
    """Return the file of a log that says how far it has been shipped."""
    return directory / "shipped.json"


def read_shipped(directory: Path) -> Shipped | None:
    """Return how far a log has been shipped; None if it never was.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged.
    """
    try:
        data = shipped_file(directory).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(data, type=Shipped)


def unshipped_test(directory: Path) -> Callable[[Path], bool]:
    """Return a function that returns True for the path of a segment with records that are not shipped yet.

    In a log that is not shipped it returns False for all. A damaged file counts as one that says that
    nothing is shipped.
    """
    try:
        shipped = read_shipped(directory)
    except (OSError, ValueError):
        shipped = Shipped(stream="")
    if shipped is None:
        return lambda path: False  # noqa: ARG005
    segments = shipped.segments
    return lambda path: _has_records_behind(path, segments.get(path.name, 0))


def _has_records_behind(path: Path, end: int) -> bool:
    segment = segment_at(str(path))
    if segment is None or end >= segment.size:
        return False
    reader, lines = Reader(segment, _ignore), StoredLines(segment.path, end)
    try:
        while block := lines.next_block():
            if isinstance(block, Block):
                if reader.records(block, _EVERYTHING):
                    return True
                if block.is_tail:
                    break
    except OSError:
        return True
    return False


def _ignore(_: Damage) -> None:
    """Take damage, which nobody asked for here."""
