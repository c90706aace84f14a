"""SkillsWorkflowCorrelator: correlate on demand, what it is given or what the historic files hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from eventbus.correlated_session import session_summary
from eventbus.correlation import CorrelatedSession, Correlation, correlation_report
from eventbus.errors import DecodeError
from eventbus.events import SkillEvent, WorkflowEvent
from eventbus.historic_records import skill_events, workflow_events
from eventbus.json_safe import json_safe, safe_text
from eventbus.records import SkillInvocation
from eventbus.whole_file import write_whole

__all__ = ["SkillsWorkflowCorrelator"]


class SkillsWorkflowCorrelator:
    """Joins skill invocations and workflow events by their session.

    `get_session_summary`, `generate_correlation_report` and `export_correlated_data` tell what
    `correlate_by_session` gave last; before its first call they correlate the files themselves.

    Args:
        skills_file: A historic ``skill_metrics.json``. By default the one in the directory named by
            ``EVENTBUS_DIR``, else in ``.session-buddy`` in the working directory.
        workflow_events_file: A list of workflow event records; by default ``workflow_events.json``
            in that directory.
        source: Where sessions come from instead of from the files, asked each time until
            `correlate_by_session` is called.
    """

    def __init__(
        self,
        skills_file: Path | str | None = None,
        workflow_events_file: Path | str | None = None,
        *,
        source: Callable[[], dict[str, CorrelatedSession]] | None = None,
    ) -> None:
        self._skills_file = skills_file
        self._workflow_events_file = workflow_events_file
        self._source = source
        self._correlation: Correlation | None = None

    @property
    def skills_file(self) -> Path:
        """Where skill invocations are read from; the default follows the working directory."""
        return _file(self._skills_file, "skill_metrics.json")

    @property
    def workflow_events_file(self) -> Path:
        """Where workflow events are read from; the default follows the working directory."""
        return _file(self._workflow_events_file, "workflow_events.json")

    @property
    def sessions(self) -> dict[str, CorrelatedSession]:
        """What was correlated last, as copies; empty before."""
        return {} if self._correlation is None else self._correlation.sessions()

    def correlate_by_session(
        self,
        skill_invocations: Iterable[SkillInvocation | SkillEvent | Mapping[str, Any]] | None = None,
        workflow_events: Iterable[WorkflowEvent | Mapping[str, Any]] | None = None,
    ) -> dict[str, CorrelatedSession]:
        """Correlate what is given, and that alone; with neither argument, what the files hold.

        Args:
            skill_invocations: `SkillInvocation` objects, skill events, or records of either.
            workflow_events: Workflow events, or records of them.

        Returns:
            Every session by its id, and everything that belongs to none in a bucket of its own (see
            `eventbus.correlation`). Copies: changing them changes nothing else.

        Raises:
            DecodeError: A file is damaged, or an item cannot be read; it says which.
            OSError: A file is there and cannot be read.
        """
        if skill_invocations is None and workflow_events is None:
            self._correlation = self._correlate_files()
        else:
            self._correlation = _correlate(skill_invocations or (), workflow_events or ())
        return self._correlation.sessions()

    def get_session_summary(self, session_id: str) -> dict[str, Any] | None:
        """Return the figures of one session, or None when nothing is known of it.

        Raises:
            DecodeError: As for `correlate_by_session`.
            OSError: As for `correlate_by_session`.
        """
        session = self._figures().get(session_id)
        return None if session is None else session_summary(session)

    def generate_correlation_report(self) -> str:
        """Return all sessions as text for people, the one that began last first.

        Raises:
            DecodeError: As for `correlate_by_session`.
            OSError: As for `correlate_by_session`.
        """
        return correlation_report(self._figures())

    def export_correlated_data(self, output_file: Path | str) -> None:
        """Write all sessions, with their records, to a JSON file, whole or not at all.

        The file is of mode 0600, and a directory made for it of 0700.

        Args:
            output_file: Where to write; what is there is replaced.

        Raises:
            DecodeError: As for `correlate_by_session`.
            OSError: As for `correlate_by_session`, or the file cannot be written; then what was
                there is untouched.
        """
        sessions = {safe_text(name): _exported(session) for name, session in self._current().items()}
        document = {"sessions": sessions, "exported_at": datetime.now(UTC).isoformat()}
        write_whole(Path(output_file), msgspec.json.format(msgspec.json.encode(document), indent=2))

    def _current(self) -> dict[str, CorrelatedSession]:
        if self._correlation is None and self._source is not None:
            return self._source()
        return self._correlated().sessions()

    def _figures(self) -> dict[str, CorrelatedSession]:
        if self._correlation is None and self._source is not None:
            return self._source()
        return self._correlated().all_figures()

    def _correlated(self) -> Correlation:
        if self._correlation is None:
            self._correlation = self._correlate_files()
        return self._correlation

    def _correlate_files(self) -> Correlation:
        correlation = _unlimited()
        for path, key, events_of in (
            (self.skills_file, "invocations", skill_events),
            (self.workflow_events_file, None, workflow_events),
        ):
            try:
                correlation.add_all(events_of(_load(path, key)))
            except DecodeError as error:
                raise DecodeError(f"{path} is damaged: {error}. Repair it, or move it away") from error
        return correlation


def _correlate(skills: Iterable[Any], workflows: Iterable[Any]) -> Correlation:
    correlation = _unlimited()
    correlation.add_all(skill_events(skills))
    correlation.add_all(workflow_events(workflows))
    return correlation


def _unlimited() -> Correlation:
    # What it is fed is in memory already: a limit would only make the answer wrong.
    return Correlation(max_sessions=None, max_records=None)


def _file(path: Path | str | None, default_name: str) -> Path:
    if path is not None:
        return Path(path)
    directory = os.environ.get("EVENTBUS_DIR")
    return (Path(directory) if directory else Path.cwd() / ".session-buddy") / default_name


def _load(path: Path, key: str | None) -> list[Any]:
    """Return the list in a JSON file, itself or under a key; a file that is not there holds none."""
    try:
        content: Any = msgspec.json.decode(path.read_bytes())
        if key is not None and isinstance(content, dict):
            content = cast("dict[str, Any]", content).get(key) or []
        return msgspec.convert(content, list[Any])
    except FileNotFoundError:
        return []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error)) from error


def _exported(session: CorrelatedSession) -> dict[str, Any]:
    # Workflow records are JSON-safe; what a tracker was told of a skill may hold anything.
    invocations = [json_safe(invocation) for invocation in session.skill_invocations]
    return {
        **session.to_dict(),
        "session_id": safe_text(session.session_id),
        "skill_invocations": invocations,
    }
