"""Reports survive anything that one segment or one record holds: a fault costs itself alone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventbus import SkillsWorkflowCorrelator
from eventbus.events import NodeCompleted
from eventbus.history import EventLog
from eventbus.history.index import Index
from eventbus.history.session_history import SessionHistory
from tests.cli.report_examples import COMMANDS, OF_SESSIONS, TIMES, skill
from tests.history.log_examples import START, header, segment_path, stored

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


def write(directory: Path, bus_id: str, content: bytes) -> Path:
    """Write a segment byte by byte."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = segment_path(directory, bus_id)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def write_sound(directory: Path) -> Path:
    """Write a sound segment, with a session named sound."""
    lines = b"".join(stored(seq, event) for seq, event in enumerate(skill(), 1))
    return write(directory, "sound", header("sound") + lines)


def forbid(monkeypatch: pytest.MonkeyPatch, forbidden: Path) -> None:
    """Let opening a file fail, as that of another user; a test may be run by root."""
    really_open = os.open

    def fail(path: Any, *arguments: Any, **options: Any) -> int:
        if os.fspath(path) == str(forbidden):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", fail)


HEADER = header("empty")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(HEADER, id="a header"),
        pytest.param(HEADER * 2, id="two headers"),
        pytest.param(HEADER + b'{"seq":1,"event_type":"node_com', id="a torn line"),
        pytest.param(HEADER + bytes(4_096), id="zeros"),
        pytest.param(HEADER + b"\n" * 100, id="line feeds"),
        pytest.param(HEADER.replace(b'"first_seq":1', b'"first_seq":1' + b"0" * 30), id="a vast number"),
    ],
)
def test_a_segment_without_a_record_costs_nothing(cli: Program, tmp_path: Path, content: bytes) -> None:
    """A header alone, and a header with a torn line, is a segment without records, and no damage."""
    write_sound(tmp_path / "log")
    write(tmp_path / "log", "empty", content)
    for command in (*OF_SESSIONS, ["cat"]):
        done = cli(*command, "--dir", tmp_path / "log")
        assert (done.returncode, done.stderr) == (0, ""), command
        assert "sound" in done.stdout or command[0] in ("stats", "export"), command


def test_a_header_may_be_a_block_of_its_own(cli: Program, tmp_path: Path) -> None:
    """Sound data of so many buses that each header fills a block alone is read."""
    line = stored(1, NodeCompleted(session_id="s", workflow_id="w", node_id="n", run_id="r", timestamp=START))
    for number in range(140):
        bus = f"bus{number}"
        long = header(bus, metadata={"x": "y" * 16_200})
        write(tmp_path / "log", bus, long + line)
    done = cli("sessions", "--dir", tmp_path / "log")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_segment_that_cannot_be_read_is_noted_once(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is answered, one note names it, and the exit code is 4, until it can be read."""
    write_sound(tmp_path / "log")
    lines = b"".join(stored(seq, event) for seq, event in enumerate(skill("hidden"), 1))
    hidden = write(tmp_path / "log", "hidden", header("hidden") + lines)
    with monkeypatch.context() as patch:
        forbid(patch, hidden)
        for command in OF_SESSIONS:
            done = cli(*command, "--dir", tmp_path / "log")
            (note,) = done.stderr.splitlines()
            assert (done.returncode, hidden.name in note, "Permission denied" in note) == (4, True, True)
            assert done.stdout
    done = cli("sessions", "--dir", tmp_path / "log")
    assert (done.returncode, done.stderr, "hidden" in done.stdout) == (0, "", True)


def test_a_known_segment_that_can_no_longer_be_read_is_noted(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the index knows of the other segments stays; the grown segment is noted."""
    write_sound(tmp_path / "log")
    hidden = write(tmp_path / "log", "hidden", header("hidden") + stored(1, skill("hidden")[0]))
    assert cli("sessions", "--dir", tmp_path / "log").returncode == 0
    with hidden.open("ab") as file:
        file.write(stored(2, skill("hidden")[1]))
    forbid(monkeypatch, hidden)
    for command in (["sessions"], ["show", "sound"], ["export"], ["stats"]):
        done = cli(*command, "--dir", tmp_path / "log")
        assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)


