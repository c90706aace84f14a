"""``--remote``: the commands that read a log, over what all hosts have shipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    NodeStarted,
    SessionLinked,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.cli import main
from eventbus.history import EventLog
from eventbus.remote.mirror import Mirror, updated_mirror, updated_mirror_of_session
from tests.remote.nats_server import NatsServer, free_port
from tests.remote.shipped_logs import SHIPPED, node, ship, wait_until, write_log
from tests.remote.test_remote_events import put_payload

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("nats_py")


@pytest.fixture
def run(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Run a command of the program as a third host, which has no log."""
    (tmp_path / "third").mkdir()
    monkeypatch.chdir(tmp_path / "third")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EVENTBUS_NATS_URL", server.url)

    def command(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        assert "error: unexpected " not in err, err
        return code, out, err

    return command


def publish(directory: Path, *events: Event) -> None:
    """Write a log of one bus."""
    with EventBus([JsonPersister(directory)]) as bus:
        for each in events:
            bus.publish(each)


def two_hosts(tmp_path: Path, server: NatsServer) -> None:
    """Let one host use a skill, and another run the workflow, in one session; and begin another session."""
    publish(tmp_path / "a", SkillStarted(session_id="abc", skill_name="release", invocation_id="i1"))
    publish(
        tmp_path / "b",
        WorkflowStarted(session_id="abc", workflow_id="ci", run_id="r1"),
        NodeStarted(session_id="abc", workflow_id="ci", run_id="r1", node_id="tests"),
        NodeCompleted(
            session_id="abc", workflow_id="ci", run_id="r1", node_id="tests", status="failed", success=False
        ),
        WorkflowCompleted(session_id="abc", workflow_id="ci", run_id="r1", status="failed", success=False),
        node(1, "abd"),
    )
    for each in "ab":
        ship(tmp_path / each, server.settings)


def stored_lines(*directories: Path) -> set[bytes]:
    return {each.line for directory in directories for each in EventLog(directory).records(types=SHIPPED)}


# The copy.


def test_lines_are_those_of_the_hosts(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """The copy has the hosts' own lines, byte by byte; each command adds what is new."""
    write_log(tmp_path / "a", 1_200)
    write_log(tmp_path / "b", 30)
    for each in "ab":
        ship(tmp_path / each, server.settings)
    directory = updated_mirror(server.settings).directory
    assert stored_lines(directory) == stored_lines(tmp_path / "a", tmp_path / "b")
    write_log(tmp_path / "b", 10)
    ship(tmp_path / "b", server.settings)
    assert updated_mirror(server.settings).directory == directory
    assert stored_lines(directory) == stored_lines(tmp_path / "a", tmp_path / "b")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in (directory / "events").iterdir()} == {0o600}


def test_one_session_of_many_is_copied_alone(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """Of one session only its events are copied, and those of the sessions that are linked with it."""
    write_log(tmp_path / "a", 300)
    publish(tmp_path / "b", SessionLinked(session_id="s1", other="job"), node(7, "job"))
    for each in "ab":
        ship(tmp_path / each, server.settings)
    mirror = updated_mirror(server.settings, "s1")
    assert {each.session_id for each in EventLog(mirror.directory)} == {"s1", "job"}
    assert len(list(EventLog(mirror.directory))) == 102
    assert len(list(EventLog(updated_mirror(server.settings, "s").directory))) == 302
    assert updated_mirror_of_session(server.settings, "none").is_empty()


def test_another_stream_empties_the_copy(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """The copy of a stream that was made again is begun again."""
    write_log(tmp_path / "a", 100)
    ship(tmp_path / "a", server.settings)
    updated_mirror(server.settings)
    server.make_stream()
    write_log(tmp_path / "b", 5)
    ship(tmp_path / "b", server.settings)
    assert stored_lines(updated_mirror(server.settings).directory) == stored_lines(tmp_path / "b")


@pytest.mark.parametrize("harm", ["no position", "torn", "torn position", "no segment"])
def test_a_damaged_copy_is_mended(server: NatsServer, tmp_path: Path, run: Run, harm: str) -> None:
    """What a process that was killed while it copied leaves is mended by the next; records come once."""
    write_log(tmp_path / "a", 100)
    ship(tmp_path / "a", server.settings)
    directory = updated_mirror(server.settings).directory
    segment = next((directory / "events").iterdir())
    position = directory / "mirror.json"
    if harm == "torn":
        segment.write_bytes(segment.read_bytes()[:-30])
        position.unlink()
    elif harm == "torn position":
        position.write_bytes(position.read_bytes()[:-3])
    elif harm == "no segment":
        segment.unlink()
        position.unlink()
    else:
        position.unlink()
    assert len(list(EventLog(updated_mirror(server.settings).directory))) == 100
    assert stored_lines(directory) == stored_lines(tmp_path / "a")


def test_several_keep_one_copy(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """Several processes keep one copy at once, and no record comes twice."""
    mirrors = [Mirror(server.settings) for _ in range(3)]
    for each in mirrors:
        each.update()
    with mirrors[0].kept_current(print), mirrors[1].kept_current(print):
        write_log(tmp_path / "a", 2_000)
        ship(tmp_path / "a", server.settings)
        mirrors[2].update()
        directory = mirrors[0].directory
        assert len(list(EventLog(directory))) == 2_000
    assert stored_lines(directory) == stored_lines(tmp_path / "a")


def test_what_was_shipped_twice_is_there_once(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """What was shipped again behind the duplicate window is left out."""
    write_log(tmp_path / "a", 50)
    ship(tmp_path / "a", server.settings)
    directory = updated_mirror(server.settings).directory
    for each in server.stored()[10:12]:
        put_payload(server, each.subject, each.line, each.id)
    assert server.count() == 52
    updated_mirror(server.settings)
    assert len(list(EventLog(directory).records())) == 50
    Mirror(server.settings).directory.joinpath("mirror.json").unlink()
    updated_mirror(server.settings)
    assert len(list(EventLog(directory).records())) == 50


# The commands.


def test_commands_join_the_hosts(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """`sessions`, `show`, `report`, `cat` and `watch` show the work of several hosts as one session."""
    two_hosts(tmp_path, server)
    code, out, _ = run("sessions", "--remote", "--json")
    assert code == 0
    assert sorted(json.loads(line)["session_id"] for line in out.splitlines()) == ["abc", "abd"]
    code, out, err = run("show", "--remote", "abc")
    assert (code, err) == (0, "")
    assert "release" in out
    assert "tests" in out
    code, out, _ = run("show", "abc", "--remote", "--json")
    assert len(out.splitlines()) == 5
    code, out, _ = run("report", "--remote", "abc", "--json")
    found = json.loads(out)
    assert (found["session_id"], found["skills_open"], found["workflow_nodes_failed"]) == ("abc", 1, 1)
    code, out, _ = run("cat", "--remote", "--session", "abc", "--type", "NodeEvent")
    assert [json.loads(line)["event_type"] for line in out.splitlines()] == ["node_started", "node_completed"]
    code, out, _ = run("watch", "--remote", "abc", "--once")
    assert code == 1
    assert "tests" in out
    assert not (tmp_path / "third" / ".session-buddy").exists()


def test_the_beginning_of_an_id(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """A session is found by the beginning of its id; several, or none, are one line."""
    two_hosts(tmp_path, server)
    assert run("show", "--remote", "abd")[0] == 0
    code, _, err = run("show", "--remote", "ab")
    assert (code, len(err.splitlines())) == (2, 1)
    code, _, err = run("show", "--remote", "x")
    assert (code, len(err.splitlines())) == (3, 1)


def test_an_open_session_is_open(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """What a writer elsewhere has not ended is open for a day after its last event, and then unfinished."""
    now = datetime.now(UTC)
    for name, hours in (("young", 23), ("old", 25)):
        at = now - timedelta(hours=hours)
        publish(tmp_path / name, WorkflowStarted(session_id=name, workflow_id="ci", run_id="r", timestamp=at))
        ship(tmp_path / name, server.settings)
    _, out, _ = run("sessions", "--remote", "--json")
    found = {each["session_id"]: each["outcome"] for each in map(json.loads, out.splitlines())}
    assert found == {"young": "open", "old": "unfinished"}


@pytest.mark.parametrize("command", ["cat", "sessions", "show", "report", "watch"])
def test_errors_are_one_line(
    server: NatsServer, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """No server, or `--dir` beside it, is exit code 2; one that is away, or has no stream, is 1: one line."""

    def failed(code: int, part: str, *arguments: str) -> None:
        found, out, err = run(command, "--remote", *arguments)
        assert (found, out, len(err.splitlines())) == (code, "", 1), err
        assert part in err

    failed(2, "--dir", "--dir", str(tmp_path))
    server.delete_stream()
    failed(1, "has no stream")
    monkeypatch.setenv("EVENTBUS_NATS_URL", f"nats://127.0.0.1:{free_port()}")
    failed(1, "cannot connect")
    monkeypatch.delenv("EVENTBUS_NATS_URL")
    failed(2, "no server is set")


def test_following(server: NatsServer, tmp_path: Path, run: Run) -> None:
    """`cat --follow` and `watch` show what other hosts ship while they run."""
    write_log(tmp_path / "a", 3)
    ship(tmp_path / "a", server.settings)

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "eventbus", *arguments, "--remote"]
        with (tmp_path / arguments[0]).open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=dict(os.environ))

    def shown(name: str) -> str:
        return (tmp_path / name).read_text()

    following, watching = start("cat", "-f", "--since", "1h"), start("watch", "abc", "--wait")
    try:
        wait_until(lambda: len(shown("cat").splitlines()) == 3)
        two_hosts(tmp_path, server)
        wait_until(lambda: len(shown("cat").splitlines()) == 9)
        wait_until(lambda: "tests" in shown("watch"))
    finally:
        for each in (following, watching):
            each.send_signal(signal.SIGINT)
            each.wait(10)
