"""When nodes, runs and skills ended, how long they took, and how: their rows in an index.

A row has the ends of one subject in one segment, packed, as far as one update of the index read it: a
thousand ends take about 20 kB, and what was usual is one query. Rejected: a row for each end, which made
indexing a million events a third slower, and the index five times as large.

A row belongs to the part of a segment that an update read, as extents do, and is removed with it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args

import msgspec

from eventbus.correlation import UNATTRIBUTED
from eventbus.correlation.span import finite_seconds
from eventbus.events import NodeCompleted, SkillCompleted, SkillFollowedUp, WorkflowCompleted
from eventbus.events.json_safe import safe_text
from eventbus.events.outcomes import Outcome, skill_outcome, status_outcome
from eventbus.history.grouping import partition_key, session_id_of
from eventbus.history.index_rows import InvalidIndexError
from eventbus.history.raw_decoding import raw_types
from eventbus.views.durations import Attempt, Subject

__all__ = ["AttemptTable", "EndCollector"]

_MAX_ENDS = 16_384  # in memory before they are written
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_End = tuple[float, float | None, int, int]
"""Its time, its duration, the places of its outcome and of its session's key."""


class _Ends(msgspec.Struct, array_like=True):
    """The ends of one subject.

    Attributes:
        keys: The partition keys of their sessions.
        ends: The ends.
    """

    keys: list[str]
    ends: list[_End]


_decoder = msgspec.msgpack.Decoder(_Ends)


class AttemptTable:
    """The table of an index.

    Args:
        db: The database.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, subject: Subject, segment: int, start: int, ends: bytes) -> None:
        """Store ends that were read in a segment from an offset on."""
        row = (*subject, segment, start, ends)
        self._db.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, _checksum(row)))

    def drop(self, segment: int, start: int = 0) -> None:
        """Remove what was read in a segment from an offset on."""
        self._db.execute("DELETE FROM attempts WHERE segment = ? AND start >= ?", (segment, start))

    def of(self, subject: Subject) -> list[Attempt]:
        """Return the ends of a subject, in order; one that was stored twice counts once.

        Raises:
            InvalidIndexError: A row is damaged.
        """
        query = "SELECT * FROM attempts WHERE kind = ? AND name = ? AND node = ?"
        return sorted({end for row in self._db.execute(query, subject) for end in _decode(row)}, key=_order)

    def subjects(self) -> list[Subject]:
        """Return all subjects, in order.

        Raises:
            InvalidIndexError: A row is damaged.
        """
        self.check()
        rows = self._db.execute("SELECT DISTINCT kind, name, node FROM attempts ORDER BY kind, name, node")
        return [Subject(*row) for row in rows]

    def check(self) -> None:
        """Check each row.

        Raises:
            InvalidIndexError: A row is damaged.
        """
        for row in self._db.execute("SELECT * FROM attempts"):
            _check(row)


class EndCollector:
    """Collects the ends among events, and writes them into the table.

    Args:
        table: The table.
    """

    def __init__(self, table: AttemptTable) -> None:
        self._table = table
        self._found: dict[tuple[Subject, int, int], tuple[dict[str, int], list[_End]]] = {}
        self._count = 0

    def add_all(self, segment: int, start: int, events: Iterable[Any]) -> None:
        """Add the ends among the events of a segment, which this update reads from an offset on."""
        for event in events:
            kind = _KINDS.get(type(event)) or _kind(type(event))
            if kind != "other":
                for subject in _subjects(kind, event):
                    self._add(subject, segment, start, event)
        if self._count >= _MAX_ENDS:
            self.flush()

    def _add(self, subject: Subject, segment: int, start: int, event: Any) -> None:
        keys, ends = self._found.setdefault((subject, segment, start), ({}, []))
        key = keys.setdefault(partition_key(event) or "", len(keys))
        duration = getattr(event, "duration_seconds", None)
        seconds = None if duration is None else finite_seconds(duration)
        ends.append((event.timestamp.timestamp(), seconds, _OUTCOMES.index(_outcome(event)), key))
        self._count += 1

    def flush(self) -> None:
        """Write what was collected."""
        for (subject, segment, start), (keys, ends) in self._found.items():
            packed = msgspec.msgpack.encode(_Ends(list(keys), ends))
            self._table.put(subject, segment, start, packed)
        self._found.clear()
        self._count = 0


_KINDS: dict[type[Any], str] = {}


@cache
def _classes() -> dict[type[Any], str]:
    kinds: dict[type[Any], str] = {
        NodeCompleted: "node", WorkflowCompleted: "run", SkillCompleted: "skill", SkillFollowedUp: "action"
    }  # fmt: skip
    return kinds | {raw: kinds[cls] for raw, cls in raw_types().items() if cls in kinds}


def _kind(cls: type[Any]) -> str:
    """Return the kind of the nearest base of a class, and remember it."""
    kind = next((_classes()[base] for base in cls.__mro__ if base in _classes()), "other")
    _KINDS[cls] = kind
    return kind


def _subjects(kind: str, event: Any) -> Iterator[Subject]:
    match kind:
        case "node":
            yield Subject("node", safe_text(event.workflow_id), safe_text(event.node_id))
        case "run":
            yield Subject("run", safe_text(event.workflow_id))
        case "skill":
            yield Subject("skill", safe_text(event.skill_name))
            for action in event.follow_up_actions:
                yield Subject("action", safe_text(event.skill_name), safe_text(action))
        case _:
            yield Subject("action", safe_text(event.skill_name), safe_text(event.action))


def _outcome(event: Any) -> Outcome:
    status = getattr(event, "status", None)
    if status is None:
        return skill_outcome(getattr(event, "completed", True), getattr(event, "error_type", None))
    if status == "ok" and not event.success:  # a raw event may contradict itself
        return "failed"
    return status_outcome(status)


def _decode(row: tuple[Any, ...]) -> Iterator[Attempt]:
    _check(row)
    found = _decoder.decode(row[5])
    names = [_session_name(key) for key in found.keys]
    for ended, seconds, outcome, key in found.ends:
        yield Attempt(ended, seconds, _OUTCOMES[outcome], names[key])


def _session_name(key: str) -> str:
    name = session_id_of(key)
    return f"{UNATTRIBUTED}{key}" if name is None else name


def _order(attempt: Attempt) -> tuple[float, str, str, float]:
    return attempt.ended, attempt.session, attempt.outcome, attempt.seconds or 0.0


def _check(row: tuple[Any, ...]) -> None:
    try:
        is_sound = _checksum(row[:6]) == row[6]
    except (TypeError, AttributeError, ValueError):  # SQLite stores values of any type
        is_sound = False
    if not is_sound:
        raise InvalidIndexError("a row of attempts is damaged")


def _checksum(row: tuple[Any, ...]) -> int:
    return zlib.crc32(row[5], zlib.crc32("\0".join(map(str, row[:5])).encode()))
