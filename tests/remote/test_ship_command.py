"""``eventbus ship``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from eventbus.cli import main
from tests.remote.nats_server import NatsServer, free_port
from tests.remote.shipped_logs import assert_shipped, wait_until, write_log

Ship: TypeAlias = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def ship(
    shared_server: NatsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ship:
    """Run `eventbus ship` in this process; return its exit code and the lines on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("EVENTBUS_NATS_URL", shared_server.url)

    def run(*words: str) -> tuple[int, list[str]]:
        code = main(["ship", *words])
        streams = capsys.readouterr()
        assert streams.out == ""
        return code, streams.err.splitlines()

    return run


def test_once(ship: Ship, server: NatsServer, tmp_path: Path) -> None:
    """`eventbus ship --once` ships what the log holds, and ends with 0."""
    write_log(tmp_path / "log", 100)
    assert ship("--once") == (0, ["note: shipped 100 events"])
    assert ship("--once") == (0, ["note: shipped 0 events"])
    assert_shipped(server, tmp_path / "log")


def test_something_is_left(
    ship: Ship, server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`eventbus ship --once` ends with 1 if anything is left, and says why."""
    monkeypatch.setattr("eventbus.cli.ship_command._PATIENCE_SECONDS", 0.1)
    write_log(tmp_path / "log", 100)
    server.delete_stream()
    code, notes = ship("--once")
    assert code == 1
    assert notes == [
        "note: shipped 0 events",
        (
            f"note: not everything is shipped: {server.url} has no stream EVENTBUS. "
            "Make it with `eventbus ship --create`"
        ),
    ]


def test_create(ship: Ship, server: NatsServer, tmp_path: Path) -> None:
    """`eventbus ship --create` makes the stream if there is none, and leaves one that is there as it is."""
    write_log(tmp_path / "log", 10)
    server.delete_stream()
    assert ship("--once", "--create") == (
        0,
        [f"note: made the stream EVENTBUS at {server.url}", "note: shipped 10 events"],
    )
    assert ship("--once", "--create")[1][0] == f"note: left as it is: the stream EVENTBUS at {server.url}"
    assert server.count() == 10


def test_no_log(ship: Ship) -> None:
    """Without a log `eventbus ship --once` ends with 3."""
    code, lines = ship("--once")
    assert (code, len(lines)) == (3, 1)
    assert lines[0].startswith("error: there is no event log in ")


def test_wrong_settings(ship: Ship, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or refused server is one error of one line."""
    write_log(tmp_path / "log", 1)
    monkeypatch.setenv("EVENTBUS_NATS_URL", "nats://me:secret@10.0.0.1:4222")
    assert ship("--once") == (
        1,
        [
            (
                "error: nats://10.0.0.1 would send the log in clear text. hint: Write tls:// instead, or set "
                "EVENTBUS_NATS_ALLOW_CLEAR in a network that you trust"
            )
        ],
    )
    monkeypatch.setenv("EVENTBUS_NATS_URL", f"nats://127.0.0.1:{free_port()}")
    code, lines = ship("--create")
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith("error: cannot connect to nats://127.0.0.1:")
    monkeypatch.delenv("EVENTBUS_NATS_URL")
    code, lines = ship()
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith("error: no server is set. hint: Set EVENTBUS_NATS_URL")


def test_until_it_is_terminated(server: NatsServer, tmp_path: Path) -> None:
    """`eventbus ship` ships what is appended until it is terminated or killed; the next one goes on."""
    for number, ending in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGINT)):
        process = start(server, tmp_path)
        write_log(tmp_path / "log", 500, 500 * number)
        wait_for_messages(server, 500 * (number + 1))
        process.send_signal(ending)
        assert process.wait(10) in (-ending, 128 + ending)
        _, err = process.communicate()
        assert "Traceback" not in err
    assert_shipped(server, tmp_path / "log")


def wait_for_messages(server: NatsServer, count: int) -> None:
    """Wait until the stream has this many messages."""
    wait_until(lambda: server.count() == count)


def start(server: NatsServer, directory: Path) -> subprocess.Popen[str]:
    """Start `eventbus ship` in a process of its own."""
    environment = os.environ | {"EVENTBUS_NATS_URL": server.url, "EVENTBUS_DIR": str(directory / "log")}
    return subprocess.Popen(
        [sys.executable, "-m", "eventbus", "ship"], env=environment, stderr=subprocess.PIPE, text=True
    )
