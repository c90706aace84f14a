"""Find the events of one skill invocation, or of one agent, without reading the rest of a log.

The commands of a shell and the hooks of an agent are processes of a few milliseconds, each with a segment
of its own; after some weeks there are thousands. So the names of these segments say whose they are and
which is the latest: their bus id is a tag, a number that counts up, and a few random digits. Rejected: the
index, which takes longer to open and update than the whole rest of such a process; a file with the state,
which two processes would have to lock, and which could contradict the log.

The numbers do not come from the clock, which may be set back between two processes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from eventbus.errors import DecodeError
from eventbus.events import SkillEvent, SkillStarted, decode
from eventbus.history.stored_lines import Block, Damage, StoredLines

__all__ = ["SkillSegments", "digest", "events_with"]

_SKILL = b'"event_type":"skill_'
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-\d{1,10}-([0-9A-Za-z]{1,32})\.jsonl", re.ASCII)
_NUMBER_DIGITS, _RANDOM_BYTES = 6, 3
_MAX_TAG = 32 - _NUMBER_DIGITS - 2 * _RANDOM_BYTES


def digest(text: str, size: int = 6) -> str:
    """Return twice as many hexadecimal digits as `size`, which stand for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


class SkillSegments:
    """The segments of a log, as they are listed when this object is made.

    Args:
        directory: The directory of the log; a missing one has no segments.

    Raises:
        OSError: It exists and cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._events = directory / "events"
        try:
            names = os.listdir(self._events)  # noqa: PTH208 - thousands of names, of which few become paths
        except (FileNotFoundError, NotADirectoryError):
            names = []
        self._names = sorted((name for name in names if _NAME.fullmatch(name)), reverse=True)

    def latest_first(self, tag: str) -> list[tuple[int, Path]]:
        """Return the segments with a tag and their numbers, the highest number first."""
        found = sorted(
            ((self._number(bus_id, tag), name) for bus_id, name in self._tagged(tag)), reverse=True
        )
        return [(number, self._events / name) for number, name in found]

    def tags(self, beginning: str, length: int) -> list[str]:
        """Return the tags of a length that have a beginning, those of the latest segments first."""
        return list(dict.fromkeys(bus_id[:length] for bus_id, _ in self._tagged(beginning)))

    def number(self, tag: str) -> int:
        """Return the highest number of the segments with a tag, 0 without any."""
        return max((self._number(bus_id, tag) for bus_id, _ in self._tagged(tag)), default=0)

    def new_writer_id(self, tag: str) -> str:
        """Return a bus id that no segment has, with a tag and the next number.

        Two processes may draw the same number at once; the random digits tell them apart.

        Args:
            tag: At most 20 letters and digits.
        """
        number = min(self.number(tag) + 1, 10**_NUMBER_DIGITS - 1)
        return f"{tag[:_MAX_TAG]}{number:0{_NUMBER_DIGITS}}{os.urandom(_RANDOM_BYTES).hex()}"

    def events_of(self, invocation_id: str, tag: str) -> list[SkillEvent]:
        """Return the events of an invocation, those with the tag or, if its start is not there, all.

        Without the start the whole log is read, the latest segments first, until the start is found.
        """
        needle = f'"{invocation_id}"'.encode("utf-8", "surrogatepass")
        found = [each for _, path in reversed(self.latest_first(tag)) for each in events_with(path, needle)]
        events = [each for each in found if each.invocation_id == invocation_id]
        if any(map(_is_start, events)):
            return events
        return list(self._scan(invocation_id, needle))

    def _scan(self, invocation_id: str, needle: bytes) -> Iterator[SkillEvent]:
        for name in self._names:
            found = events_with(self._events / name, needle)
            events = [each for each in found if each.invocation_id == invocation_id]
            yield from events
            if any(map(_is_start, events)):
                return

    @staticmethod
    def _number(bus_id: str, tag: str) -> int:
        digits = bus_id[len(tag) : len(tag) + _NUMBER_DIGITS]
        return int(digits) if digits.isdecimal() else 0

    def _tagged(self, tag: str) -> Iterator[tuple[str, str]]:
        for name in self._names:
            bus_id = name[name.rindex("-") + 1 : -len(".jsonl")]
            if bus_id.startswith(tag):
                yield bus_id, name


def events_with(path: Path, needle: bytes = b"") -> Iterator[SkillEvent]:
    """Yield the skill events of a segment whose lines contain some bytes; skip all that is no record.

    A file that vanishes or cannot be read has none: `eventbus doctor` reports it.
    """
    lines = StoredLines(path)
    while True:
        try:
            block = lines.next_block()
        except OSError:
            return
        if isinstance(block, Block):
            yield from _decoded(block, needle)
        if block is None or (not isinstance(block, Damage) and block.is_tail):
            return


def _decoded(block: Block, needle: bytes) -> Iterator[SkillEvent]:
    if needle not in block.data or _SKILL not in block.data:
        return
    for line in block.data.split(b"\n"):
        if needle in line and _SKILL in line:
            try:
                event = decode(line)
            except DecodeError:
                continue
            if isinstance(event, SkillEvent):
                yield event


def _is_start(event: SkillEvent) -> bool:
    return isinstance(event, SkillStarted)
