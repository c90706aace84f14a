"""Correlate: fold events, in any order and any number of times, into sessions.

The same code runs live, event by event, and on demand, over all that was ever recorded: no I/O, no
clock, no bus. Sessions do not influence each other.

What carries no session id is never merged with anything: each run, and each skill invocation, gets
a bucket of its own, named

    unattributed:run:<run_id>
    unattributed:workflow:<workflow_id>#<number>@<first seen>     a run without an id
    unattributed:skill:<invocation_id>

That prefix is reserved: a session whose own id begins with it is called ``unattributed:session:``
and its id, so that no session is ever taken for a bucket.

Counted as completed are nodes whose status is ``ok``: a skipped node did not run, and is counted as
skipped. A node that failed and succeeded in a later attempt is one completed node, and no failed
one. Where a run has no id, see `eventbus.correlation.inferred_runs`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from eventbus.correlation.bounded_memory import evict_oldest
from eventbus.correlation.correlated_session import (
    CorrelatedSession,
    Pattern,
    correlation_report,
    detect_patterns,
)
from eventbus.correlation.inferred_runs import AttemptKey, InferredRuns, RunKey
from eventbus.correlation.session_fold import SessionFold
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
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
    "Pattern",
    "correlation_report",
    "detect_patterns",
]

MAX_SESSIONS = 1_024
"""How many sessions are remembered unless told otherwise."""
MAX_RECORDS = 1_000
"""How many records are kept of each session, and ids remembered, unless told otherwise."""
UNATTRIBUTED = "unattributed:"
"""What the names of the buckets begin with."""

_BucketKey = tuple[str, RunKey]
_NOTHING, _SKILL, _RUN, _NODE = range(4)
_Step: TypeAlias = tuple[int, Callable[..., bool]]
"""What an event tells of, and what folds it."""
_IGNORED: _Step = (_NOTHING, SessionFold.skill_started)
_STEPS: dict[type[Any], _Step] = {
    SkillStarted: (_SKILL, SessionFold.skill_started),
    SkillCompleted: (_SKILL, SessionFold.skill_completed),
    WorkflowStarted: (_RUN, SessionFold.workflow_started),
    WorkflowCompleted: (_RUN, SessionFold.workflow_completed),
    NodeStarted: (_NODE, SessionFold.node_started),
    NodeCompleted: (_NODE, SessionFold.node_completed),
}


class Correlation:
    """Events folded into sessions. Not safe for several threads: whoever shares it has a lock.

    Args:
        max_sessions: How many sessions are remembered: beyond this the one that nothing happened in
            for longest is evicted, one that has ended before one that goes on. None for no limit.
        max_records: How many records are kept of each session, of skills and of workflow events, the
            newest; and of how many skills, runs and attempts in it a repeat is recognised. Its figures
            count what is no longer kept. None for no limit.

    Attributes:
        evicted: Sessions forgotten. What comes later of one of them makes a new one.

    Raises:
        ValueError: A limit is less than 1.
    """

    def __init__(
        self, max_sessions: int | None = MAX_SESSIONS, max_records: int | None = MAX_RECORDS
    ) -> None:
        for limit in (max_sessions, max_records):
            if limit is not None and limit < 1:
                raise ValueError(f"a limit of {limit} keeps nothing. Pass 1 or more, or None for no limit")
        self.evicted: int = 0
        self._max_sessions = max_sessions
        self._max_records = max_records
        self._keeps_records = True
        self._on_evict: Callable[[CorrelatedSession], object] | None = None
        self._dropped_by_evicted = 0
        # The one touched longest ago first; a session is in one of the two.
        self._open: OrderedDict[str | _BucketKey, SessionFold] = OrderedDict()
        self._closed: OrderedDict[str | _BucketKey, SessionFold] = OrderedDict()
        self._latest_key: str | _BucketKey = ""  # which is the key of none
        self._latest = SessionFold("", None, None)
        self._steps = _STEPS
        self._unnamed: dict[str, InferredRuns] = {}

    @property
    def dropped(self) -> int:
        """How many records were counted but are no longer kept, over all sessions."""
        return self._dropped_by_evicted + sum(session.dropped for session in self._folds())

    def add(self, event: Event) -> bool:
        """Fold one event, in constant time; whenever and however often it comes, it never raises.

        Progress, and events of other classes than the vocabulary's of skills, runs and nodes, change
        nothing.

        Returns:
            Whether it told of a skill or a run that it began or ended, and that was news.
        """
        told_of, fold = self._steps.get(event.__class__) or _step(event.__class__)
        if told_of == _NOTHING:
            return False
        # Typed by what it tells of; and written out, for this is done millions of times.
        told: Any = event
        key: str | _BucketKey = told.session_id
        if told_of == _SKILL:
            session = self._touch(key or ("skill", told.invocation_id))
            news = fold(session, told)
        elif key and told.run_id:
            session = self._latest if key == self._latest_key else self._touch(key)
            news = fold(session, told, told.run_id, told.attempt if told_of == _NODE else 0)
        else:
            session, run, attempt = self._place(told)
            news = fold(session, told, run, attempt)
        if session.is_open is not session.is_filed_open:
            self._file(session)
        return news and told_of != _NODE

    def add_all(self, events: Iterable[Event]) -> None:
        """Fold events, one after the other."""
        add = self.add
        for event in events:
            add(event)

    def read_as(self, mirrors: Mapping[type[Any], type[Event]]) -> None:
        """Fold what is of these classes as events of those they mirror, attribute by attribute.

        For who reads a long history, and need not pay for what building an event costs.
        """
        self._steps = self._steps | {mirror: _STEPS.get(cls, _IGNORED) for mirror, cls in mirrors.items()}

    def _place(self, event: WorkflowEvent) -> tuple[SessionFold, RunKey, AttemptKey]:
        """Return where an event without a session, or without a `run_id`, belongs."""
        run: RunKey | None = event.run_id or None
        attempt: AttemptKey = getattr(event, "attempt", 0)
        if event.session_id:
            session = self._touch(event.session_id)
            if run is None:
                run, attempt = session.place_unnamed(event)
            return session, run, attempt
        if run is None:
            run, attempt = self._place_unnamed(event)
        return self._touch(("run", run)), run, attempt

    def _place_unnamed(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        runs = self._unnamed.get(event.workflow_id)
        if runs is None:
            runs = self._unnamed[event.workflow_id] = InferredRuns(event.workflow_id, self._max_records)
            evict_oldest(self._unnamed, self._max_sessions)
        return runs.place(event)

    def _touch(self, key: str | _BucketKey) -> SessionFold:
        """Return a session as the latest touched one, made if there is none."""
        if key != self._latest_key:  # events of one session come in a row
            self._latest = self._take(key)
            self._latest_key = key
        return self._latest

    def _take(self, key: str | _BucketKey) -> SessionFold:
        for home in (self._open, self._closed):
            session = home.get(key)
            if session is not None:
                home.move_to_end(key)
                return session
        if self._max_sessions is not None and len(self._open) + len(self._closed) >= self._max_sessions:
            _, evicted = (self._closed or self._open).popitem(last=False)
            self.evicted += 1
            self._dropped_by_evicted += evicted.dropped
            if self._on_evict is not None:
                self._on_evict(evicted.figures())
        kept: deque[WorkflowEvent] | None = deque(maxlen=self._max_records) if self._keeps_records else None
        session = self._closed[key] = SessionFold(_name_of(key), self._max_records, kept)
        return session

    def _file(self, session: SessionFold) -> None:
        """Put the session touched last among the open ones or the others, whichever it is one of now."""
        source, target = (self._closed, self._open) if session.is_open else (self._open, self._closed)
        target[self._latest_key] = source.pop(self._latest_key)
        session.is_filed_open = session.is_open

    # Reading: everything handed out is a copy.

    def session(self, session_id: str) -> CorrelatedSession | None:
        """Return a session or bucket by its name, as it stands; None when nothing is known of it."""
        captured = self.capture(session_id)
        return None if captured is None else captured()

    def sessions(self) -> dict[str, CorrelatedSession]:
        """Return every session and bucket by its name, as it stands."""
        return {fold.name: fold.capture()() for fold in self._folds()}

    def figures(self, session_id: str) -> CorrelatedSession | None:
        """Return a session without its records: cheap enough to ask for at each event."""
        fold = self._find(session_id)
        return None if fold is None else fold.figures()

    def all_figures(self) -> dict[str, CorrelatedSession]:
        """Return every session without its records."""
        return {fold.name: fold.figures() for fold in self._folds()}

    def each_figures(self, *, newest_first: bool = False) -> Iterator[CorrelatedSession]:
        """Iterate over every session without its records, made one by one; add nothing meanwhile."""
        folds = self._folds()
        if newest_first:
            folds.sort(key=lambda fold: (fold.start, fold.name), reverse=True)
        return (fold.figures() for fold in folds)

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return len(self._open) + len(self._closed)

    def capture(self, session_id: str) -> Callable[[], CorrelatedSession] | None:
        """Return what makes the session as it stands now, when it is called: quick, under a lock."""
        fold = self._find(session_id)
        return None if fold is None else fold.capture()

    def capture_all(self) -> dict[str, Callable[[], CorrelatedSession]]:
        """Return what makes every session as it stands now, when it is called."""
        return {fold.name: fold.capture() for fold in self._folds()}

    def _folds(self) -> list[SessionFold]:
        return [*self._closed.values(), *self._open.values()]

    def _find(self, name: str) -> SessionFold | None:
        if name.startswith(UNATTRIBUTED):
            named_so = next((fold for fold in self._folds() if fold.name == name), None)
            if named_so is not None:
                return named_so
        return self._open.get(name) or self._closed.get(name)


class CorrelatedFigures(Correlation):
    """Events folded into figures only: no records are kept, and a session takes a fraction of the memory.

    Args:
        max_sessions: As for `Correlation`.
        max_records: Of how many skills, runs and attempts of a session a repeat is recognised.
        on_evict: Is told the figures of each session that is evicted.

    Raises:
        ValueError: A limit is less than 1.
    """

    def __init__(
        self,
        max_sessions: int | None = MAX_SESSIONS,
        max_records: int | None = MAX_RECORDS,
        *,
        on_evict: Callable[[CorrelatedSession], object] | None = None,
    ) -> None:
        super().__init__(max_sessions, max_records)
        self._keeps_records = False
        self._on_evict = on_evict


def _step(cls: type[Event]) -> _Step:
    """Return what folds the nearest base of a class."""
    return next((_STEPS[base] for base in cls.__mro__ if base in _STEPS), _IGNORED)


def _name_of(key: str | _BucketKey) -> str:
    if not isinstance(key, tuple):
        return f"{UNATTRIBUTED}session:{key}" if key.startswith(UNATTRIBUTED) else key
    kind, identity = key
    if isinstance(identity, str):
        return f"{UNATTRIBUTED}{kind}:{identity}"
    workflow_id, number, first_seen = identity
    return f"{UNATTRIBUTED}workflow:{workflow_id}#{number}@{first_seen.isoformat()}"
