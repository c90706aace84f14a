"""SkillsWorkflowCorrelator: correlating on demand."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventbus.correlation import CorrelatedSession
from eventbus.correlator import SkillsWorkflowCorrelator
from eventbus.errors import DecodeError
from eventbus.events import NodeCompleted, SkillCompleted, SkillStarted, WorkflowCompleted
from eventbus.events.records import SkillInvocation

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
INVOCATION: dict[str, Any] = {
    "skill_name": "run", "invoked_at": "2025-06-01T12:00:00+00:00", "workflow_path": None, "completed": True,
    "duration_seconds": 30.0, "follow_up_actions": [], "error_type": None, "session_id": "s",
}  # fmt: skip
NODE: dict[str, Any] = {
    "event_type": "node_completed", "workflow_id": "crackerjack", "node_id": "tests", "session_id": "s",
    "timestamp": "2025-06-01T12:00:05+00:00", "metadata": {"success": True, "duration_seconds": 4.0},
}  # fmt: skip
RUN: dict[str, Any] = NODE | {"event_type": "workflow_completed", "node_id": None}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose `.session-buddy` holds both files."""
    monkeypatch.chdir(tmp_path)
    found = tmp_path / ".session-buddy"
    found.mkdir()
    document = {"invocations": [INVOCATION], "skills": {"run": {}}, "last_updated": "x", "version": 9}
    (found / "skill_metrics.json").write_text(json.dumps(document))
    (found / "workflow_events.json").write_text(json.dumps([NODE, RUN, {"event_type": "later_version"}]))
    return found


def test_skills_and_workflows_meet_by_session() -> None:
    """Records of skills and workflows with the same session id make one session."""
    sessions = SkillsWorkflowCorrelator().correlate_by_session([INVOCATION], [NODE, RUN])
    assert list(sessions) == ["s"]
    session = sessions["s"]
    assert (session.skills_completed, session.workflow_nodes_completed) == (1, 1)
    assert (session.total_skill_duration, session.total_workflow_duration) == (30.0, 4.0)
    assert (session.start_time, session.end_time) == (
        "2025-06-01T12:00:00+00:00",
        "2025-06-01T12:00:30+00:00",
    )


def test_typed_events_and_invocations_are_taken_too() -> None:
    """Invocation objects, skill events and workflow events can be mixed, and repeats count once."""
    started = SkillStarted(session_id="s", skill_name="run", invocation_id="i", timestamp=NOON)
    ended = SkillCompleted(
        session_id="s", skill_name="run", invocation_id="i", timestamp=NOON, duration_seconds=1.0
    )
    same = SkillInvocation("run", NOON.isoformat(), None, True, 1.0, [], None, "s", "i")
    node = NodeCompleted(session_id="s", workflow_id="ci", run_id="r", node_id="a")
    sessions = SkillsWorkflowCorrelator().correlate_by_session([started, ended, same], [node, node])
    assert (sessions["s"].skills, sessions["s"].workflow_nodes_completed) == (1, 1)


def test_a_failed_node_is_not_completed() -> None:
    """Nodes are counted by status."""
    failed = NODE | {"node_id": "lint", "metadata": {"success": False}}
    session = SkillsWorkflowCorrelator().correlate_by_session([], [NODE, failed])["s"]
    assert (session.workflow_nodes_completed, session.workflow_nodes_failed) == (1, 1)


def test_calls_do_not_accumulate() -> None:
    """A call correlates the records it is given, and none of earlier calls."""
    correlator = SkillsWorkflowCorrelator()
    first = correlator.correlate_by_session([INVOCATION], [RUN])
    assert correlator.correlate_by_session([INVOCATION], [RUN]) == first
    other = correlator.correlate_by_session([INVOCATION | {"session_id": "t"}], [])
    assert list(other) == list(correlator.sessions) == ["t"]
    assert correlator.correlate_by_session([], []) == {}


def test_what_it_returns_is_a_copy() -> None:
    """Changing a result changes neither the correlator nor the caller's records."""
    correlator = SkillsWorkflowCorrelator()
    record = json.loads(json.dumps(NODE))
    sessions = correlator.correlate_by_session([INVOCATION], [record])
    sessions["s"].workflow_events[0]["metadata"]["x"] = 1
    sessions["s"].skills_completed = 99
    sessions.clear()
    assert correlator.sessions["s"].skills_completed == 1
    assert "x" not in correlator.sessions["s"].workflow_events[0]["metadata"]
    assert record == NODE


def test_many_sessions_are_all_returned() -> None:
    """No session is evicted: the limits of the live correlator do not apply."""
    records = [INVOCATION | {"session_id": f"s{n}"} for n in range(2_000)]
    assert len(SkillsWorkflowCorrelator().correlate_by_session(records, [])) == 2_000


