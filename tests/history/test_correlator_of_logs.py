"""SkillsWorkflowCorrelator over a log of any length, and over legacy files beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus.correlation import Correlation, correlation_report
from eventbus.correlator import SkillsWorkflowCorrelator
from eventbus.events import (
    Event,
    NodeCompleted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.events.records import SkillInvocation
from eventbus.history import EventLog, folded_log
from eventbus.history.index import INDEX_NAME
from eventbus.history.legacy_formats import invocations_of
from eventbus.history.session_history import SessionHistory
from tests.history.log_examples import segment_path, stored, write_skill_metrics, write_workflow_events

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def of_session(name: str, start: float) -> list[Event]:
    def at(seconds: float) -> datetime:
        return NOON + timedelta(seconds=start + seconds)

    skill: dict[str, Any] = {"session_id": name, "skill_name": "k", "invocation_id": f"i{name}"}
    run: dict[str, Any] = {"session_id": name, "workflow_id": "ci", "run_id": f"r{name}"}
    return [
        SkillStarted(**skill, timestamp=at(0)),
        WorkflowStarted(**run, timestamp=at(1)),
        NodeCompleted(**run, node_id="n", timestamp=at(2), duration_seconds=1.0),
        WorkflowCompleted(**run, timestamp=at(3), duration_seconds=2.0),
        SkillCompleted(**skill, timestamp=at(5), duration_seconds=5.0),
    ]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log with three sessions, in the default directory."""
    directory = tmp_path / ".session-buddy"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTBUS_DIR", raising=False)
    append(directory, [event for number in range(3) for event in of_session(f"s{number}", number * 10.0)])
    return directory


def append(directory: Path, events: list[Event]) -> None:
    with segment_path(directory, start=NOON).open("ab") as file:
        file.writelines(stored(1, event) for event in events)


def expected(directory: Path) -> Correlation:
    correlation = Correlation(None, None)
    correlation.add_all(EventLog(directory))
    return correlation


@pytest.mark.parametrize("indexed", [True, False])
def test_by_default_it_reads_the_log(log: Path, indexed: bool) -> None:
    """Without arguments it reads the log again in each call, with an index and without."""
    if indexed:
        with SessionHistory(EventLog(log)):
            pass
    correlator = SkillsWorkflowCorrelator()
    assert correlator.generate_correlation_report() == correlation_report(expected(log).sessions())
    assert (correlator.get_session_summary("s1") or {})["skills_used"] == 1
    assert correlator.get_session_summary("s9") is None
    append(log, of_session("s9", 90))
    assert (correlator.get_session_summary("s9") or {})["total_skill_duration"] == 5.0
    assert correlator.correlate_by_session() == expected(log).sessions() == correlator.sessions


@pytest.mark.parametrize("as_what", [EventLog, str, Path])
def test_a_log_can_be_named(log: Path, tmp_path: Path, as_what: Any) -> None:
    """A log is given as an EventLog or by its directory; the default files are then ignored."""
    other = log.rename(tmp_path / "other")
    write_skill_metrics(
        tmp_path / ".session-buddy" / "skill_metrics.json", [SkillInvocation("x", NOON.isoformat())]
    )
    assert SkillsWorkflowCorrelator(log=as_what(other)).correlate_by_session() == expected(other).sessions()


def test_a_named_file_is_read_without_the_log(log: Path, tmp_path: Path) -> None:
    """If a file is given, it is read alone."""
    write_skill_metrics(tmp_path / "mine.json", [SkillInvocation("x", NOON.isoformat())])
    (name,) = SkillsWorkflowCorrelator(tmp_path / "mine.json").correlate_by_session()
    assert name.startswith("unattributed:skill:x@")


@pytest.mark.parametrize("indexed", [True, False])
def test_an_export_of_a_log_has_all_records(log: Path, tmp_path: Path, indexed: bool) -> None:
    """An export contains every session with its records, the earliest first."""
    if indexed:
        with SessionHistory(EventLog(log)):
            pass
    SkillsWorkflowCorrelator().export_correlated_data(tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_bytes())["sessions"]
    assert list(written) == ["s0", "s1", "s2"]
    assert written == {name: each.to_dict() for name, each in expected(log).sessions().items()}


@pytest.mark.parametrize("limit", [3, 2])
def test_more_sessions_than_are_held_in_memory(
    log: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """If not all sessions fit into memory, the report is made through the index."""
    monkeypatch.setattr(folded_log, "_MAX_FOLDS", 1)
    monkeypatch.setattr(folded_log, "_MAX_FIGURES", limit - 1)
    report = SkillsWorkflowCorrelator().generate_correlation_report()
    assert report == correlation_report(expected(log).sessions())
    assert (log / INDEX_NAME).exists() is (limit < 3)


# Legacy files beside the log.


def test_what_was_exported_from_the_log_counts_once(log: Path) -> None:
    """Files with the same events as the log, at the same instants, change nothing."""
    before = SkillsWorkflowCorrelator().generate_correlation_report()
    with SessionHistory(EventLog(log)) as history:
        sessions = list(history.sessions())
    write_skill_metrics(log / "skill_metrics.json", invocations_of(sessions))
    write_workflow_events(
        log / "workflow_events.json", (each for one in sessions for each in one.workflow_events)
    )
    correlator = SkillsWorkflowCorrelator()
    assert correlator.generate_correlation_report() == before
    assert correlator.correlate_by_session() == expected(log).sessions()


def test_events_that_only_the_files_contain_are_added(log: Path) -> None:
    """An invocation that only the legacy file contains gets a bucket, a workflow event joins its session."""
    uses = [
        SkillInvocation("old", "2020-01-01T00:00:00", None, True, 7.0),
        SkillInvocation("k", NOON.isoformat()),
    ]
    write_skill_metrics(log / "skill_metrics.json", uses)
    later = WorkflowCompleted(
        session_id="s0", workflow_id="x", run_id="q", timestamp=NOON, duration_seconds=8.0
    )
    write_workflow_events(log / "workflow_events.json", [later])
    correlator = SkillsWorkflowCorrelator()
    report = correlator.generate_correlation_report()
    assert "Total Sessions: 4\n" in report
    assert report.rindex("Session: unattributed:skill:old@") > report.rindex("Session: s0")
    assert (correlator.get_session_summary("s0") or {})["total_workflow_duration"] == 10.0
    assert (correlator.get_session_summary("s0") or {})["skills_used"] == 1
    sessions = correlator.correlate_by_session()
    assert len(sessions) == 4
    assert correlation_report(sessions) == report


def test_without_a_log_there_are_the_files(log: Path) -> None:
    """Without a log, the files are read alone."""
    for segment in (log / "events").iterdir():
        segment.unlink()
    write_skill_metrics(log / "skill_metrics.json", [SkillInvocation("x", NOON.isoformat(), None, True, 1.0)])
    assert "Total Sessions: 1\n" in SkillsWorkflowCorrelator().generate_correlation_report()
    assert not (log / INDEX_NAME).exists()
