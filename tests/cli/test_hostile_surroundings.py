"""Commands end in one line and the right exit code, whatever their surroundings are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, NodeCompleted
from eventbus.ground.session_names import spell
from eventbus.history import EventLog
from tests.cli.conftest import Program


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log" / "events").mkdir(parents=True)
    return tmp_path / "log"


def test_a_deleted_working_directory_is_no_project(cli: Program, somewhere: Path) -> None:
    """In a working directory that was deleted there is no log, and a command says so."""
    somewhere.rmdir()
    ended = cli("cat")
    assert (ended.returncode, ended.stderr.count("\n")) == (3, 1)


def test_the_exit_code_survives_a_deleted_working_directory(tmp_path: Path) -> None:
    """`run` in a working directory that was deleted ends with the command's own exit code."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"rmdir {gone}; exec {sys.executable} -m eventbus run -- sh -c 'exit 7'"
    assert subprocess.run(["sh", "-c", program], cwd=gone, timeout=60, check=False).returncode == 7


def test_an_export_to_a_fifo_is_written_in_place(cli: Program, log: Path, tmp_path: Path) -> None:
    """`export --output` writes to a FIFO, and leaves it one."""
    fifo, got = tmp_path / "fifo", list[bytes]()
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    assert cli("export", "--dir", log, "--output", fifo).returncode == 0
    reader.join(5)
    assert got[0].startswith(b"{")
    assert fifo.is_fifo()


@pytest.mark.parametrize("dangling", [False, True])
def test_an_export_follows_links(cli: Program, log: Path, tmp_path: Path, *, dangling: bool) -> None:
    """`export --output` writes to the file that a link names, and leaves the link."""
    target, link = tmp_path / "target", tmp_path / "link"
    if not dangling:
        target.touch()
    link.symlink_to(target)
    assert cli("export", "--dir", log, "--output", link).returncode == 0
    assert link.is_symlink()
    assert target.read_text().startswith("{")


def test_an_export_to_the_standard_output_is_appended(log: Path, tmp_path: Path) -> None:
    """`export --output /dev/stdout >> FILE` appends to the file, as without the option."""
    path = tmp_path / "file"
    path.write_bytes(b"before ")
    with path.open("ab") as file:
        command = [sys.executable, "-m", "eventbus", "export", "--dir", str(log), "--output", "/dev/stdout"]
        assert subprocess.run(command, stdout=file, timeout=60, check=False).returncode == 0
    assert path.read_bytes().startswith(b"before {")


def test_an_export_to_what_cannot_be_written_is_one_error(cli: Program, log: Path, tmp_path: Path) -> None:
    """An export to a directory, or below a file, ends with one line that names it, and leaves nothing."""
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    for output in (tmp_path, tmp_path / "file" / "below", "/dev/full", "/dev/fd/999", ""):
        ended = cli("export", "--dir", log, "--output", output)
        (error,) = ended.stderr.splitlines()
        assert (ended.returncode, error.startswith(f"error: {output or '.'} cannot be written: ")) == (
            1,
            True,
        )
    assert sorted(tmp_path.iterdir()) == before


def test_a_wrong_setting_is_the_only_one_in_the_hint(cli: Program) -> None:
    """The hint about a wrong setting names that setting only."""
    ended = cli("run", "--", "true", EVENTBUS_PROGRESS="bogus")
    assert ended.returncode == 2
    assert "Give EVENTBUS_PROGRESS one of auto" in ended.stderr
    assert "keep_days" not in ended.stderr


def test_the_demo_keeps_its_log_out_of_commits(cli: Program, somewhere: Path) -> None:
    """`demo` makes the log's directory with a .gitignore, as `run` does."""
    (somewhere / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    cli("demo")
    assert (somewhere / ".session-buddy" / ".gitignore").read_text() == "*\n"


def test_undecodable_sessions_stay_different(cli: Program, log: Path) -> None:
    """Sessions whose names cannot be decoded stay different sessions, in a log whose name cannot be, too."""
    there, names = log / "caf\udce9", ("s-\udcfc", "s-\udce4", r"s-\udce4", r"s-\u005cudce4")
    with EventBus([JsonPersister(there)]) as bus:
        for name in names:
            bus.publish(NodeCompleted(session_id=name, workflow_id=f"{name!a}", node_id="n"))
    for name in names:
        line = json.loads(cli("cat", "--session", name, "--dir", there).stdout)
        assert (line["session_id"], line["workflow_id"]) == (spell(name), f"{name!a}")
        assert json.loads(cli("report", name, "--json", "--dir", there).stdout)["session_id"] == spell(name)
        assert list(json.loads(cli("export", name, "--dir", there).stdout)["sessions"]) == [spell(name)]
        assert f"session {spell(name)} " in cli("show", name, "--dir", there).stdout
    for command in ("sessions", "report"):
        listed = cli(command, "--dir", there).stdout.split()
        assert {*map(spell, names)} <= {*listed}
    assert r"caf\\udce9" in cli("stats", "--json", "--dir", there).stdout


def test_a_session_is_found_by_what_was_printed(cli: Program, log: Path) -> None:
    """A name as the commands print it finds its session, if no session has that text as its name."""
    with EventBus([JsonPersister(log)]) as bus:
        for name in ("s-\udcfc", "t-\udcfc", r"t-\udcfc"):
            bus.publish(NodeCompleted(session_id=name, workflow_id=f"{name!a}", node_id="n"))
    for shown, found in ((r"s-\udcfc", "s-\udcfc"), (r"t-\udcfc", r"t-\udcfc"), (r"t-\u005cud", r"t-\udcfc")):
        assert json.loads(cli("show", shown, "--json", "--dir", log).stdout)["workflow_id"] == f"{found!a}"


def test_a_session_has_one_name_in_every_locale(log: Path) -> None:
    """`run` gives the command the session that it was given, byte by byte, in a locale without UTF-8."""
    command = (sys.executable, "-m", "eventbus", "run", "--dir", str(log), "--session")
    shown = subprocess.run(
        [
            *map(os.fsencode, command),
            b"s-\xe9-\xc3\xbc",
            b"--",
            b"sh",
            b"-c",
            b"printf %s $EVENTBUS_SESSION_ID",
        ],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (shown.returncode, shown.stdout) == (0, b"s-\xe9-\xc3\xbc")
    assert {event.session_id for event in EventLog(log)} == {"s-\udce9-ü"}
