"""The files in which other programs keep skills, workflows and sessions, written and read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.errors import DecodeError
from eventbus.events import NodeCompleted, NodeStarted, SkillCompleted, SkillStarted, WorkflowStarted, encode
from eventbus.events.legacy_records import skill_events
from eventbus.events.records import SkillInvocation
from eventbus.ground.atomic_file import write_atomically
from eventbus.history.legacy_formats import (
    correlation_parts,
    invocations_of,
    read_skill_metrics,
    read_workflow_events,
    session_buddy_parts,
    skill_metrics_parts,
    workflow_events_parts,
    write_correlation,
)
from tests.history.log_examples import write_skill_metrics, write_workflow_events

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SEVEN = [
    "skill_name", "invoked_at", "workflow_path", "completed", "duration_seconds", "follow_up_actions",
    "error_type",
]  # fmt: skip
USE = SkillInvocation("run", NOON.isoformat(), "daily", True, 4.0, ["git commit"], None, "s", "i")


def document(parts: Iterator[bytes]) -> Any:
    return json.loads(b"".join(parts))


@pytest.fixture
def in_oslo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the local time differ from UTC."""
    monkeypatch.setenv("TZ", "Europe/Oslo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# skill_metrics.json


@pytest.mark.usefixtures("in_oslo")
def test_skill_metrics_have_the_legacy_form() -> None:
    """Each invocation has exactly seven keys and a naive local time; the sums count those that ended."""
    abandoned = SkillInvocation(
        "run", (NOON + timedelta(hours=1)).isoformat(), None, False, 2.0, [], "ValueError"
    )
    running = SkillInvocation("other", NOON.isoformat())
    written = document(skill_metrics_parts([USE, abandoned, running]))
    assert list(written) == ["invocations", "skills", "last_updated"]
    assert [list(each) for each in written["invocations"]] == [SEVEN] * 3
    assert written["invocations"][0]["invoked_at"] == "2026-01-02T13:00:00"
    assert datetime.fromisoformat(written["last_updated"]).tzinfo is None
    assert written["skills"] == {
        "run": {
            "skill_name": "run",
            "total_invocations": 2,
            "completed_invocations": 1,
            "abandoned_invocations": 1,
            "total_duration_seconds": 4.0,
            "workflow_paths": {"daily": 1},
            "common_errors": {"ValueError": 1},
            "follow_up_actions": {"git commit": 1},
            "first_invoked": "2026-01-02T13:00:00",
            "last_invoked": "2026-01-02T14:00:00",
            "completion_rate": 50.0,
            "avg_duration_seconds": 4.0,
        }
    }


class _Legacy:
    """Takes the keys of an invocation as the legacy reader does: with another key it fails."""

    def __init__(
        self, skill_name: str, invoked_at: str, workflow_path: str | None = None, completed: bool = False,
        duration_seconds: float | None = None, follow_up_actions: list[str] | None = None,
        error_type: str | None = None,
    ) -> None:  # fmt: skip
        assert datetime.fromisoformat(invoked_at).tzinfo is None
        self.seen = (skill_name, workflow_path, completed, duration_seconds, follow_up_actions, error_type)


texts = st.text(max_size=8)
uses = st.builds(
    SkillInvocation,
    skill_name=texts.filter(bool),
    invoked_at=st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1)).map(  # noqa: DTZ001 - made aware next
        lambda naive: naive.replace(tzinfo=UTC).isoformat()
    ),
    workflow_path=st.none() | texts,
    completed=st.booleans(),
    duration_seconds=st.none() | st.floats(0, 1e9),
    follow_up_actions=st.lists(texts, max_size=3),
    error_type=st.none() | texts,
)


@given(st.lists(uses, max_size=6))
def test_skill_metrics_come_back(given_uses: list[SkillInvocation]) -> None:
    """Written invocations are read back unchanged, by us and by the legacy reader."""
    written = document(skill_metrics_parts(given_uses))
    for record, use in zip(written["invocations"], given_uses, strict=True):
        assert _Legacy(**record).seen == (
            use.skill_name, use.workflow_path, use.completed, use.duration_seconds, use.follow_up_actions,
            use.error_type,
        )  # fmt: skip
        assert datetime.fromisoformat(record["invoked_at"]).astimezone(UTC) == datetime.fromisoformat(
            use.invoked_at
        )


