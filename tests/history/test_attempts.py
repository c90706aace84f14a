"""The ends of nodes, runs and skills in the index: what was usual, and when."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus.events import Event, NodeCompleted
from eventbus.history import EventLog, attempts
from eventbus.history.index import INDEX_NAME
from eventbus.history.session_history import SessionHistory
from eventbus.testing.sessions import SessionBuilder
from eventbus.views.durations import Attempt, Durations, Subject
from tests.history.log_examples import append, segment_path, stored

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
TESTS = Subject("node", "ci", "tests")


def session(number: int, *, seconds: float = 4.0) -> list[Event]:
    """Return a skill around a run."""
    made = SessionBuilder(f"s{number}", NOON + timedelta(hours=number)).skill_started("release")
    made.run_started("ci", ["lint", "tests"]).node("lint", 0.5).node("tests", seconds, "failed")
    return made.node("tests", seconds, attempt=2).run_completed("ok").skill_completed().events


def write(directory: Path, given: list[Event], bus: str = "b0") -> Path:
    path = segment_path(directory, bus, start=NOON)
    before = path.read_bytes().count(b"\n") if path.exists() else 0
    append(path, b"".join(stored(seq, event) for seq, event in enumerate(given, before + 1)))
    return path


def read(directory: Path) -> dict[Subject, list[Attempt]]:
    """Return all ends of all subjects; the durations of the successes are read apart, and must agree."""
    with SessionHistory(EventLog(directory)) as history:
        found = {each: history.attempts(each) for each in history.subjects()}
        for subject, ends in found.items():
            successes, expected = history.durations(subject), Durations.of(ends)
            assert (successes.ends, successes.seconds) == (expected.ends, expected.seconds)
        return found


def test_the_ends_of_everything_are_known(tmp_path: Path) -> None:
    """The index knows when each node, run and skill ended, how long it took, and how, in order."""
    write(tmp_path, session(1) + session(0))
    found = read(tmp_path)
    assert list(found) == [
        Subject("node", "ci", "lint"), TESTS, Subject("run", "ci"), Subject("skill", "release")
    ]  # fmt: skip
    noon = NOON.timestamp()
    assert found[TESTS] == [
        Attempt(noon + 4.5, 4.0, "failed", "s0"), Attempt(noon + 8.5, 4.0, "succeeded", "s0"),
        Attempt(noon + 3604.5, 4.0, "failed", "s1"), Attempt(noon + 3608.5, 4.0, "succeeded", "s1"),
    ]  # fmt: skip
    assert found[Subject("run", "ci")][0] == Attempt(noon + 8.5, 8.5, "succeeded", "s0")


def test_they_are_the_same_in_however_many_steps_they_were_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end counts once, however often it is stored and in however many steps the log is indexed."""
    monkeypatch.setattr(attempts, "_MAX_ENDS", 3)
    events = [event for number in range(6) for event in session(number)]
    for first in range(0, len(events), 7):
        write(tmp_path / "steps", events[first : first + 7], f"b{first % 2}")
        read(tmp_path / "steps")
    write(tmp_path / "steps", events[:20], "again")
    write(tmp_path / "once", events)
    assert read(tmp_path / "steps") == read(tmp_path / "once")


def test_a_segment_takes_its_ends_with_it(tmp_path: Path) -> None:
    """What retention removes is forgotten, and a rewritten segment is read again."""
    write(tmp_path, session(0), "b0")
    path = write(tmp_path, session(1), "b1")
    assert len(read(tmp_path)[TESTS]) == 4
    path.unlink()
    assert {each.session for each in read(tmp_path)[TESTS]} == {"s0"}
    write(tmp_path, session(2), "b0").write_bytes(b"")
    assert read(tmp_path) == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE attempts SET ends = x'00' WHERE node = 'tests'",
        "UPDATE attempts SET node = 'lint' WHERE node = 'tests'",
        "UPDATE attempts SET checksum = 'x'",
        "DELETE FROM attempts WHERE node = 'tests'",
        "DROP TABLE attempts",
        "PRAGMA user_version = 6",
    ],
)
def test_a_damaged_index_is_made_again(tmp_path: Path, statement: str) -> None:
    """If the rows are damaged, missing or of another version, the results are the same."""
    write(tmp_path, session(0))
    before = read(tmp_path)
    with closing(sqlite3.connect(tmp_path / INDEX_NAME)) as db:
        db.execute(statement)
        db.commit()
    assert read(tmp_path) == before


def test_names_that_cannot_be_stored(tmp_path: Path) -> None:
    """Any name of a workflow, a node or a session is found as it is."""
    names = ["\x00", "\u202e\x1b[2J", "表" * 200, "a\x00b", ""]
    of_run: dict[str, Any] = {"workflow_id": "ci", "run_id": "r", "duration_seconds": -1}
    write(tmp_path, [NodeCompleted(**of_run, node_id=each, session_id=each or None) for each in names])
    found = read(tmp_path)
    assert {each.node for each in found} == set(names)
    assert {each[0].session for each in found.values()} == {*names[:-1], "unattributed:run:r"}
    assert {each[0].seconds for each in found.values()} == {0.0}
