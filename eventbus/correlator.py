"""SkillsWorkflowCorrelator: correlate given events, the event log, or legacy files, on demand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.correlation.session_report import newest_first, report_lines, session_summary
from eventbus.errors import DecodeError
from eventbus.events import Event, SkillEvent, SkillStarted, WorkflowEvent
from eventbus.events.legacy_records import skill_events
from eventbus.events.legacy_records import workflow_events as _workflow_events
from eventbus.events.printable import printable
from eventbus.events.records import SkillInvocation
from eventbus.settings import log_directory

if TYPE_CHECKING:
    from eventbus.history import EventLog

__all__ = ["SkillsWorkflowCorrelator"]

_MAX_WARNING = 1_000
_logger = logging.getLogger("eventbus")


class SkillsWorkflowCorrelator:
    """Joins skill invocations and workflow events by their session.

    `get_session_summary`, `generate_correlation_report` and `export_correlated_data` use the result of
    the last `correlate_by_session`; before the first they read the recorded events themselves.

    Without arguments it reads `eventbus.log_directory()`: the event log, and from the two legacy files
    there the records that the log lacks. A file that is given is read without the log, and a log that is
    given without the files. Beside a log, a default file that cannot be read is left out with a warning.

    Each call reads the log again, one session at a time, whatever its size.

    Args:
        skills_file: A legacy ``skill_metrics.json``; by default the one in that directory.
        workflow_events_file: A list of workflow event records; by default ``workflow_events.json``
            in that directory.
        log: An `eventbus.history.EventLog`, or the directory of one.
        source: A function that returns the sessions instead; it is called each time until
            `correlate_by_session` is called.
    """

    def __init__(
        self,
        skills_file: Path | str | None = None,
        workflow_events_file: Path | str | None = None,
        *,
        log: EventLog | Path | str | None = None,
        source: Callable[[], dict[str, CorrelatedSession]] | None = None,
    ) -> None:
        self._skills_file = skills_file
        self._workflow_events_file = workflow_events_file
        self._log = log
        self._source = source
        self._correlation: Correlation | None = None
        self._unfinished: dict[str, CorrelatedSession] = {}

    @property
    def skills_file(self) -> Path:
        """The file of skill invocations; the default follows the working directory."""
        return _path(self._skills_file, "skill_metrics.json")

    @property
    def workflow_events_file(self) -> Path:
        """The file of workflow events; the default follows the working directory."""
        return _path(self._workflow_events_file, "workflow_events.json")

    @property
    def sessions(self) -> dict[str, CorrelatedSession]:
        """The result of the last `correlate_by_session`, as copies; empty before the first."""
        return {} if self._correlation is None else self._correlation.sessions() | deepcopy(self._unfinished)

    def correlate_by_session(
        self,
        skill_invocations: Iterable[SkillInvocation | SkillEvent | Mapping[str, Any]] | None = None,
        workflow_events: Iterable[WorkflowEvent | Mapping[str, Any]] | None = None,
    ) -> dict[str, CorrelatedSession]:
        """Correlate the given events only, or the recorded events if no argument is given.

        Args:
            skill_invocations: `SkillInvocation` objects, skill events, or records of either.
            workflow_events: Workflow events, or records of them.

        Returns:
            Each session by its id; events without a session are grouped by run (see
            `eventbus.correlation`). The sessions are copies.

        Raises:
            DecodeError: A file is damaged, or an item cannot be read; the message says which.
            OSError: A file exists and cannot be read.
        """
        self._unfinished = {}
        if skill_invocations is None and workflow_events is None:
            self._correlation = _correlate(self._recorded_events())
            self._unfinished = self._left_unfinished(self._correlation)
        else:
            given = chain(skill_events(skill_invocations or ()), _workflow_events(workflow_events or ()))
            self._correlation = _correlate(given)
        return self.sessions

    def get_session_summary(self, session_id: str) -> dict[str, Any] | None:
        """Return the figures of one session, or None if there is no such session.

        Raises:
            DecodeError: As for `correlate_by_session`.
            OSError: As for `correlate_by_session`.
        """
        with self._open_sessions() as sessions:
            session = sessions.figures_of(session_id)
        return None if session is None else session_summary(session)

    def generate_correlation_report(self) -> str:
        """Return a report on all sessions as text, the newest first.

        Raises:
            DecodeError: As for `correlate_by_session`.
            OSError: As for `correlate_by_session`.
        """
        report = StringIO()  # a list would keep each line as an object
        with self._open_sessions() as sessions:
            for line in report_lines(sessions.figures(), count=sessions.count()):
                report.write(line)
                report.write("\n")
        return report.getvalue().removesuffix("\n")

    def export_correlated_data(self, output_file: Path | str) -> None:
        """Write all sessions, with their records, to a JSON file, whole or not at all.

        The file gets mode 0600, and a directory that is made for it 0700.

        Args:
            output_file: The file; it is replaced.

        Raises:
            DecodeError: As for `correlate_by_session`.
            OSError: As for `correlate_by_session`, or the file cannot be written; then the old one is
                unchanged.
        """
        from eventbus.history.legacy_formats import write_correlation  # noqa: PLC0415 - costs an import of eventbus

        with self._open_sessions(records=True) as sessions:
            write_correlation(output_file, sessions.sessions())

    @contextmanager
    def _open_sessions(self, *, records: bool = False) -> Generator[_Sessions]:
        """Open the sessions of the last `correlate_by_session`, otherwise those of the recorded events."""
        log = self._existing_log() if self._correlation is None and self._source is None else None
        if log is None:
            found = self._sessions_in_memory()
            values = found.values()
            yield _Sessions(
                lambda: iter(newest_first(values)), found.get, lambda: iter(values), found.__len__
            )
            return
        from eventbus.history.folded_log import fold_log  # noqa: PLC0415 - costs an import of eventbus
        from eventbus.history.session_history import SessionHistory  # noqa: PLC0415

        others = self._missing_from(log)
        figures = None if records or others else fold_log(log)
        if figures is not None:
            yield _Sessions(figures.figures, figures.figures_of, figures.figures, figures.count)
            return
        with SessionHistory(log, others) as history:
            yield _Sessions(history.figures, history.figures_of, history.sessions, history.count)

    def _sessions_in_memory(self) -> dict[str, CorrelatedSession]:
        if self._correlation is None and self._source is not None:
            return self._source()
        if self._correlation is not None:
            return self.sessions
        return _correlate(self._file_events()).sessions()

    def _recorded_events(self) -> Iterator[Event]:
        log = self._existing_log()
        return iter(self._file_events()) if log is None else chain(log, self._missing_from(log))

    def _left_unfinished(self, correlation: Correlation) -> dict[str, CorrelatedSession]:
        """Return the open sessions of the log that are unfinished in part: some of their writers are gone."""
        log = self._existing_log()
        if log is None or not correlation.has_open:
            return {}
        from eventbus.history.session_history import SessionHistory  # noqa: PLC0415 - as above

        names = [name for name, each in correlation.all_figures().items() if each.is_open]
        with SessionHistory(log, self._missing_from(log)) as history:
            found = map(history.session, names)
            return {each.session_id: each for each in found if each is not None}

    def _existing_log(self) -> EventLog | None:
        """Return the log to read, if it exists."""
        from eventbus.history import EventLog  # noqa: PLC0415 - as above

        if self._log is not None:
            return self._log if isinstance(self._log, EventLog) else EventLog(self._log)
        if self._skills_file is not None or self._workflow_events_file is not None:
            return None
        log = EventLog()
        return log if log.segments() else None

    def _missing_from(self, log: EventLog) -> list[SkillEvent | WorkflowEvent]:
        """Return the events of the files that a log lacks."""
        if self._log is not None:
            return []
        # A default file that cannot be read costs itself alone, not the sessions of the log.
        events = self._file_events(on_error=_warn)
        if not events:
            return []
        missing = {_identity(event): event for event in events}
        for event in log.events(types=SkillEvent | WorkflowEvent):
            missing.pop(_identity(event), None)
        invocations = {event.invocation_id for event in missing.values() if isinstance(event, SkillStarted)}
        return [
            event
            for event in events
            if (
                event.invocation_id in invocations
                if isinstance(event, SkillEvent)
                else _identity(event) in missing
            )
        ]

    def _file_events(
        self, on_error: Callable[[Exception], None] | None = None
    ) -> list[SkillEvent | WorkflowEvent]:
        from eventbus.history.legacy_formats import read_skill_metrics, read_workflow_events  # noqa: PLC0415

        events: list[SkillEvent | WorkflowEvent] = []
        for read in (
            lambda: skill_events(read_skill_metrics(self.skills_file)),
            lambda: read_workflow_events(self.workflow_events_file),
        ):
            try:
                events += read()
            except (DecodeError, OSError) as error:
                if on_error is None:
                    raise
                on_error(error)
        return events


class _Sessions(msgspec.Struct, frozen=True):
    """The ways to read a set of sessions, in memory or in a log; see `SessionHistory`."""

    figures: Callable[[], Iterator[CorrelatedSession]]
    figures_of: Callable[[str], CorrelatedSession | None]
    sessions: Callable[[], Iterator[CorrelatedSession]]
    count: Callable[[], int]


def _warn(error: Exception) -> None:
    _logger.warning("left out: %s", printable(str(error), _MAX_WARNING))


def _correlate(events: Iterable[Event]) -> Correlation:
    # All events are wanted, or in memory already: a limit would only make the result wrong.
    correlation = Correlation(max_sessions=None, max_records=None)
    correlation.add_all(events)
    return correlation


def _identity(event: Event) -> tuple[object, ...]:
    """Return the fields that an event shares with a record of it without ids."""
    names = (getattr(event, name, None) for name in ("skill_name", "workflow_id", "node_id"))
    return type(event), *names, event.timestamp


def _path(path: Path | str | None, default_name: str) -> Path:
    return Path(path) if path is not None else log_directory() / default_name
