"""``eventbus doctor``: the problems of a log by place, and their repair."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, NodeCompleted
from eventbus.history import EventLog

Program: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a sound log of one segment."""
    with EventBus([JsonPersister(tmp_path / "log")]) as bus:
        for number in range(10):
            bus.publish(NodeCompleted(workflow_id="w", node_id=f"n{number}"))
    return tmp_path / "log"


def only_segment(log: Path) -> Path:
    (segment,) = EventLog(log).segments()
    return segment.path


def append(path: Path, content: bytes) -> int:
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(content)
    return size


def test_a_sound_log_is_ok(program: Program, cli: Program, log: Path) -> None:
    """The real program prints one line and exits with 0; with --json it prints nothing."""
    ended = program("doctor", "--dir", log)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        f"ok: 1 segment (3 KiB) in {log}; the index is missing\n",
        "",
    )
    ended = cli("doctor", "--dir", log, "--json")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_problems_are_listed_by_place_with_exit_code_1(cli: Program, log: Path) -> None:
    """Each problem is one line, and nothing is changed."""
    path = only_segment(log)
    torn = append(path, b'{"seq":11,"ev')
    path.chmod(0o644)
    (path.parent / "note\x1b[2J.txt").write_text("mine")
    before = path.read_bytes()
    ended = cli("doctor", "--dir", log)
    assert ended.returncode == 1
    permissions, foreign, tail = ended.stdout.splitlines()
    assert permissions == f"permissions     {path}: other users may use it: its mode is 0644, not 0600"
    assert foreign.startswith(f"foreign file    {path.parent}/note\\x1b[2J.txt: ")
    assert tail == f"torn tail       {path}:{torn}: its writer died in the middle of a line: 13 bytes"
    assert path.read_bytes() == before


def test_damage_is_exit_code_4(cli: Program, log: Path) -> None:
    """Damage is exit code 4 with --repair, too: readers skip it, and it stays where it is."""
    path = only_segment(log)
    offset = append(path, b"poison\n")
    for arguments in ((), ("--repair",)):
        ended = cli("doctor", "--dir", log, *arguments)
        assert ended.returncode == 4
        assert ended.stdout.startswith(f"damage          {path}:{offset}: 6 bytes contain no record: ")


def test_repair_makes_the_log_sound(cli: Program, log: Path) -> None:
    """Torn tails are set aside and permissions removed; repaired problems are listed, and not counted."""
    path = only_segment(log)
    whole = path.read_bytes()
    append(path, b'{"seq":11,"ev')
    path.chmod(0o640)
    log.chmod(0o755)
    ended = cli("doctor", "--dir", log, "--repair")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [
        "repaired",
        "repaired",
        "repaired",
        "ok:",
    ]
    assert path.read_bytes() == whole
    assert [stat.S_IMODE(each.stat().st_mode) for each in (log, path)] == [0o700, 0o600]
    kept = [each.read_bytes() for each in path.parent.iterdir() if each != path]
    assert kept == [b'{"seq":11,"ev']
    assert cli("doctor", "--dir", log).returncode == 0


@pytest.mark.parametrize(
    ("function", "number"),
    [("write", errno.ENOSPC), ("ftruncate", errno.EIO), ("fsync", errno.EDQUOT), ("open", errno.EROFS)],
)
def test_a_repair_that_fails_is_noted_and_stops_no_other(
    cli: Program, log: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    """On a full disk each repair that fails is one line, nothing is lost, and the exit code is 1."""
    with EventBus([JsonPersister(log)]) as bus:
        bus.publish(NodeCompleted(workflow_id="w", node_id="n"))
    paths = [each.path for each in EventLog(log).segments()]
    for path in paths:
        append(path, b"torn")
    real = getattr(os, function)

    def fail(*args: object, **kwargs: object) -> object:
        if function == "open" and args[1] == os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK:
            return real(*args, **kwargs)
        raise OSError(number, os.strerror(number))

    if function == "write":
        monkeypatch.setattr("eventbus.history.repair.os.fdopen", fail)
    else:
        monkeypatch.setattr(os, function, fail)
    ended = cli("doctor", "--dir", log, "--repair")
    monkeypatch.undo()
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"note: cannot repair {path}: {os.strerror(number)}" for path in paths
    ]
    assert all(path.read_bytes().endswith(b"torn") for path in paths) or function == "fsync"
    assert cli("doctor", "--dir", log, "--repair").returncode == 0


def test_json_is_one_object_per_line(cli: Program, log: Path) -> None:
    """With --json each problem is an object with the same keys."""
    path = only_segment(log)
    offset = append(path, b"poison\ntorn")
    ended = cli("doctor", "--dir", log, "--repair", "--json")
    repaired, damage = map(json.loads, ended.stdout.splitlines())
    assert ended.returncode == 4
    assert list(repaired) == list(damage) == ["kind", "path", "message", "offset", "length", "repaired"]
    assert (repaired["kind"], repaired["repaired"], repaired["offset"]) == ("torn tail", True, offset + 7)
    assert (damage["kind"], damage["repaired"], damage["path"]) == ("damage", False, str(path))
    assert (damage["offset"], damage["length"]) == (offset, 6)


def test_a_missing_log_is_exit_code_3(cli: Program, tmp_path: Path) -> None:
    """The error is one line that names the directory."""
    ended = cli("doctor", "--dir", tmp_path / "nowhere")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("error: there is no event log in ")


def test_the_index_is_checked_and_repaired(cli: Program, log: Path) -> None:
    """A stale index is not a problem, a damaged one is; --repair brings both up to date."""
    cli("sessions", "--dir", log)
    assert cli("doctor", "--dir", log).stdout.endswith("; the index is current\n")
    with EventBus([JsonPersister(log)]) as bus:
        bus.publish(NodeCompleted(workflow_id="w", node_id="n"))
    ended = cli("doctor", "--dir", log)
    assert (ended.returncode, "the index is stale" in ended.stdout) == (0, True)
    (log / "index.sqlite3").write_bytes(b"no database" * 1_000)
    ended = cli("doctor", "--dir", log)
    assert (ended.returncode, ended.stdout.startswith("index           ")) == (1, True)
    ended = cli("doctor", "--dir", log, "--repair")
    assert (ended.returncode, "repaired" in ended.stdout) == (0, True)
    assert "the index is current" in ended.stdout
