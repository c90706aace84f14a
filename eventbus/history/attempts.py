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
from eventbus.events.vocabulary import NodeStatus
from eventbus.history.grouping import partition_key, session_id_of
from eventbus.history.index_rows import InvalidIndexError
from eventbus.history.raw_decoding import raw_types
from eventbus.views.durations import Attempt, Subject, Success

__all__ = ["AttemptTable", "EndCollector"]

_MAX_ENDS = 16_384  # in memory before they are written
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_FAILED, _SUCCEEDED = _OUTCOMES.index("failed"), _OUTCOMES.index("succeeded")
_OF_STATUS = {  # by status and success; a raw event may contradict itself
    (status, success): _FAILED if status == "ok" and not success else _OUTCOMES.index(status_outcome(status))
    for status in get_args(NodeStatus)
    for success in (True, False)
}
_YEAR = 31e6
_End = tuple[float, float | None, int, int]
"""Its time, its duration, the places of its outcome and of its session's key."""
_Names = tuple[Any, str, str]
"""Those of a `Subject`, of any length."""


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

    def put(self, ends: Iterable[tuple[Subject, int, int, bytes]]) -> None:
        """Store ends, each with its subject, its segment, and from where on an update read it there."""
        rows = ((*subject, *rest) for subject, *rest in ends)
        self._db.executemany(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)", ((*row, _checksum(row)) for row in rows)
        )

    def drop(self, segment: int, start: int = 0) -> None:
        """Remove what was read in a segment from an offset on."""
        self._db.execute("DELETE FROM attempts WHERE segment = ? AND start >= ?", (segment, start))

    def of(self, subject: Subject) -> list[Attempt]:
        """Return the ends of a subject, in order; one that was stored twice counts once.

        Raises:
            InvalidIndexError: A row is damaged.
        """
        return sorted({end for ends in self._stored(subject) for end in _attempts(ends)}, key=_order)

    def successes(self, subject: Subject) -> list[Success]:
        """Return the successes of a subject whose duration is known, in order; quicker than `of`.

        Raises:
            InvalidIndexError: A row is damaged.
        """
        found = {
            (ended, seconds, stored.keys[key])
            for stored in self._stored(subject)
            for ended, seconds, outcome, key in stored.ends
            if outcome == _SUCCEEDED and seconds is not None
        }
        return sorted((ended, seconds) for ended, seconds, _ in found)

    def _stored(self, subject: Subject) -> Iterator[_Ends]:
        query = "SELECT * FROM attempts WHERE kind = ? AND name = ? AND node = ?"
        for row in self._db.execute(query, subject):
            _check(row)
            yield _decoder.decode(row[5])

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
        self._found: dict[tuple[int, int], dict[_Names, tuple[dict[str, int], list[_End]]]] = {}
        self._count = 0

    def add_all(self, segment: int, start: int, events: Iterable[Any]) -> None:
        """Add the ends among the events of a segment, which this update reads from an offset on."""
        found = self._found.setdefault((segment, start), {})
        session, key = None, ""
        for event in events:  # of a whole log: what several have in common is done once
            kind = _KINDS.get(type(event)) or _kind(type(event))
            if kind == "other":
                continue
            if not event.session_id or event.session_id != session:
                session, key = event.session_id, partition_key(event) or ""
            if kind == "node":
                all_names: Iterable[_Names] = (("node", event.workflow_id, event.node_id),)
                outcome = _OF_STATUS.get((event.status, event.success), _FAILED)
            else:
                all_names, outcome = _names(kind, event), _outcome(event)
            time, seconds = event.timestamp.timestamp(), _seconds(event)
            for names in all_names:
                entry = found.get(names)
                if entry is None:
                    entry = found[names] = {}, []
                keys, ends = entry
                ends.append((time, seconds, outcome, keys.setdefault(key, len(keys))))
                self._count += 1
        if self._count >= _MAX_ENDS:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        self._table.put(
            (Subject(kind, *map(safe_text, names)), *place, msgspec.msgpack.encode(_Ends(list(keys), ends)))
            for place, found in self._found.items()
            for (kind, *names), (keys, ends) in found.items()
        )
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


def _names(kind: str, event: Any) -> Iterable[_Names]:
    match kind:
        case "node":
            return (("node", event.workflow_id, event.node_id),)
        case "run":
            return (("run", event.workflow_id, ""),)
        case "skill":
            name = event.skill_name
            return ("skill", name, ""), *(("action", name, action) for action in event.follow_up_actions)
        case _:
            return (("action", event.skill_name, event.action),)


def _seconds(event: Any) -> float | None:
    duration = getattr(event, "duration_seconds", None)
    if duration is None or (type(duration) is float and 0 <= duration < _YEAR):  # as nearly all are
        return duration
    return finite_seconds(duration)


def _outcome(event: Any) -> int:
    """Return the place of the outcome of a run or a skill."""
    status = getattr(event, "status", None)
    if status is None:
        completed, error_type = getattr(event, "completed", True), getattr(event, "error_type", None)
        return _OUTCOMES.index(skill_outcome(completed, error_type))
    return _OF_STATUS.get((status, event.success), _FAILED)


def _attempts(found: _Ends) -> Iterator[Attempt]:
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
