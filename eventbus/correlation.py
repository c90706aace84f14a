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
one. Where a run has no id, see `eventbus.unnamed_runs`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from eventbus.correlated_session import CorrelatedSession, Pattern, correlation_report, detect_patterns
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeEvent,
    NodeStarted,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.remembered import forget_oldest
from eventbus.session_fold import SessionFold
from eventbus.unnamed_runs import AttemptKey, RunKey, UnnamedRuns

__all__ = [
    "MAX_RECORDS",
    "MAX_SESSIONS",
    "UNATTRIBUTED",
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
_SKILL_STEPS: dict[type[Event], Callable[[SessionFold, Any], bool]] = {
    SkillStarted: SessionFold.skill_started,
    SkillCompleted: SessionFold.skill_completed,
}
_WORKFLOW_STEPS: dict[type[Event], Callable[[SessionFold, Any, RunKey, AttemptKey], bool]] = {
    WorkflowStarted: SessionFold.workflow_started,
    WorkflowCompleted: SessionFold.workflow_completed,
    NodeStarted: SessionFold.node_started,
    NodeCompleted: SessionFold.node_completed,
}


class Correlation:
    """Events folded into sessions. Not safe for several threads: whoever shares it has a lock.

    Args:
        max_sessions: How many sessions are remembered: beyond this the one that nothing happened in
            for longest is evicted, one that has ended before one that goes on. None for no limit.
        max_records: How many records are kept of each session, of skills and of workflow events, the
            newest; and of how many skills, runs and nodes in it a repeat is recognised. Its figures
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
        self._dropped_by_evicted = 0
        # The one touched longest ago first; a session is in one of the two.
        self._open: OrderedDict[str | _BucketKey, SessionFold] = OrderedDict()
        self._closed: OrderedDict[str | _BucketKey, SessionFold] = OrderedDict()
        self._latest_key: str | _BucketKey | None = None
        self._latest: SessionFold | None = None
        self._unnamed: dict[str, UnnamedRuns] = {}

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
        if isinstance(event, WorkflowEvent):
            return self._add_workflow_event(event)
        return isinstance(event, SkillEvent) and self._add_skill_event(event)

    def add_all(self, events: Iterable[Event]) -> None:
        """Fold events, one after the other."""
        for event in events:
            self.add(event)

    def _add_skill_event(self, event: SkillEvent) -> bool:
        step = _step(_SKILL_STEPS, event)
        if step is None:
            return False
        key = event.session_id or ("skill", event.invocation_id)
        session = self._touch(key)
        news = step(session, event)
        self._settle(key, session)
        return news

    def _add_workflow_event(self, event: WorkflowEvent) -> bool:
        step = _step(_WORKFLOW_STEPS, event)
        if step is None:
            return False
        run: RunKey | None = event.run_id or None
        attempt: AttemptKey = getattr(event, "attempt", 0)
        key: str | _BucketKey
        if event.session_id:
            key = event.session_id
            session = self._touch(key)
            if run is None:
                run, attempt = session.place_unnamed(event)
        else:
            if run is None:
                run, attempt = self._place_unnamed(event)
            key = ("run", run)
            session = self._touch(key)
        news = step(session, event, run, attempt)
        self._settle(key, session)
        return news and not isinstance(event, NodeEvent)

    def _place_unnamed(self, event: WorkflowEvent) -> tuple[RunKey, AttemptKey]:
        runs = self._unnamed.get(event.workflow_id)
        if runs is None:
            runs = self._unnamed[event.workflow_id] = UnnamedRuns(event.workflow_id, self._max_records)
            forget_oldest(self._unnamed, self._max_sessions)
        return runs.place(event)

    def _touch(self, key: str | _BucketKey) -> SessionFold:
        """Return a session as the latest touched one, made if there is none."""
        if key == self._latest_key and self._latest is not None:
            return self._latest  # events of one session come in a row
        session = self._take(key)
        self._latest_key, self._latest = key, session
        return session

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
        session = self._closed[key] = SessionFold(_name_of(key), self._max_records)
        return session

    def _settle(self, key: str | _BucketKey, session: SessionFold) -> None:
        """Put a session among the open ones or the others, whichever it is one of now."""
        source, target = (self._closed, self._open) if session.is_open else (self._open, self._closed)
        if key in source:
            del source[key]
            target[key] = session

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


_Step = TypeVar("_Step")


def _step(steps: Mapping[type[Event], _Step], event: Event) -> _Step | None:
    """Return what folds an event's class, or else the nearest base of it."""
    cls: type[Event] = event.__class__
    step = steps.get(cls)
    return step or next((steps[base] for base in cls.__mro__ if base in steps), None)


def _name_of(key: str | _BucketKey) -> str:
    if not isinstance(key, tuple):
        return f"{UNATTRIBUTED}session:{key}" if key.startswith(UNATTRIBUTED) else key
    kind, identity = key
    if isinstance(identity, str):
        return f"{UNATTRIBUTED}{kind}:{identity}"
    workflow_id, number, first_seen = identity
    return f"{UNATTRIBUTED}workflow:{workflow_id}#{number}@{first_seen.isoformat()}"