def test_damage_is_noted_with_its_place_each_time(cli: Program, tmp_path: Path) -> None:
    """A later command that reads the index reports the same places; a repaired segment has none."""
    path = write_sound(tmp_path / "log")
    sound = path.read_bytes()
    path.write_bytes(sound + b"poison\n")
    for _ in range(2):
        for command in OF_SESSIONS:
            done = cli(*command, "--dir", tmp_path / "log")
            (note,) = done.stderr.splitlines()
            assert (done.returncode, f"{path}:{len(sound)}: skipped 6 bytes" in note) == (4, True)
    path.write_bytes(sound)
    assert cli("sessions", "--dir", tmp_path / "log").returncode == 0
    path.write_bytes(sound + b"poison\n")
    assert cli("sessions", "--dir", tmp_path / "log").returncode == 4
    path.unlink()
    assert cli("sessions", "--dir", tmp_path / "log").stderr == ""


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("time", TIMES)
def test_a_record_of_any_time_takes_no_session_away(
    cli: Program, tmp_path: Path, time: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of the year 1 or 9999, or with a huge offset, is read or noted; the others are answered."""
    monkeypatch.setenv("TZ", zone)
    write_sound(tmp_path / "log")
    line = stored(1, skill("odd")[0]).replace(b"2026-01-02T03:04:06Z", time.encode())
    assert time.encode() in line
    write(tmp_path / "log", "odd", header("odd") + line)
    write(tmp_path / "log", "end", header("end") + line.replace(b"skill_started", b"skill_completed"))
    for command in COMMANDS:
        done = cli(*command, "--dir", tmp_path / "log")
        assert done.returncode in (0, 4), command
        assert "Traceback" not in done.stderr
    assert "sound" in cli("sessions", "--dir", tmp_path / "log").stdout


def test_a_log_that_cannot_be_listed_gets_one_error(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log directory of another user's is one error that names it, in each command."""
    write_sound(tmp_path / "log")

    def fail(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", fail)
    for command in COMMANDS:
        done = cli(*command, "--dir", tmp_path / "log")
        (error,) = done.stderr.splitlines()
        assert (done.returncode, error.startswith("error: the log in ")) == (1, True)


def test_sqlite_needs_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, and without a stored index, the index is kept in memory, and the result is the same."""
    write_sound(tmp_path / "log")
    (tmp_path / "log" / "index.sqlite3").mkdir()
    connect = sqlite3.connect

    def fail(name: Any, **options: Any) -> sqlite3.Connection:
        if name == "":
            raise sqlite3.OperationalError("unable to open database file")
        opened: sqlite3.Connection = connect(name, **options)
        return opened

    monkeypatch.setattr(sqlite3, "connect", fail)
    with SessionHistory(EventLog(tmp_path / "log")) as history:
        assert [each.session_id for each in history.figures()] == ["sound"]
        assert history.session("sound") is not None


def test_an_error_that_ended_the_transaction_is_not_hidden(tmp_path: Path) -> None:
    """The first error comes out, although there is nothing to roll back any more."""
    index = Index(tmp_path / "index.sqlite3")

    def fail() -> None:
        with index.transaction():
            index._db.execute("ROLLBACK")  # pyright: ignore[reportPrivateUsage] - as SQLite itself does
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        fail()
    index.close()


@pytest.mark.parametrize("name", ["skill_metrics.json", "workflow_events.json"])
def test_a_bad_historic_file_takes_no_session_of_the_log_away(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A default file beside a log that cannot be read is left out, with a warning that names it."""
    monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path / "log"))
    write_sound(tmp_path / "log")
    (tmp_path / "log" / name).write_bytes(b'{"invocations": [')
    correlator = SkillsWorkflowCorrelator()
    assert "sound" in correlator.generate_correlation_report()
    assert correlator.get_session_summary("sound") is not None
    assert list(correlator.correlate_by_session()) == ["sound"]
    assert name in caplog.text
