"""Find out what of an open session is unfinished: it never ended, and its writer is gone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.events import Event, SkillEvent, SkillStarted, WorkflowEvent
from eventbus.events.outcomes import is_detached
from eventbus.history.segment_files import SegmentFile, Writer
from eventbus.history.writer_lock import is_being_written

__all__ = ["LiveWriters", "all_unfinished", "unfinished"]


class LiveWriters:
    """Which writers of a log are still there; each is looked for once.

    Args:
        segments: The segments of the log.
    """

    def __init__(self, segments: Iterable[SegmentFile]) -> None:
        self._segments: dict[Writer, list[SegmentFile]] = {}
        for segment in segments:
            self._segments.setdefault(segment.writer, []).append(segment)
        self._known: dict[Writer, bool] = {}

    def is_there(self, writer: Writer) -> bool:
        """Return True unless a writer is known to be gone."""
        if writer not in self._known:
            # The latest first: a writer has the lock of the one that it writes.
            segments = reversed(self._segments.get(writer, ()))
            self._known[writer] = any(is_being_written(each.path) for each in segments)
        return self._known[writer]

    def is_any_there(self) -> bool:
        """Return True unless all writers are known to be gone."""
        return any(map(self.is_there, self._segments))


def all_unfinished(session: CorrelatedSession) -> CorrelatedSession:
    """Return the figures of an open session all of whose writers are gone."""
    return _marked(session, session.skills_open - session.skills_detached, session.workflows_open)


def unfinished(session: CorrelatedSession, present: list[Event], gone: list[Event]) -> CorrelatedSession:
    """Return the figures of an open session with its unfinished skills and runs.

    Args:
        session: The figures.
        present: Its events by writers that are still there, or that are not known.
        gone: Its events by writers that are gone.
    """
    correlation = Correlation(None, None, keeps_records=False)
    correlation.add_all(sorted([*present, *gone], key=lambda event: event.timestamp))
    items = correlation.open_items(session.session_id)
    at_work = {_item(event) for event in present}
    at_work |= {each.invocation_id for each in gone if isinstance(each, SkillStarted) and is_detached(each)}
    left_invocations = sum(each not in at_work for each in items.invocations)
    # A run without an id is known by its workflow.
    left_runs = sum((each if isinstance(each, str) else (each[0],)) not in at_work for each in items.runs)
    return _marked(session, left_invocations, left_runs)


def _item(event: Event) -> object:
    if isinstance(event, SkillEvent):
        return event.invocation_id
    return (event.run_id or (event.workflow_id,)) if isinstance(event, WorkflowEvent) else None


def _marked(session: CorrelatedSession, skills: int, runs: int) -> CorrelatedSession:
    skills_open, workflows_open = session.skills_open - skills, session.workflows_open - runs
    is_unfinished = not (skills_open or workflows_open)
    changed = msgspec.structs.replace(
        session,
        skills_open=skills_open,
        skills_unfinished=skills,
        workflows_open=workflows_open,
        workflows_unfinished=runs,
        is_unfinished=is_unfinished,
    )
    if is_unfinished:
        changed.node_attempts_unfinished += changed.node_attempts_open
        changed.node_attempts_open = 0
    return changed
