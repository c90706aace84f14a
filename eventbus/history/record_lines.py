"""Find lines, numbers and objects in the bytes of a segment, without decoding events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from eventbus.history.stored_lines import Block

__all__ = [
    "block_of",
    "canonical_numbers",
    "chosen_lines",
    "end_of_object",
    "is_utf8",
    "lines_with",
    "record_number",
    "split_lines",
    "without_header",
]

_HEADER = b'{"event_type":"segment_started",'
_CANONICAL_NUMBER = b'{"seq":'
_MAX_DIGITS = 18
_NUMBER = re.compile(rb'\s*\{\s*"seq"\s*:\s*(\d{1,18})\s*,')
_python_decoder = json.JSONDecoder()  # unlike msgspec's it returns where a value ends


def without_header(block: Block) -> Block:
    """Return a block without the segment's header, which is the only ordinary line that is not a record."""
    if block.offset or not block.data.startswith(_HEADER):
        return block
    end = block.data.find(b"\n") + 1
    return Block(block.offset + end, block.data[end:], block.is_tail) if end else block


def split_lines(block: Block) -> Iterator[tuple[int, bytes]]:
    """Yield the offset in the file and the bytes of each line, without its line feed."""
    offset = block.offset
    for line in block.data.removesuffix(b"\n").split(b"\n") if block.data else ():
        yield offset, line
        offset += len(line) + 1


def lines_with(block: Block, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the same as `split_lines` for the lines in which the pattern is found."""
    data, end = block.data, 0
    while match := pattern.search(data, end):
        start = data.rfind(b"\n", end, match.start()) + 1 or end
        end = data.find(b"\n", match.end())
        end = len(data) if end < 0 else end
        yield block.offset + start, data[start:end]
        end += 1


def chosen_lines(block: Block, pattern: re.Pattern[bytes] | None) -> tuple[Block, list[tuple[int, bytes]]]:
    """Return the lines of a block with a pattern, or all of them for None, and the block that they form."""
    if pattern is None:
        return block, list(split_lines(block))
    lines = list(lines_with(block, pattern))
    return block_of(block, lines), lines


def block_of(block: Block, lines: list[tuple[int, bytes]]) -> Block:
    """Return a block of some of a block's lines, to decode them at once."""
    return Block(block.offset, b"".join([line + b"\n" for _, line in lines]), block.is_tail)


def record_number(line: bytes) -> tuple[int | None, int]:
    """Return a record's number and where the bytes after it begin; None and 0 without a number."""
    if line.startswith(_CANONICAL_NUMBER):  # as a persister writes it: half the time of the pattern
        end = line.find(b",", len(_CANONICAL_NUMBER))
        digits = line[len(_CANONICAL_NUMBER) : end]
        if 0 < len(digits) <= _MAX_DIGITS and digits.isdigit() and end > 0:
            return int(digits), end + 1
    match = _NUMBER.match(line)
    return (None, 0) if match is None else (int(match[1]), match.end())


def canonical_numbers(lines: list[tuple[int, bytes]]) -> list[int] | None:
    """Return the records' numbers as `record_number` does, if each line begins as a persister writes it.

    It takes a third of the time for a block. The result is None if a line begins otherwise, or without lines.
    """
    start = len(_CANONICAL_NUMBER)
    try:
        digits = [line[start : line.index(b",", start)] for _, line in lines]
    except ValueError:
        return None
    if {line[:start] for _, line in lines} != {_CANONICAL_NUMBER} or not all(map(bytes.isdigit, digits)):
        return None
    return list(map(int, digits)) if max(map(len, digits)) <= _MAX_DIGITS else None


def end_of_object(line: bytes, start: int) -> int:
    """Return where the JSON object that begins at `start` ends; `start` if it does not end."""
    try:
        # In Latin-1 each byte is one character, and the bytes of JSON's syntax stay what they are.
        return _python_decoder.raw_decode(line.decode("latin-1"), start)[1]
    except (ValueError, RecursionError):
        return start


def is_utf8(data: bytes) -> bool:
    """Return True if bytes are valid UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
