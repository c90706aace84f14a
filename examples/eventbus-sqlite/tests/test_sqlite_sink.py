"""Tests of SqliteSink."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from eventbus import Event, EventsLost, NodeCompleted
from eventbus.testing import Recorder, SettlingBus, conformance_test, quality_session

from eventbus_sqlite import SqliteSink

pytest_plugins = ["eventbus.testing.pytest_plugin"]


@pytest.fixture(autouse=True)
def _log(eventbus_directory: Path) -> None:
    """Keep the databases of tests in a directory of their own."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database that does not exist yet."""
    return tmp_path / "events.sqlite3"


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def play(path: Path, events: list[Event], max_waiting: int = 100_000) -> None:
    """Publish events on a bus with a sink."""
    with SettlingBus([SqliteSink(path, max_waiting)]) as bus:
        bus.play(events)


test_conformance = conformance_test(SqliteSink)


def test_events_can_be_queried(path: Path) -> None:
    """Each event is a row, and its fields are columns."""
    session = quality_session(failed=["tests"])
    play(path, session)
    assert rows(path, "SELECT count(*) FROM events") == [(len(session),)]
    failed = "SELECT node_id, attempt, error_type FROM nodes WHERE status = 'failed' ORDER BY attempt"
    assert rows(path, failed) == [("tests", 1, "RuntimeError"), ("tests", 2, "RuntimeError")]
    assert rows(path, "SELECT stored, lost, ended IS NULL FROM sources") == [(len(session), 0, 0)]


def test_a_sink_resumes(path: Path) -> None:
    """A second run adds to the database, as another source."""
    for number in (1, 2):
        play(path, quality_session(f"session-{number}"))
    assert rows(path, "SELECT DISTINCT source, session_id FROM events") == [
        (1, "session-1"),
        (2, "session-2"),
    ]


def test_events_wait_for_a_locked_database(path: Path) -> None:
    """While another program writes, events wait; then they are stored, in order."""
    with SettlingBus([SqliteSink(path)]) as bus:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            bus.play([NodeCompleted(workflow_id="w", node_id=str(n)) for n in range(3)])
            other.rollback()
        bus.play([NodeCompleted(workflow_id="w", node_id="3")])
        assert rows(path, "SELECT node_id FROM events ORDER BY number") == [("0",), ("1",), ("2",), ("3",)]


def test_loss_is_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where events are missing, a row says how many, and why."""
    with SettlingBus([SqliteSink(path, max_waiting=2)]) as bus:
        bus.play([EventsLost(count=4, first_seq=1, last_seq=4)])
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            bus.play([Event() for _ in range(5)])
            other.rollback()
    assert rows(path, "SELECT after, count, reason FROM gaps") == [
        (0, 4, "the mailbox was full"),
        (0, 3, "the database could not be written"),
    ]
    assert rows(path, "SELECT number FROM events") == [(4,), (5,)]
    assert rows(path, "SELECT stored, lost FROM sources") == [(2, 7)]
    assert "events are lost: the database could not be written" in caplog.messages


def test_a_place_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A database that cannot be opened is reported once, and affects no other subscriber."""
    (tmp_path / "file").write_text("")
    recorder = Recorder()
    with SettlingBus([SqliteSink(tmp_path / "file" / "db"), recorder]) as bus:
        bus.play([Event(), Event()])
    assert len(recorder.recorded) == 2
    assert sum("cannot be written" in message for message in caplog.messages) == 1
    assert "2 events were not stored" in caplog.text


def test_a_database_of_a_newer_release(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A database that a newer release has made is left alone."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    play(path, [Event()])
    assert "version 99, which is newer than this" in caplog.text
    assert rows(path, "SELECT count(*) FROM sqlite_master") == [(0,)]


def test_secrets_are_not_stored(path: Path) -> None:
    """Secrets are removed, and only the owner can read the file."""
    play(path, [Event(metadata={"password": "hunter2"})])
    assert "hunter2" not in rows(path, "SELECT body FROM events")[0][0]
    assert path.stat().st_mode & 0o777 == 0o600


KILLED = """
import sys
from pathlib import Path
from eventbus import Event, EventBus
from eventbus_sqlite import SqliteSink
with EventBus([SqliteSink(Path(sys.argv[1]))]) as bus:
    while True:
        for _ in range(100):
            bus.publish(Event(metadata={"text": "x" * 100}))
        print(flush=True)
"""


def test_a_killed_process_leaves_whole_batches(path: Path) -> None:
    """After a kill the database is sound, has no holes, and shows that the source did not end."""
    program = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert program.stdout is not None
    while not (path.exists() and program.stdout.readline() and stored(path)):
        pass
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    count, last = rows(path, "SELECT count(*), max(number) FROM events")[0]
    lost = rows(path, "SELECT coalesce(sum(count), 0) FROM gaps WHERE reason LIKE '%written'")[0][0]
    assert count + lost == last
    assert rows(path, "SELECT stored, ended FROM sources") == [(count, None)]
    play(path, [Event()])
    assert rows(path, "SELECT count(*) FROM sources") == [(2,)]


def stored(path: Path) -> bool:
    """Return True once events are stored."""
    try:
        return rows(path, "SELECT stored FROM sources") > [(0,)]
    except sqlite3.OperationalError:  # the tables are not there yet
        return False