def test_skill_metrics_go_to_a_file_and_back(tmp_path: Path) -> None:
    """The file is private, and invocations are read back with the same instant."""
    path = tmp_path / "new" / "skill_metrics.json"
    write_skill_metrics(path, [USE])
    (back,) = read_skill_metrics(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert datetime.fromisoformat(back.invoked_at).astimezone(UTC) == NOON
    assert back.to_dict() | {"invoked_at": ""} == USE.to_dict() | {"invoked_at": ""}
    assert [type(event) for event in skill_events([back])] == [SkillStarted, SkillCompleted]


def test_a_legacy_file_is_read_tolerantly(tmp_path: Path) -> None:
    """Missing and unknown keys, a file with only a list, and a missing file are tolerated."""
    path = tmp_path / "skill_metrics.json"
    assert read_skill_metrics(path) == []
    path.write_text('{"version": 9, "invocations": [{"skill_name": "k", "later": 1}, {}]}')
    assert [each.skill_name for each in read_skill_metrics(path)] == ["k", "unknown"]
    path.write_text('[{"skill_name": "k", "invoked_at": "2026-01-02T13:00:00", "session_id": "s"}]')
    assert read_skill_metrics(path)[0].session_id == "s"
    path.write_text('{"invocations": null}')
    assert read_skill_metrics(path) == []


READERS: dict[str, Callable[[Path], object]] = {
    "skills": read_skill_metrics,
    "workflows": read_workflow_events,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("content", ["{", "", "7", '[{"completed": "?"}, 7]', "[" * 9_999])
def test_a_damaged_file_is_one_clear_error(
    tmp_path: Path, read: Callable[[Path], object], content: str
) -> None:
    """The error names the file and says what to do."""
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(DecodeError, match=r"file.json is damaged: .*Repair it, or move it away"):
        read(path)


# workflow_events.json


def test_workflow_events_come_back(tmp_path: Path) -> None:
    """Events are written with six keys each, and are read back unchanged."""
    events = [
        WorkflowStarted(session_id="s", workflow_id="ci", run_id="r", timestamp=NOON, nodes=("a",)),
        NodeStarted(session_id="s", workflow_id="ci", run_id="r", node_id="a", attempt=2, timestamp=NOON),
        NodeCompleted(
            session_id=None, workflow_id="ci", node_id="a", timestamp=NOON, success=False,
            duration_seconds=0.0, error_type="E",
        ),
    ]  # fmt: skip
    path = tmp_path / "workflow_events.json"
    write_workflow_events(path, events)
    assert all(
        list(each) == ["event_type", "workflow_id", "node_id", "timestamp", "session_id", "metadata"]
        for each in json.loads(path.read_bytes())
    )
    back = read_workflow_events(path)
    assert [(type(each), each.timestamp, each.session_id, each.run_id) for each in back] == [
        (type(each), each.timestamp, each.session_id, each.run_id) for each in events
    ]
    assert isinstance(back[2], NodeCompleted)
    assert (back[2].status, back[2].duration_seconds, back[2].error_type) == ("failed", 0.0, "E")


def test_records_are_written_as_they_are() -> None:
    """A record that was read or correlated is written unchanged."""
    record = {"event_type": "x", "metadata": {"a": [1]}}
    assert document(workflow_events_parts([record])) == [record]
    assert document(workflow_events_parts([])) == []


# The correlation export


def folded() -> dict[str, CorrelatedSession]:
    correlation = Correlation()
    for name in ("s", None):
        of_skill: dict[str, Any] = {"session_id": name, "skill_name": "k", "invocation_id": f"i{name}"}
        correlation.add(SkillStarted(**of_skill, timestamp=NOON))
        correlation.add(SkillCompleted(**of_skill, timestamp=NOON, duration_seconds=3.0))
        correlation.add(
            NodeCompleted(session_id=name, workflow_id="w", run_id="r", node_id="n", timestamp=NOON)
        )
    return correlation.sessions()


def test_the_correlation_export_has_the_legacy_form(tmp_path: Path) -> None:
    """An export contains sessions by id, each with nine keys and all its records, and its own time."""
    sessions = folded()
    write_correlation(tmp_path / "out.json", sessions.values())
    written = json.loads((tmp_path / "out.json").read_bytes())
    assert list(written) == ["sessions", "exported_at"]
    assert written["sessions"] == {name: each.to_dict() for name, each in sessions.items()}
    assert document(correlation_parts([]))["sessions"] == {}


def test_an_export_is_written_one_session_after_the_other() -> None:
    """A session is read after the one before it was written, so a history need not fit in memory."""
    written: list[bytes] = []
    written_before: list[int] = []

    def sessions() -> Iterator[CorrelatedSession]:
        for number in range(3):
            written_before.append(len(written))
            yield CorrelatedSession(f"s{number}", NOON.isoformat())

    written.extend(correlation_parts(sessions()))
    assert written_before == [1, 2, 3]


def test_an_export_that_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    """If a session cannot be read, the old file stays, and nothing of a new one."""
    target = tmp_path / "out.json"
    target.write_text("old")

    def sessions() -> Iterator[CorrelatedSession]:
        yield CorrelatedSession("s", NOON.isoformat())
        raise LookupError

    with pytest.raises(LookupError):
        write_correlation(target, sessions())
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# session-buddy


def test_a_file_for_session_buddy_contains_the_sessions() -> None:
    """An invocation with a session has one more key; one without has none."""
    written = document(session_buddy_parts(invocations_of(folded().values())))
    assert [list(each) for each in written["invocations"]] == [[*SEVEN, "session_id"], SEVEN]
    assert written["invocations"][0]["session_id"] == "s"
    assert list(written["skills"]) == ["k"]


def test_session_buddy_recognizes_invocations_of_the_legacy_file() -> None:
    """Session-buddy identifies an invocation by name and text of its time, which are equal in both files."""
    historic, ours = document(skill_metrics_parts([USE])), document(session_buddy_parts([USE]))
    known = {(each["invoked_at"], each["skill_name"]) for each in historic["invocations"]}
    assert {(each["invoked_at"], each["skill_name"]) for each in ours["invocations"]} == known


def test_session_buddy_itself_imports_it(tmp_path: Path) -> None:
    """Its own reader, with its own schema, imports the file with its sessions, and nothing twice."""
    why = "session-buddy is not installed"
    storage = pytest.importorskip("session_buddy.storage.skills_storage", reason=why)
    uses = [USE, SkillInvocation("k", NOON.isoformat())]
    write_atomically(tmp_path / "for_session_buddy.json", session_buddy_parts(uses))
    migrations = Path(storage.__file__).parent / "migrations"
    with storage.SkillsStorage(tmp_path / "skills.db") as skills:
        with skills._get_connection() as connection:
            for version in ("V1__initial_schema", "V2__add_semantic_search"):
                connection.executescript((migrations / f"{version}__up.sql").read_text())
        first = skills.import_from_json(tmp_path / "for_session_buddy.json")
        again = skills.import_from_json(tmp_path / "for_session_buddy.json")
        assert (first["imported"], again["imported"]) == (2, 0)
        assert [each.skill_name for each in skills.get_session_invocations("s")] == ["run"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_file_that_python_wrote_is_read(tmp_path: Path, encoding: str) -> None:
    """NaN, Infinity and half a surrogate pair are read, with a BOM and in UTF-16, too."""
    skills = [{"skill_name": "x", "invoked_at": "2026-01-02T03:04:05", "duration_seconds": float("nan")}]
    skills.append(skills[0] | {"skill_name": "half \ud800 pair", "duration_seconds": float("inf")})
    (tmp_path / "skills.json").write_bytes(json.dumps({"invocations": skills}).encode(encoding))
    found = read_skill_metrics(tmp_path / "skills.json")
    assert [(each.skill_name, each.duration_seconds) for each in found] == [
        ("x", None),
        ("half \\ud800 pair", None),
    ]
    run = {
        "event_type": "node_completed",
        "timestamp": "2026-01-02T03:04:05",
        "workflow_id": "w",
        "node_id": "n",
    }
    metadata = {"duration_seconds": float("-inf"), "text": "\udfff"}
    (tmp_path / "runs.json").write_bytes(json.dumps([run | {"metadata": metadata}]).encode(encoding))
    (event,) = read_workflow_events(tmp_path / "runs.json")
    assert event.metadata["text"] == "\\udfff"
    assert encode(event)
