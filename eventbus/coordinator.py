"""SessionCoordinator: one session of an application, with its workflow tracker and its report.

    with SessionCoordinator() as coordinator:
        complete = track_skill("crackerjack-run", "comprehensive")
        ...
        complete(follow_up_actions=["git commit"])
        print(coordinator.get_correlation_report())

The report is complete at once, with a bus or without: it is made in the calling thread, from the
events that the trackers of this process hold. Events of the session that others published on the bus are
read from a stream, without waiting. Most events are in both; the correlation recognises a repeated one
by its id.
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
"""The number of events on the bus between two reports beyond which the oldest are lost."""
REPLAY = 1_024
"""The number of events from before tracking was initialized, if the bus still has them."""


class SessionCoordinator:
    """One session of an application: its workflow tracker, its correlator, its report.

    Entering its block calls `initialize_workflow_tracking`. From then until `close` the session is marked
    as active in this process: `track_skill` and trackers without a session belong to it, unless another
    session is active, too. Inside the block they always do.

    Args:
        bus: The bus to publish on, and to read events of the session from. None: the current bus when
            tracking is initialized, if there is one.
        session_id: The id of the session. None: the current session, otherwise a new one.

    Attributes:
        session_id: The id of the session.
        workflow_events: The tracker of its workflows; None until tracking is initialized.
        skills_correlator: Its correlator; None until tracking is initialized.

    Raises:
        ValueError: `session_id` is empty.
    """

    def __init__(self, bus: EventSink | None = None, *, session_id: str | None = None) -> None:
        if session_id is not None and not session_id:
            raise ValueError("a session id must not be empty. Pass None to make a new one")
        self.session_id: str = session_id or current_session_id() or new_id()
        self.workflow_events: WorkflowEventTracker | None = None
        self.skills_correlator: SkillsWorkflowCorrelator | None = None
        self._bus = bus
        self._view: _SessionView | None = None
        self._release: Callable[[], object] = _nothing
        self._scope = ExitStack()

    def initialize_workflow_tracking(self) -> None:
        """Begin to track the session; does nothing if that was done before."""
        if self._view is not None:
            return
        bus = current_bus() if self._bus is None else self._bus
        self.workflow_events = tracker = WorkflowEventTracker(bus, self.session_id)
        # Neither refers to the coordinator, which must become garbage when its last user drops it.
        self._view = view = _SessionView(self.session_id, tracker, bus)
        self.skills_correlator = SkillsWorkflowCorrelator(source=view.sessions)
        mark = object()
        mark_active(mark, self.session_id)
        self._release = release = finalize(self, _release, mark, view)
        release.atexit = False

    def get_correlation_report(self) -> str:
        """Return a report on the session as text, up to this moment."""
        if self._view is None:
            return "Correlation tracking not initialized."
        return correlation_report(self._view.sessions(), self._view.notes())

    def close(self) -> None:
        """Mark the session as no longer active. May be called any number of times.

        The report stays, and later events of the coordinator's own trackers are added to it.
        """
        if self._view is not None:
            self._view.sessions()
        self._release()

    def __enter__(self) -> Self:
        """Initialize tracking, and make this the current session of the block."""
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
        """Do the same as ``with``, which does not wait."""
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.__exit__(exc_type, exc, traceback)


class _SessionView:
    """The events of one session, from the trackers of this process and from a bus."""

    def __init__(self, session_id: str, tracker: WorkflowEventTracker, bus: EventSink | None) -> None:
        self._session_id = session_id
        self._tracker = tracker
        self._lock = threading.Lock()
        self._lost = 0
        # It recognises repeats among the records that it remembers: that must be all that are held.
        self._correlation = Correlation(max_sessions=1, max_records=STREAM_CAPACITY)
        self._stream = _opened_stream(bus)

    def sessions(self) -> dict[str, CorrelatedSession]:
        """Return the session by its id, up to this moment; empty if it has no events."""
        with self._lock:
            self._read_stream()
            self._correlation.add_all(self._tracker.events)
            invocations = get_tracker().invocations
            own = [each for each in invocations if each.session_id == self._session_id]
            self._correlation.add_all(skill_events(own))
            captured = self._correlation.capture_all()
        return {session_id: capture() for session_id, capture in captured.items()}

    def notes(self) -> list[str]:
        """Return warnings for the reader of the report."""
        if not self._lost:
            return []
        return [f"{self._lost} events on the bus came too fast to be counted: the figures may be too low"]

    def release(self) -> None:
        """Stop reading from the bus."""
        if self._stream is not None:
            self._stream.close()

    def _read_stream(self) -> None:
        if self._stream is None:
            return
        # At most the events that it can hold, and an `EventsLost` before each: a busy publisher must
        # not delay the report forever.
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
    classes = (SkillEvent, WorkflowEvent, EventsLost)
    stream = bus.stream(classes, capacity=STREAM_CAPACITY, replay=REPLAY)
    with suppress(EventBusError):  # the bus is closed
        stream.open()
        return stream
    return None


def _release(mark: object, view: _SessionView) -> None:
    # Also called by the garbage collector, in any thread at any time: neither call waits.
    mark_inactive(mark)
    view.release()


def _nothing() -> None:
    """Do nothing: tracking is not initialized."""
