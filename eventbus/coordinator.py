"""SessionCoordinator: what an application holds on to for one session.

    with SessionCoordinator() as coordinator:
        complete = track_skill("crackerjack-run", "comprehensive")
        ...
        complete(follow_up_actions=["git commit"])
        print(coordinator.get_correlation_report())

The report is right at once, bus or no bus: it is made from what the trackers of this process hold,
when it is asked for, in the thread that asks. What others published of the session on the bus is
added to that, read without waiting from a stream that only fills in the meantime. Both tell much of
the same; the fold knows a repeat by the id of what it tells of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self
from weakref import finalize

import anyio

from eventbus.bus import EventBus
from eventbus.contracts import EventSink
from eventbus.correlation import CorrelatedSession, Correlation, correlation_report
from eventbus.correlator import SkillsWorkflowCorrelator
from eventbus.delivery.current_bus import current_bus
from eventbus.delivery.stream import EventStream
from eventbus.errors import EventBusError
from eventbus.events import EventsLost, SkillEvent, WorkflowEvent
from eventbus.events.legacy_records import skill_events
from eventbus.session import current_session_id, mark_active, mark_inactive, new_id, session_scope
from eventbus.trackers import WorkflowEventTracker, get_tracker

__all__ = ["SessionCoordinator"]

STREAM_CAPACITY = 65_536
"""How many events of others may come between two reports before the oldest are lost."""
REPLAY = 1_024
"""How many events are taken from before tracking was initialized, if the bus still has them."""


class SessionCoordinator:
    """One session of an application: its workflow tracker, its correlator, its report.

    From `initialize_workflow_tracking`, which entering its block calls, to `close` the session is
    marked as active in this process: `track_skill`, and trackers without a session of their own,
    belong to it unless another session is active too. Inside its block they do in any case.

    Args:
        bus: Where to publish, and to learn what others published of the session. None: the current
            bus when tracking is initialized, if there is one.
        session_id: The session. None: the one the caller is in, else a new one.

    Attributes:
        session_id: The session.
        workflow_events: What tells of its workflows; None until tracking is initialized.
        skills_correlator: What correlates it; None until tracking is initialized.

    Raises:
        ValueError: `session_id` is empty.
    """

    def __init__(self, bus: EventSink | None = None, *, session_id: str | None = None) -> None:
        if session_id is not None and not session_id:
            raise ValueError("an empty session id names nothing. Pass None to have one made")
        self.session_id: str = session_id or current_session_id() or new_id()
        self.workflow_events: WorkflowEventTracker | None = None
        self.skills_correlator: SkillsWorkflowCorrelator | None = None
        self._bus = bus
        self._told: _Told | None = None
        self._release: Callable[[], object] = _nothing
        self._scope = ExitStack()

    def initialize_workflow_tracking(self) -> None:
        """Begin to track the session; nothing if that was done before."""
        if self._told is not None:
            return
        bus = current_bus() if self._bus is None else self._bus
        self.workflow_events = tracker = WorkflowEventTracker(bus, self.session_id)
        # Neither knows the coordinator: it must become garbage as soon as nobody holds it.
        self._told = told = _Told(self.session_id, tracker, bus)
        self.skills_correlator = SkillsWorkflowCorrelator(source=told.sessions)
        mark = object()
        mark_active(mark, self.session_id)
        self._release = release = finalize(self, _let_go, mark, told)
        release.atexit = False

    def get_correlation_report(self) -> str:
        """Return the session as text for people, as it stands at this instant."""
        if self._told is None:
            return "Correlation tracking not initialized."
        return correlation_report(self._told.sessions(), self._told.notes())

    def close(self) -> None:
        """End the tracking: the session is no longer marked as active. Any number of times.

        The report still tells what was known by then, and what its own trackers are told later.
        """
        if self._told is not None:
            self._told.sessions()
        self._release()

    def __enter__(self) -> Self:
        """Initialize tracking, and make this the session of the block."""
        self.initialize_workflow_tracking()
        self._scope.enter_context(session_scope(self.session_id))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self._scope.close()
        self.close()

    async def __aenter__(self) -> Self:
        """Do as ``with`` does: nothing here waits."""
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.__exit__(exc_type, exc, traceback)


class _Told:
    """All that is told of one session in this process and on its bus."""

    def __init__(self, session_id: str, tracker: WorkflowEventTracker, bus: EventSink | None) -> None:
        self._session_id = session_id
        self._tracker = tracker
        self._lock = threading.Lock()
        self._lost = 0
        # Repeats are told from news by what is remembered: so that must cover all that is held.
        self._correlation = Correlation(max_sessions=1, max_records=STREAM_CAPACITY)
        self._stream = _opened_stream(bus)

    def sessions(self) -> dict[str, CorrelatedSession]:
        """Return the session by its id, as it stands; nothing when nothing was told of it."""
        with self._lock:
            self._drain()
            self._correlation.add_all(self._tracker.events)
            uses = [use for use in get_tracker().invocations if use.session_id == self._session_id]
            self._correlation.add_all(skill_events(uses))
            captured = self._correlation.capture_all()
        return {session_id: capture() for session_id, capture in captured.items()}

    def notes(self) -> list[str]:
        """Return what a reader of the report must know, beside the figures."""
        if not self._lost:
            return []
        return [f"{self._lost} events on the bus came too fast to be counted: the figures may be too low"]

    def release(self) -> None:
        """Learn no more of what others publish."""
        if self._stream is not None:
            self._stream.close()

    def _drain(self) -> None:
        if self._stream is None:
            return
        # No more than it can hold now, and a notice of loss before each: a busy publisher must not
        # keep the report waiting.
        for _ in range(2 * STREAM_CAPACITY):
            try:
                event = self._stream.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                return
            if isinstance(event, EventsLost):
                self._lost += event.count
            elif event.session_id == self._session_id:
                self._correlation.add(event)


def _opened_stream(
    bus: EventSink | None,
) -> EventStream[SkillEvent | WorkflowEvent | EventsLost] | None:
    if not isinstance(bus, EventBus):
        return None
    wanted = (SkillEvent, WorkflowEvent, EventsLost)
    stream = bus.stream(wanted, capacity=STREAM_CAPACITY, replay=REPLAY)
    with suppress(EventBusError):  # the bus is closed: nothing will come from it
        stream.open()
        return stream
    return None


def _let_go(mark: object, told: _Told) -> None:
    # Called by the collector, too, in any thread and amid anything: neither of the two waits.
    mark_inactive(mark)
    told.release()


def _nothing() -> None:
    """Stand in until there is something to release."""
