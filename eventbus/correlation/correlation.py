"""Correlate: fold events, in any order and with any repeats, into sessions.

The same code runs live, event by event, and on demand, over a whole history: no I/O, no clock, no
bus. Sessions do not influence each other.

Events without a session id are never merged: each run, and each skill invocation, gets a bucket of
its own, named

    unattributed:run:<run_id>
    unattributed:workflow:<workflow_id>#<number>@<first seen>     a run without an id
    unattributed:skill:<invocation_id>

The prefix is reserved: a session whose own id begins with it is named ``unattributed:session:<id>``,
so that no session is taken for a bucket.

Sessions that `SessionLinked` links are read as one; each of their names finds it.

A node counts as completed if its status is ``ok``. A skipped node did not run, and counts as skipped.
A node that failed and succeeded in a later attempt is one completed node and not a failed one. For
runs without an id, see `eventbus.correlation.inferred_runs`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.correlation.hook_fold import is_hook_end
from eventbus.correlation.inferred_runs import AttemptKey, InferredRuns, RunKey
from eventbus.correlation.joined_fold import JoinedFold, joined
from eventbus.correlation.links import SessionLinks
from eventbus.correlation.run_fold import RunFold
from eventbus.correlation.session_fold import OpenItems, SessionFold, new_session_fold
from eventbus.correlation.session_report import Pattern, correlation_report, detect_patterns
from eventbus.correlation.skill_fold import SkillFold
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    SessionLinked,
    SkillCompleted,
    SkillFollowedUp,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)

__all__ = [
    "MAX_RECORDS",
    "MAX_SESSIONS",
    "UNATTRIBUTED",
    "CorrelatedFigures",
    "CorrelatedSession",
    "Correlation",
    "OpenItems",
    "Pattern",
    "correlation_report",
    "detect_patterns",
]

MAX_SESSIONS = 1_024
"""How many sessions are remembered by default."""
MAX_RECORDS = 1_000
"""How many records are kept of each session, and ids remembered, by default."""
UNATTRIBUTED = "unattributed:"
"""The prefix of the names of buckets."""

_BucketKey = tuple[str, RunKey]
_NOTHING, _PROGRESS, _LINK, _SKILL, _RUN, _NODE = range(6)
_Step: TypeAlias = tuple[int, Callable[..., bool]]
"""The subject of an event class, and the method that folds it."""
_IGNORED: _Step = (_NOTHING, bool)
_STEPS: dict[type[Any], _Step] = {
    SkillStarted: (_SKILL, SkillFold.skill_started),
    SkillCompleted: (_SKILL, SkillFold.skill_completed),
    SkillFollowedUp: (_SKILL, SkillFold.skill_followed_up),
    WorkflowStarted: (_RUN, RunFold.workflow_started),
    WorkflowCompleted: (_RUN, RunFold.workflow_completed),
    NodeStarted: (_NODE, RunFold.node_started),
    NodeCompleted: (_NODE, RunFold.node_completed),
    NodeProgress: (_PROGRESS, is_hook_end),
    SessionLinked: (_LINK, SessionLinks.add),
}


class Correlation:
    """Events folded into sessions. Not thread-safe: use a lock to share it between threads.

    Args:
        max_sessions: How many sessions are remembered. Beyond this the session without events for
            the longest time is evicted, an ended one before an open one. None for no limit.
        max_records: How many records are kept of each session, of skills and of workflow events, the
            newest; and how many skills, runs and attempts of it are remembered to recognise repeats.
            The figures count all of them. None for no limit.
        keeps_records: False to keep figures only, in a fraction of the memory.
        joins: False to keep sessions apart that `SessionLinked` links.
        on_evict: Called with the figures of each evicted session.

    Attributes:
        evicted: How many sessions were evicted. Later events of one of them make a new session.

    Raises:
        ValueError: A limit is less than 1.
    """

    def __init__(
        self,
        max_sessions: int | None = MAX_SESSIONS,
        max_records: int | None = MAX_RECORDS,
        *,
        keeps_records: bool = True,
        joins: bool = True,
        on_evict: Callable[[CorrelatedSession], object] | None = None,
    ) -> None:
        for limit in (max_sessions, max_records):
            if limit is not None and limit < 1:
                raise ValueError(f"a limit of {limit} keeps nothing. Pass 1 or more, or None for no limit")
        self.evicted: int = 0
        self._max_sessions = max_sessions
        self._max_records = max_records
        self._keeps_records = keeps_records
        self._on_evict = on_evict
        self._joins = joins
        self._links = SessionLinks(max_sessions)
        self._dropped_by_evicted = 0
        # Each session is in one of the two, in the order of the latest events.
        self._open: OrderedDict[str | _BucketKey, SessionFold] = OrderedDict()
        self._closed: OrderedDict[str | _BucketKey, SessionFold] = OrderedDict()
        self._latest_key: str | _BucketKey = ""  # no session has this key
        self._latest = self._new_session("")
        self._steps = _STEPS
        self._inferred_runs = InferredRuns(max_records, max_sessions)

    @property
    def dropped(self) -> int:
        """How many records were counted but are no longer kept, over all sessions."""
        return self._dropped_by_evicted + sum(session.dropped for session in self._folds())

    @property
    def has_open(self) -> bool:
        """True if a session is open."""
        return bool(self._open)

    def add(self, event: Event) -> bool:
        """Fold one event, in constant time. Never raises; a repeat changes nothing.

        Events other than the starts and completions of skills, runs and nodes, and the ends of hooks, are
        ignored.

        Returns:
            True if the event began or ended a skill or a run, or linked sessions, and is not a repeat.
        """
        subject, fold = self._steps.get(event.__class__) or _step(event.__class__)
        if subject < _SKILL:
            return subject != _NOTHING and self._add_other(event, subject, fold)
        # Written out, and without narrowing the type: this runs millions of times.
        folded: Any = event
        key: str | _BucketKey = folded.session_id
        if subject == _SKILL:
            session = self._touch(key or ("skill", folded.invocation_id))
            is_news = fold(session.skills, folded)
        elif key and folded.run_id:
            session = self._latest if key == self._latest_key else self._touch(key)
            is_news = fold(session.runs, folded, folded.run_id, folded.attempt if subject == _NODE else 0)
        else:
            session, run, attempt = self._infer(folded)
            is_news = fold(session.runs, folded, run, attempt)
        if (session.runs.is_open or session.skills.is_open) is not session.is_filed_open:
            self._file(session)
        return is_news and subject != _NODE

    def _add_other(self, event: Any, subject: int, fold: Callable[..., bool]) -> bool:
        if subject == _PROGRESS and fold(event):
            self._touch(event.session_id).hook_ended(event)
        return subject == _LINK and self._joins and fold(self._links, event)

    def add_all(self, events: Iterable[Event]) -> None:
        """Fold events, one after the other."""
        add = self.add
        for event in events:
            add(event)

    def read_as(self, raw_types: Mapping[type[Any], type[Event]]) -> None:
        """Fold objects of these types like events of the mapped classes, attribute by attribute.

        Reading a long history so saves the cost of building events.
        """
        self._steps = self._steps | {raw: _STEPS.get(cls, _IGNORED) for raw, cls in raw_types.items()}

    def _infer(self, event: WorkflowEvent) -> tuple[SessionFold, RunKey, AttemptKey]:
        """Return the session, run and attempt of an event without a session or without a `run_id`."""
        run: RunKey | None = event.run_id or None
        attempt: AttemptKey = getattr(event, "attempt", 0)
        if event.session_id:
            session = self._touch(event.session_id)
            if run is None:
                run, attempt = session.runs.infer_run(event)
            return session, run, attempt
        if run is None:
            run, attempt = self._inferred_runs.infer(event)
        return self._touch(("run", run)), run, attempt

    def _touch(self, key: str | _BucketKey) -> SessionFold:
        """Return a session, made if necessary, as the one with the latest event."""
        if key != self._latest_key:  # usually equal: the events of a session come in a row
            self._latest = self._fetch(key)
            self._latest_key = key
        return self._latest

    def _fetch(self, key: str | _BucketKey) -> SessionFold:
        for folds in (self._open, self._closed):
            session = folds.get(key)
            if session is not None:
                folds.move_to_end(key)
                return session
        if self._max_sessions is not None and self._fold_count() >= self._max_sessions:
            self._evict()
        session = self._closed[key] = self._new_session(key)
        return session

    def _new_session(self, key: str | _BucketKey) -> SessionFold:
        return new_session_fold(_name_of(key), self._max_records, keeps_records=self._keeps_records)

    def _evict(self) -> None:
        _, evicted = (self._closed or self._open).popitem(last=False)
        self.evicted += 1
        self._dropped_by_evicted += evicted.dropped
        if self._on_evict is not None:
            self._on_evict(evicted.figures())

    def _file(self, session: SessionFold) -> None:
        """Move the session with the latest event to the open or the closed ones."""
        source, target = (self._closed, self._open) if session.is_open else (self._open, self._closed)
        target[self._latest_key] = source.pop(self._latest_key)
        session.is_filed_open = session.is_open

    # Reading. Every result is a copy.

    def session(self, session_id: str) -> CorrelatedSession | None:
        """Return a session or bucket by its name, as it stands; None if there is none."""
        captured = self.capture(session_id)
        return None if captured is None else captured()

    def sessions(self) -> dict[str, CorrelatedSession]:
        """Return every session and bucket by its name, as it stands."""
        return {fold.name: fold.capture()() for fold in self._sessions()}

    def figures(self, session_id: str) -> CorrelatedSession | None:
        """Return a session without its records: cheap enough to call at each event."""
        fold = self._find(session_id)
        return None if fold is None else fold.figures()

    def all_figures(self) -> dict[str, CorrelatedSession]:
        """Return every session without its records."""
        return {fold.name: fold.figures() for fold in self._sessions()}

    def each_figures(self) -> Iterator[CorrelatedSession]:
        """Iterate over every session without its records, built one by one; add no events until done."""
        return (fold.figures() for fold in self._sessions())

    def open_items(self, session_id: str) -> OpenItems:
        """Return what a session began or planned and did not end."""
        fold = self._find(session_id)
        return OpenItems() if fold is None else fold.open_items()

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._sessions()) if self._links else self._fold_count()

    def owner(self, session_id: str) -> str:
        """Return the session that another belongs to, by `SessionLinked`; otherwise itself."""
        return self._links.owner(session_id)

    def capture(self, session_id: str) -> Callable[[], CorrelatedSession] | None:
        """Return a function that builds the session as it stands now; quick enough to hold a lock."""
        fold = self._find(session_id)
        return None if fold is None else fold.capture()

    def capture_all(self) -> dict[str, Callable[[], CorrelatedSession]]:
        """Return, by name, functions that build each session as it stands now."""
        return {fold.name: fold.capture() for fold in self._sessions()}

    def _folds(self) -> list[SessionFold]:
        return [*self._closed.values(), *self._open.values()]

    def _fold_count(self) -> int:
        return len(self._open) + len(self._closed)

    def _sessions(self) -> list[SessionFold | JoinedFold]:
        return joined(self._folds(), self._links)

    def _find(self, name: str) -> SessionFold | JoinedFold | None:
        if not self._links:
            return self._find_fold(name)
        found = [fold for each in self._links.family(name) if (fold := self._find_fold(each)) is not None]
        return next(iter(joined(found, self._links)), None)

    def _find_fold(self, name: str) -> SessionFold | None:
        if name.startswith(UNATTRIBUTED):
            found = next((fold for fold in self._folds() if fold.name == name), None)
            if found is not None:
                return found
        return self._open.get(name) or self._closed.get(name)


class CorrelatedFigures(Correlation):
    """Events folded into figures only: no records are kept, and a session takes a fraction of the memory.

    Args:
        max_sessions: As for `Correlation`.
        max_records: How many skills, runs and attempts of a session are remembered to recognise
            repeats.
        joins: As for `Correlation`.
        on_evict: As for `Correlation`.

    Raises:
        ValueError: A limit is less than 1.
    """

    def __init__(
        self,
        max_sessions: int | None = MAX_SESSIONS,
        max_records: int | None = MAX_RECORDS,
        *,
        joins: bool = True,
        on_evict: Callable[[CorrelatedSession], object] | None = None,
    ) -> None:
        super().__init__(max_sessions, max_records, keeps_records=False, joins=joins, on_evict=on_evict)


def _step(cls: type[Event]) -> _Step:
    """Return the step of the nearest base of a class."""
    return next((_STEPS[base] for base in cls.__mro__ if base in _STEPS), _IGNORED)


def _name_of(key: str | _BucketKey) -> str:
    if not isinstance(key, tuple):
        return f"{UNATTRIBUTED}session:{key}" if key.startswith(UNATTRIBUTED) else key
    kind, identity = key
    if isinstance(identity, str):
        return f"{UNATTRIBUTED}{kind}:{identity}"
    workflow_id, number, first_seen = identity
    return f"{UNATTRIBUTED}workflow:{workflow_id}#{number}@{first_seen.isoformat()}"
