"""SessionHistory: what a log tells of its sessions, however long it is."""

from __future__ import annotations

import heapq
import operator
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.events import Event, SkillEvent, WorkflowEvent
from eventbus.history.extents import LaneReader
from eventbus.history.grouping import lane_of, lane_of_name
from eventbus.history.index import INDEX_NAME, DistrustedIndexError, ForeignIndexError, Index, as_distrusted
from eventbus.history.indexing import MAX_REMEMBERED, update
from eventbus.history.log import EventLog

__all__ = ["SessionHistory"]

_T = TypeVar("_T")
_time_of: Callable[[Event], datetime] = operator.attrgetter("timestamp")
_MISTRUST = (DistrustedIndexError, sqlite3.Error)


class SessionHistory:
    """The sessions of a log, as it is when this is made, one at a time.

    The answers come through the index beside the log, which is brought up to date first. Where that
    cannot be, or the index turns out to be wrong, they come through a temporary one: the same, later.
    Memory stays bounded by the largest session; of one with more than 65,536 workflow events, the newest
    are kept. To be used in one thread.

        with SessionHistory(EventLog()) as history:
            for session in history.figures():
                print(session.session_id, session.skills)

    Args:
        log: The log.
        others: Events that the log does not have, such as those of historic files; kept in memory,
            and each joined to its session.

    Attributes:
        log: The log.

    Raises:
        OSError: The log's directory is there and cannot be read.
    """

    def __init__(self, log: EventLog, others: Iterable[SkillEvent | WorkflowEvent] = ()) -> None:
        self.log: EventLog = log
        self._index = _stored(log) or _temporary(log)
        self._lanes = LaneReader(self._index, log.segments())
        self._others: dict[str, list[Event]] = {}
        for event in others:
            self._others.setdefault(str(lane_of(event)), []).append(event)
        self._joined = {each.session_id: each for lane in self._others for each in self._join(lane)}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()

    def figures(self, *, oldest_first: bool = False) -> Iterator[CorrelatedSession]:
        """Iterate over all sessions without their records, the one that began last first."""
        joined = sorted(map(_without_records, self._joined.values()), key=_place, reverse=not oldest_first)
        noted = (each for each in self._noted(oldest_first) if each.session_id not in self._joined)
        return heapq.merge(noted, joined, key=_place, reverse=not oldest_first)

    def _noted(self, oldest_first: bool) -> Iterator[CorrelatedSession]:
        # All of them first: what was told cannot be taken back when a wrong one turns up.
        self._ask(Index.check_sessions)
        told = 0
        try:
            for session in self._index.sessions(oldest_first=oldest_first):
                yield session
                told += 1
        except _MISTRUST as error:
            self._do_without(error)
            yield from islice(self._index.sessions(oldest_first=oldest_first), told, None)

    def figures_of(self, name: str) -> CorrelatedSession | None:
        """Return a session without its records, or None when nothing is known of it."""
        joined = self._joined.get(name)
        if joined is not None:
            return _without_records(joined)
        return self._ask(lambda index: index.session(name))

    def count(self) -> int:
        """Return how many sessions there are."""
        return sum(1 for _ in self.figures()) if self._joined else self._ask(lambda index: index.count())

    def names(self, prefix: str = "", limit: int = 10) -> list[str]:
        """Return the names of sessions that begin with a text, in their order, so many at most."""
        noted = self._ask(lambda index: index.names(prefix, limit))
        joined = [name for name in self._joined if name.startswith(prefix)]
        return sorted({*noted, *joined})[:limit]

    def session(self, name: str) -> CorrelatedSession | None:
        """Return a session with its records, or None when nothing is known of it."""
        joined = self._joined.get(name)
        return deepcopy(joined) if joined is not None else self._ask(lambda index: self._folded(index, name))

    def events(self, name: str) -> list[Event]:
        """Return all events of a session, in the order of the log; progress and others too."""
        if self.session(name) is None:  # which checks that they are where the index says
            return []
        lane = lane_of_name(name)
        return self._with_others(lane, list(self._lanes.events(lane)))

    def sessions(self) -> Iterator[CorrelatedSession]:
        """Iterate over all sessions with their records, the one that began first first."""
        for figures in self.figures(oldest_first=True):
            session = self.session(figures.session_id)
            if session is not None:
                yield session

    def _join(self, lane: str) -> Iterator[CorrelatedSession]:
        noted = self._ask(lambda _: list(self._lanes.events(lane)))
        correlation = Correlation(None, MAX_REMEMBERED)
        correlation.add_all(self._with_others(lane, noted))
        return iter(correlation.sessions().values())

    def _with_others(self, lane: str, events: list[Event]) -> list[Event]:
        others = self._others.get(lane)
        return sorted([*events, *others], key=_time_of) if others else events

    def _folded(self, index: Index, name: str) -> CorrelatedSession | None:
        noted = index.session(name)
        if noted is None:
            return None
        correlation = Correlation(None, MAX_REMEMBERED)
        correlation.add_all(self._lanes.events(lane_of_name(name)))
        # Told in two ways that have nothing in common but the log: one of them wrong, both are in doubt.
        session, figures = correlation.session(name), correlation.figures(name)
        if session is None or figures is None or (figures != noted and not figures.records_dropped):
            raise DistrustedIndexError(f"it is wrong about {name}")
        return session

    def _ask(self, question: Callable[[Index], _T]) -> _T:
        try:
            return question(self._index)
        except _MISTRUST as error:
            self._do_without(error)
            return question(self._index)

    def _do_without(self, error: Exception) -> None:
        self._index.close()
        wrong = isinstance(
            as_distrusted(error) if isinstance(error, sqlite3.Error) else error, DistrustedIndexError
        )
        if wrong and self._index.is_stored:
            _remove(self.log)
        self._index = _temporary(self.log)
        self._lanes = LaneReader(self._index, self.log.segments())


def _place(session: CorrelatedSession) -> tuple[str, str]:
    return session.start_time, session.session_id


def _without_records(session: CorrelatedSession) -> CorrelatedSession:
    return msgspec.structs.replace(session, skill_invocations=[], workflow_events=[])


def _stored(log: EventLog) -> Index | None:
    """Return the index beside the log, up to date; None where there can be none."""
    path = log.directory / INDEX_NAME
    if not log.segments() and not path.exists():
        return None
    for _ in range(2):
        try:
            return _updated(Index(path), log)
        except DistrustedIndexError:
            _remove(log)
        except (ForeignIndexError, sqlite3.Error, OSError):
            return None
    return None


def _temporary(log: EventLog) -> Index:
    return _updated(Index(None), log)


def _updated(index: Index, log: EventLog) -> Index:
    try:
        update(index, log)
        index.db.execute("BEGIN")  # it stays as it is now, whoever brings it up to date meanwhile
        index.count()
    except sqlite3.Error as error:
        index.close()
        raise as_distrusted(error) from error
    except BaseException:
        index.close()
        raise
    return index


def _remove(log: EventLog) -> None:
    """Have the index made anew by whoever asks next."""
    for name in (INDEX_NAME, f"{INDEX_NAME}-journal"):
        with suppress(OSError):
            Path(log.directory / name).unlink()