def test_the_summary_has_the_historic_keys() -> None:
    """The summary of a session has a completion rate in percent; an unknown session has none."""
    correlator = SkillsWorkflowCorrelator()
    abandoned = INVOCATION | {"completed": False, "invoked_at": "2025-06-01T12:01:00+00:00"}
    correlator.correlate_by_session([INVOCATION, abandoned], [NODE, RUN])
    summary = correlator.get_session_summary("s")
    assert summary is not None
    assert summary["outcome"] == "cancelled"
    assert dict(list(summary.items())[:6]) == {
        "session_id": "s",
        "skills_used": 2,
        "workflow_nodes_executed": 1,
        "total_skill_duration": 60.0,
        "total_workflow_duration": 4.0,
        "skill_completion_rate": 50.0,
    }
    assert correlator.get_session_summary("t") is None


def test_a_session_without_skills_has_a_rate_of_0() -> None:
    """The completion rate of a session without skills is 0."""
    correlator = SkillsWorkflowCorrelator()
    correlator.correlate_by_session([], [NODE])
    summary = correlator.get_session_summary("s")
    assert summary is not None
    assert summary["skill_completion_rate"] == 0


def test_the_report_of_what_was_correlated() -> None:
    """The report shows the result of the last call, in the legacy form."""
    correlator = SkillsWorkflowCorrelator()
    correlator.correlate_by_session([INVOCATION], [NODE, RUN])
    report = correlator.generate_correlation_report()
    for line in (
        "Total Sessions: 1",
        "Session: s",
        "  Skills Used: 1",
        "  Workflow Nodes: 1",
        "  Skill Duration: 30.0s",
    ):
        assert line in report.splitlines()


# Files.


@pytest.mark.usefixtures("directory")
def test_without_arguments_the_files_are_read() -> None:
    """Without arguments both legacy files of the working directory are correlated."""
    session = SkillsWorkflowCorrelator().correlate_by_session()["s"]
    assert (session.skills_completed, session.workflow_nodes_completed) == (1, 1)


@pytest.mark.usefixtures("directory")
def test_summary_report_and_export_read_the_files_first(tmp_path: Path) -> None:
    """Before the first correlation, summary, report and export read the files themselves."""
    assert SkillsWorkflowCorrelator().get_session_summary("s") is not None
    assert "Session: s" in SkillsWorkflowCorrelator().generate_correlation_report()
    SkillsWorkflowCorrelator().export_correlated_data(tmp_path / "out.json")
    assert "s" in json.loads((tmp_path / "out.json").read_bytes())["sessions"]


@pytest.mark.usefixtures("directory")
def test_one_argument_is_enough_to_leave_the_files_alone() -> None:
    """An empty list is an argument: the files are not read."""
    assert SkillsWorkflowCorrelator().correlate_by_session([]) == {}
    assert SkillsWorkflowCorrelator().correlate_by_session(workflow_events=[]) == {}


def test_missing_files_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without files there is nothing to report, and no file is made."""
    monkeypatch.chdir(tmp_path)
    assert SkillsWorkflowCorrelator().correlate_by_session() == {}
    assert SkillsWorkflowCorrelator().generate_correlation_report() == "No correlated sessions found."
    assert list(tmp_path.iterdir()) == []


def test_the_default_directory_is_looked_up_when_used(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Default files are looked for when they are read, and in `EVENTBUS_DIR` first."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    correlator = SkillsWorkflowCorrelator()
    assert correlator.correlate_by_session() == {}
    monkeypatch.setenv("EVENTBUS_DIR", str(directory))
    assert list(correlator.correlate_by_session()) == ["s"]
    assert correlator.skills_file == directory / "skill_metrics.json"


def test_files_can_be_named(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given files may be anywhere, as paths or as texts."""
    monkeypatch.chdir(tmp_path.parent)
    correlator = SkillsWorkflowCorrelator(directory / "skill_metrics.json", directory / "none.json")
    assert correlator.correlate_by_session()["s"].workflows == 0
    correlator = SkillsWorkflowCorrelator(None, str(directory / "workflow_events.json"))
    assert correlator.correlate_by_session()["s"].skills == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("skill_metrics.json", b"{"),
        ("skill_metrics.json", b""),
        ("skill_metrics.json", b'{"invocations": 3}'),
        ("skill_metrics.json", b'{"invocations": [7]}'),
        ("skill_metrics.json", b'{"invocations": [{"skill_name": "\xff"}]}'),
        ("workflow_events.json", b'{"a": 1}'),
        ("workflow_events.json", b"[" * 100_000),
        (
            "workflow_events.json",
            b'[{"event_type": "node_completed", "metadata": {"duration_seconds": "x"}}]',
        ),
    ],
)
def test_a_damaged_file_is_one_clear_error(directory: Path, name: str, content: bytes) -> None:
    """A damaged file is a `DecodeError` that names the file and says what to do."""
    (directory / name).write_bytes(content)
    with pytest.raises(DecodeError, match=rf"{name} is damaged: .*Repair it, or move it away"):
        SkillsWorkflowCorrelator().correlate_by_session()


