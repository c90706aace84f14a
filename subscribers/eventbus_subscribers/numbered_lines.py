"""Number the lines of a batch: ``{"event_type":...`` becomes ``{"seq":7,"event_type":...``."""

from __future__ import annotations

from io import BytesIO
from itertools import repeat

__all__ = ["numbered"]

_PLACES = 1_000
_LAST_DIGITS = [b"%03d," % number for number in range(_PLACES)]


def numbered(lines: bytes, first_seq: int) -> bytes:
    """Return JSON lines with ``seq`` as their first field.

    Each step handles all lines: formatting line by line would cost half as much as encoding.

    Args:
        lines: JSON objects, none of them empty, each with its line feed.
        first_seq: The number of the first line.
    """
    rest = list(map(bytes.removeprefix, BytesIO(lines), repeat(b"{")))
    thousands, digits = divmod(first_seq, _PLACES)
    woven = _woven(rest[: _PLACES - digits], thousands, digits)
    for start in range(_PLACES - digits, len(rest), _PLACES):
        thousands += 1
        woven += _woven(rest[start : start + _PLACES], thousands, 0)
    return b"".join(woven)


def _woven(lines: list[bytes], thousands: int, digits: int) -> list[bytes]:
    count = len(lines)
    if not thousands:  # JSON has no leading zeros
        return [b'{"seq":%d,%b' % (digits + i, line) for i, line in enumerate(lines)]
    woven = [b'{"seq":%d' % thousands] * (3 * count)
    woven[1::3] = _LAST_DIGITS[digits : digits + count]
    woven[2::3] = lines
    return woven
