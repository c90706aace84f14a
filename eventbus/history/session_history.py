"""SessionHistory: the sessions of a log of any length."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.correlation.links import SessionLinks
from eventbus.events import Event, SessionLinked, SkillCompleted, SkillEvent, SkillStarted, WorkflowEvent
from eventbus.events.outcomes import is_detached
from eventbus.ground.session_names import spell, unspell
from eventbus.history.extents import PartitionReader
from eventbus.history.grouping import LINKS, partition_key, partition_key_of_session
from eventbus.history.index import INDEX_NAME, ForeignIndexError, Index
from eventbus.history.index_rows import DATABASE_ERRORS, InvalidIndexError, index_error, start_and_name
from eventbus.history.indexing import MAX_RECORDS_PER_SESSION, update
from eventbus.history.log import EventLog
from eventbus.history.reading import time_of_event
from eventbus.history.stored_lines import Damage
from eventbus.history.unfinished import LiveWriters, all_unfinished, unfinished
from eventbus.views.durations import Attempt, Durations, Subject

__all__ = ["SessionHistory"]

_T = TypeVar("_T")
_INDEX_ERRORS = (InvalidIndexError, *DATABASE_ERRORS)


class SessionHistory:
    """The sessions of a log, as it is when this object is made.

        with SessionHistory(EventLog()) as history:
            for session in history.figures():
                print(session.session_id, session.skills)

    It reads through the index beside the log, after updating it. If the index cannot be used, or turns
    out to be wrong, a temporary one gives the same results more slowly. Memory is bounded by the
    largest session; of a session with more than 65,536 workflow events, the newest are kept. What is
    skipped, as a segment that cannot be read, is reported to the log's `on_damage`, each place once.

    Use it in one thread.

    Args:
        log: The log.
        extra_events: Events that the log does not contain, such as those of legacy files. They are
            kept in memory, and joined to their sessions.

    Attributes:
        log: The log.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """

    def __init__(self, log: EventLog, extra_events: Iterable[SkillEvent | WorkflowEvent] = ()) -> None:
        self.log: EventLog = log
        self._index = _stored_index(log) or _temporary_index(log)
        segments = log.segments()
        self._partitions = PartitionReader(self._index, segments)
        self._writers = LiveWriters(segments)
        self._reported: set[Damage] = set()
        self._report_damage(self._query(self._stored_damage))
        self._extra_events: dict[str, list[Event]] = {}
        for event in extra_events:
            self._extra_events.setdefault(str(partition_key(event)), []).append(event)
        self._links = SessionLinks(None)
        for link in self._query(lambda _: list(self._partitions.events(LINKS))):
            if isinstance(link, SessionLinked):
                self._links.add(link)
        self._joined = self._join_all()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def figures(self, *, oldest_first: bool = False) -> Iterator[CorrelatedSession]:
        """Iterate over all sessions without their records by their starts, the latest first."""
        joined = sorted(
            map(_without_records, self._joined.values()), key=start_and_name, reverse=not oldest_first
        )
        stored = (each for each in self._stored_figures(oldest_first) if not self._is_joined(each.session_id))
        merged = heapq.merge(stored, joined, key=start_and_name, reverse=not oldest_first)
        return map(self._as_of_now, merged)

    def _stored_figures(self, oldest_first: bool) -> Iterator[CorrelatedSession]:
        # Checked before the first is yielded, because later ones of another index would not fit it.
        self._query(Index.check_figures)
        count = 0
        try:
            for session in self._index.figures(oldest_first=oldest_first):
                yield session
                count += 1
        except _INDEX_ERRORS as error:
            self._replace_index(error)
            yield from islice(self._index.figures(oldest_first=oldest_first), count, None)

    def figures_of(self, name: str) -> CorrelatedSession | None:
        """Return a session without its records, or None if there is none of this name."""
        joined = self._joined.get(self._links.owner(name))
        stored = joined or self._query(lambda index: index.figures_of(spell(name)))
        return None if stored is None else self._as_of_now(_without_records(stored))

    def count(self) -> int:
        """Return the number of sessions."""
        return sum(1 for _ in self.figures()) if self._joined else self._query(lambda index: index.count())

    def events_lost(self) -> int:
        """Return how many events are missing in the log, by what its persisters wrote."""
        return self._partitions.total_lost()

    def names(self, prefix: str = "", limit: int = 10) -> list[str]:
        """Return at most `limit` names of sessions that begin with a prefix, in order.

        The name of a session that belongs to another stands for that one.
        """
        stored = map(unspell, self._query(lambda index: index.names(spell(prefix), limit)))
        joined = [name for name in self._joined if name.startswith(prefix)]
        return sorted({*map(self._links.owner, stored), *joined})[:limit]

    def session(self, name: str) -> CorrelatedSession | None:
        """Return a session with its records, or None if there is none of this name."""
        joined = self._joined.get(self._links.owner(name))
        found = deepcopy(joined) if joined is not None else self._query(lambda index: self._fold(index, name))
        return None if found is None else self._as_of_now(found)

    def events(self, name: str) -> list[Event]:
        """Return all events of a session in the order of the log, including progress and extra events."""
        if self.session(name) is None:  # this checks the index, too
            return []
        return self._events_of(self._keys(name))

    def open_skills(self, name: str) -> list[SkillStarted]:
        """Return the starts of a session's skills that are open: not ended, and not unfinished."""
        keys = self._keys(name)
        starts: dict[str, SkillStarted] = {}
        ended: set[str] = set()
        for writer, events in self._query(lambda _: list(self._partitions.events_by_writer(*keys))):
            for event in events:
                if isinstance(event, SkillCompleted):
                    ended.add(event.invocation_id)
                elif isinstance(event, SkillStarted) and (
                    is_detached(event) or self._writers.is_there(writer)
                ):
                    starts.setdefault(event.invocation_id, event)
        return [each for each in starts.values() if each.invocation_id not in ended]

    def attempts(self, subject: Subject) -> list[Attempt]:
        """Return when a node, a run or a skill ended, how long it took, and how: in order, each end once.

        Events that are not in the log, as those of legacy files, are not among them.
        """
        found = self._query(lambda index: index.attempts.of(subject))
        if not self._links:  # as nearly always: there may be a hundred thousand of them
            return found
        return [each._replace(session=self._links.owner(each.session)) for each in found]

    def durations(self, subject: Subject) -> Durations:
        """Return how long the successes among the `attempts` took."""
        return Durations(self._query(lambda index: index.attempts.successes(subject)))

    def subjects(self) -> list[Subject]:
        """Return everything that `attempts` knows."""
        return self._query(lambda index: index.attempts.subjects())

    def sessions(self) -> Iterator[CorrelatedSession]:
        """Iterate over all sessions with their records by their starts, the earliest first."""
        for figures in self.figures(oldest_first=True):
            session = self.session(figures.session_id)
            if session is not None:
                yield session

    def _as_of_now(self, session: CorrelatedSession) -> CorrelatedSession:
        """Add the figures that are not the session's own: of its writers, and of events lost around it."""
        # None of them is stored: a writer ends without writing anything.
        keys = self._keys(session.session_id)
        session.events_lost = self._query(lambda _: self._partitions.lost(*keys))
        return self._unfinished(session, keys) if session.is_open else session

    def _unfinished(self, session: CorrelatedSession, keys: list[str]) -> CorrelatedSession:
        are_there = set(map(self._writers.is_there, self._query(lambda _: self._partitions.writers(*keys))))
        if False not in are_there:
            return session
        present = [event for key in keys for event in self._extra_events.get(key, ())]
        if True not in are_there and not present:
            return all_unfinished(session)
        gone: list[Event] = []
        for writer, events in self._query(lambda _: list(self._partitions.events_by_writer(*keys))):
            (present if self._writers.is_there(writer) else gone).extend(events)
        return unfinished(session, present, gone)

    def _keys(self, name: str) -> list[str]:
        """Return the partition keys of a session and of those that belong to the same one."""
        return [partition_key_of_session(each) for each in self._links.family(name)]

    def _is_joined(self, name: str) -> bool:
        return self._links.owner(name) in self._joined

    def _join_all(self) -> dict[str, CorrelatedSession]:
        """Return the sessions that are not in the index as they are: those with links and extra events."""
        families = [
            [partition_key_of_session(each) for each in names] for names in self._links.families().values()
        ]
        linked = {key for keys in families for key in keys}
        alone = [[key] for key in self._extra_events if key not in linked]
        return {each.session_id: each for keys in (*families, *alone) for each in self._join(keys)}

    def _join(self, keys: list[str]) -> Iterable[CorrelatedSession]:
        correlation = Correlation(None, MAX_RECORDS_PER_SESSION)
        correlation.add_all(self._events_of(keys))
        return correlation.sessions().values()

    def _events_of(self, keys: list[str]) -> list[Event]:
        stored = self._query(lambda _: list(self._partitions.events(*keys)))
        extra = [event for key in keys for event in self._extra_events.get(key, ())]
        return sorted([*stored, *extra], key=time_of_event) if extra else stored

    def _stored_damage(self, index: Index) -> list[Damage]:
        return index.damage(self.log.directory / "events")

    def _report_damage(self, found: Iterable[Damage]) -> None:
        new = [damage for damage in found if damage not in self._reported]
        paths = {each.path for each in self.log.segments()} if new else ()
        for damage in new:
            if damage.path in paths:
                self._reported.add(damage)
                self.log.on_damage(damage)

    def _fold(self, index: Index, name: str) -> CorrelatedSession | None:
        stored = index.figures_of(spell(name))
        if stored is None:
            return None
        correlation = Correlation(None, MAX_RECORDS_PER_SESSION)
        correlation.add_all(self._partitions.events(partition_key_of_session(name)))
        session = correlation.session(name)
        # The stored figures were computed from the whole log, these from the extents: if they differ,
        # either may be wrong.
        differs = session is None or (_without_records(session) != stored and not session.records_dropped)
        if differs and index.is_stored:  # a temporary one was made just now: the log has changed since
            raise InvalidIndexError(f"it is wrong about {name}")
        return session

    def _query(self, query: Callable[[Index], _T]) -> _T:
        """Query the index; if it is wrong or cannot be used, query another one."""
        try:
            return query(self._index)
        except _INDEX_ERRORS as error:
            self._replace_index(error)
            return query(self._index)

    def _replace_index(self, error: Exception) -> None:
        """Use a temporary index, and delete a stored one that is invalid."""
        self._index.close()
        error = index_error(error)
        if isinstance(error, InvalidIndexError) and self._index.is_stored:
            _delete_index(self.log)
        self._index = _temporary_index(self.log)
        self._partitions = PartitionReader(self._index, self.log.segments())
        self._report_damage(self._stored_damage(self._index))


def _without_records(session: CorrelatedSession) -> CorrelatedSession:
    return msgspec.structs.replace(session, skill_invocations=[], workflow_events=[])


def _stored_index(log: EventLog) -> Index | None:
    """Return the index beside the log, up to date; None if there can be none."""
    path = log.directory / INDEX_NAME
    if not path.exists() and not log.segments():
        return None
    for _ in range(2):
        try:
            return _updated(Index(path), log)
        except InvalidIndexError:
            _delete_index(log)
        except (ForeignIndexError, sqlite3.Error, OSError):
            return None
    return None


def _temporary_index(log: EventLog) -> Index:
    try:
        return _updated(Index(None), log)
    except sqlite3.OperationalError:  # there is no place for temporary files, or it is full
        return _updated(Index(None, in_memory=True), log)


def _updated(index: Index, log: EventLog) -> Index:
    try:
        update(index, log)
        index.begin_snapshot()
    except DATABASE_ERRORS as error:
        index.close()
        raise index_error(error) from error
    except BaseException:
        index.close()
        raise
    return index


def _delete_index(log: EventLog) -> None:
    for name in (INDEX_NAME, f"{INDEX_NAME}-journal"):
        with suppress(OSError):
            Path(log.directory / name).unlink()
