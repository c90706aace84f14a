"""Correlate skills and workflows while they run.

live = LiveCorrelator()
with EventBus([live]) as bus:
    ...
    print(live.report())
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from eventbus import (
    CorrelatedSession,
    Correlation,
    EventBus,
    EventsLost,
    ForkSafeLock,
    PatternDetected,
    SessionCorrelated,
    SessionLinked,
    SkillEvent,
    Subscriber,
    WorkflowEvent,
    correlation_report,
    detect_patterns,
    is_remote,
    mark_as_remote,
)

__all__ = ["LiveCorrelator"]


class LiveCorrelator(Subscriber[SkillEvent | WorkflowEvent | SessionLinked | EventsLost]):
    """Folds events into sessions as they arrive, and publishes its findings.

    For a session with both a skill and a workflow it publishes `SessionCorrelated` each time a skill
    or a run begins or ends, or another session is linked to it, not for each node; and `PatternDetected`
    once per session and pattern. Events without a session are kept apart, and nothing is published about
    them. A finding that a remote event led to is remote, too.

    Its methods may be called from any thread, while it runs and afterwards, and return copies.

    Args:
        max_sessions: How many sessions are remembered. Beyond this the session that was quiet for
            longest is evicted, an ended one before an open one.
        max_records: How many records of skills, and of workflow events, are kept of each session;
            its figures also count dropped records.

    Attributes:
        lost: Events that never arrived, because the mailbox overflowed.

    Raises:
        ValueError: A limit is less than 1.
    """

    capacity: int = 16_384
    name: str | None = "live_correlator"

    def __init__(self, *, max_sessions: int = 1_024, max_records: int = 1_000) -> None:
        self.lost: int = 0
        self._correlation = Correlation(max_sessions, max_records)
        self._max_patterns = max_sessions
        self._patterns: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._bus: EventBus | None = None
        self._lock = ForkSafeLock()

    @property
    def evicted(self) -> int:
        """How many sessions were forgotten to make room."""
        return self._correlation.evicted

    @property
    def dropped(self) -> int:
        """How many records were counted, but are not kept."""
        with self._lock:
            return self._correlation.dropped

    def session(self, session_id: str) -> CorrelatedSession | None:
        """Return the current state of a session, or None if it is unknown.

        Args:
            session_id: Its id, or the name of a bucket (see `eventbus.correlation`).
        """
        with self._lock:
            captured = self._correlation.capture(session_id)
        return None if captured is None else captured()

    def sessions(self) -> dict[str, CorrelatedSession]:
        """Return the current state of every session and bucket, by name."""
        with self._lock:
            captured = self._correlation.capture_all()
        return {name: capture() for name, capture in captured.items()}

    def report(self) -> str:
        """Return all sessions as text for people, the latest first."""
        with self._lock:
            figures = self._correlation.all_figures()
        return correlation_report(figures, self._notes())

    async def start(self, bus: EventBus) -> None:
        """Note the bus to publish on."""
        self._bus = bus

    async def handle_batch(
        self, events: Sequence[SkillEvent | WorkflowEvent | SessionLinked | EventsLost]
    ) -> None:
        """Fold events, and publish new findings."""
        for event in events:
            if isinstance(event, EventsLost):
                self.lost += event.count
            else:
                self._fold(event)

    def _fold(self, event: SkillEvent | WorkflowEvent | SessionLinked) -> None:
        figures = session_id = None
        with self._lock:
            if self._correlation.add(event) and event.session_id:
                session_id = self._correlation.owner(event.session_id)
                figures = self._correlation.figures(session_id)
        # Published without the lock: a tap runs in this thread, and may ask for a session.
        if session_id and figures is not None and figures.skills and figures.workflows:
            self._publish(session_id, figures, is_from_elsewhere=is_remote(event))

    def _publish(self, session_id: str, figures: CorrelatedSession, *, is_from_elsewhere: bool) -> None:
        if self._bus is None:
            return
        for finding in self._findings(session_id, figures):
            # The host where the event happened finds the same: each other host would store a copy.
            self._bus.publish(mark_as_remote(finding) if is_from_elsewhere else finding)

    def _findings(
        self, session_id: str, figures: CorrelatedSession
    ) -> Iterator[SessionCorrelated | PatternDetected]:
        yield _correlated(session_id, figures)
        for pattern in detect_patterns(figures):
            if self._is_new(session_id, pattern.name):
                yield PatternDetected(session_id=session_id, pattern=pattern.name, message=pattern.message)

    def _is_new(self, session_id: str, pattern: str) -> bool:
        key = (session_id, pattern)
        if key in self._patterns:
            self._patterns.move_to_end(key)
            return False
        self._patterns[key] = None
        if len(self._patterns) > self._max_patterns:
            self._patterns.popitem(last=False)
        return True

    def _notes(self) -> list[str]:
        notes: list[str] = []
        if self.lost:
            notes.append(f"{self.lost} events were lost before they were counted: figures may be too low")
        if self.evicted:
            notes.append(f"{self.evicted} sessions were evicted to make room, and are not shown")
        return notes


def _correlated(session_id: str, figures: CorrelatedSession) -> SessionCorrelated:
    return SessionCorrelated(
        session_id=session_id,
        skills=figures.skills,
        skills_completed=figures.skills_completed,
        workflows=figures.workflows,
        nodes_completed=figures.node_attempts_completed,
        nodes_failed=figures.node_attempts_failed,
        total_skill_duration=figures.total_skill_duration,
        total_workflow_duration=figures.total_workflow_duration,
        open=figures.is_open,
    )