@pytest.mark.parametrize("content", [b"{}", b'{"invocations": null}', b'{"invocations": []}', b"[]"])
def test_a_file_without_invocations_is_no_damage(directory: Path, content: bytes) -> None:
    """A file of the right form without invocations is empty."""
    (directory / "skill_metrics.json").write_bytes(content)
    assert SkillsWorkflowCorrelator().correlate_by_session()["s"].skills == 0


def test_historic_invocations_without_session_stay_apart(directory: Path) -> None:
    """The legacy file has no sessions: each of its invocations is a group of its own."""
    record = {key: value for key, value in INVOCATION.items() if key != "session_id"}
    (directory / "skill_metrics.json").write_text(json.dumps({"invocations": [record, record]}))
    (directory / "workflow_events.json").unlink()
    sessions = SkillsWorkflowCorrelator().correlate_by_session()
    assert len(sessions) == 2
    assert all(name.startswith("unattributed:skill:run@") for name in sessions)


# The export.


def exported(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    assert isinstance(document, dict)
    return document


def test_the_export_has_the_historic_form(tmp_path: Path) -> None:
    """The export holds the sessions by id with nine keys each, and its aware time."""
    correlator = SkillsWorkflowCorrelator()
    session = correlator.correlate_by_session([INVOCATION], [NODE, RUN])["s"]
    correlator.export_correlated_data(tmp_path / "out.json")
    document = exported(tmp_path / "out.json")
    assert list(document) == ["sessions", "exported_at"]
    assert document["sessions"] == {"s": session.to_dict()}
    assert datetime.fromisoformat(document["exported_at"]).tzinfo is not None


def test_the_export_makes_private_directories_and_takes_a_text(tmp_path: Path) -> None:
    """The path may be a text; the file gets mode 0600, and a new directory 0700."""
    target = tmp_path / "new" / "out.json"
    correlator = SkillsWorkflowCorrelator()
    correlator.correlate_by_session([INVOCATION], [])
    correlator.export_correlated_data(str(target))
    assert (target.stat().st_mode & 0o777, target.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(target.parent.iterdir()) == [target]


def test_hostile_values_are_exported(tmp_path: Path) -> None:
    """Paths, sets, NaN, bytes and lone surrogates do not stop an export."""
    skill = SkillCompleted(
        session_id="a\ud800", skill_name="x\udfff", duration_seconds=float("nan"),
        follow_up_actions=("\ud800",), metadata={"path": Path("/x"), "set": {1}},
    )  # fmt: skip
    node = NodeCompleted(
        session_id="a\ud800", workflow_id="w\ud800", node_id="n", metadata={"b": b"x", "n": float("inf")}
    )
    correlator = SkillsWorkflowCorrelator()
    correlator.correlate_by_session([skill], [node])
    correlator.export_correlated_data(tmp_path / "out.json")
    (session,) = exported(tmp_path / "out.json")["sessions"].values()
    assert (len(session["skill_invocations"]), len(session["workflow_events"])) == (1, 1)


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new file cannot be completed, the old one is unchanged."""
    target = tmp_path / "out.json"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    correlator = SkillsWorkflowCorrelator()
    correlator.correlate_by_session([INVOCATION], [])
    with pytest.raises(OSError, match="No space"):
        correlator.export_correlated_data(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_correlated_is_an_empty_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export without sessions is a complete document."""
    monkeypatch.chdir(tmp_path)
    SkillsWorkflowCorrelator().export_correlated_data(Path("out.json"))
    assert exported(tmp_path / "out.json")["sessions"] == {}


def test_a_source_is_asked_each_time_until_something_is_correlated() -> None:
    """A source replaces the files; it is called each time, until records are given."""
    asked: list[int] = []

    def source() -> dict[str, CorrelatedSession]:
        asked.append(1)
        return {"live": CorrelatedSession("live", NOON.isoformat())}

    correlator = SkillsWorkflowCorrelator(source=source)
    assert correlator.get_session_summary("live") is not None
    assert "Session: live" in correlator.generate_correlation_report()
    assert len(asked) == 2
    correlator.correlate_by_session([INVOCATION], [])
    assert correlator.get_session_summary("live") is None
    assert len(asked) == 2


def test_runs_without_an_id_add_up() -> None:
    """Two legacy runs of one session, without run ids, are both counted."""
    later = RUN | {"timestamp": "2025-06-01T13:00:00+00:00"}
    sessions = SkillsWorkflowCorrelator().correlate_by_session([], [RUN, later])
    assert sessions["s"].total_workflow_duration == 8.0


def test_a_typed_run_with_the_same_id_counts_once() -> None:
    """A repeated completion of a run with an id is counted once."""
    ends = [
        WorkflowCompleted(session_id="s", workflow_id="ci", run_id="r", duration_seconds=4.0)
        for _ in range(2)
    ]
    assert SkillsWorkflowCorrelator().correlate_by_session([], ends)["s"].total_workflow_duration == 4.0
