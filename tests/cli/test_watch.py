"""`eventbus watch` shows a session of another process while it runs, and ends with its outcome."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventbus.cli.watched_session import WatchedSession
from eventbus.events import (
    Event,
    NodeProgress,
    NodeStarted,
    SessionLinked,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.history import EventLog
from tests.cli.live_writer import Writer
from tests.history.log_examples import append, segment_path, stored

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
RUN: dict[str, Any] = {"session_id": "s1", "workflow_id": "ci", "run_id": "r"}


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments: object, columns: int = 80, rows: int = 24) -> None:
        self.seen = ""
        self.pid, self.descriptor = pty.fork()
        if not self.pid:
            environment = {**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"}
            environment.pop("COLUMNS", None)  # pytest-xdist sets it
            words = [sys.executable, "-m", "eventbus", *map(str, arguments)]
            os.execvpe(sys.executable, words, environment)
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str, seconds: float = 20) -> str:
        """Read until a text was written; return all that was written."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not come: {self.seen!r}"
            if select.select([self.descriptor], [], [], 0.1)[0]:
                self.read()
        return self.seen

    def read(self) -> bool:
        """Read what was written; return False if the program has ended."""
        try:
            data = os.read(self.descriptor, 65_536)
        except OSError:  # the program has ended
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def write(self, data: bytes) -> None:
        """Press keys."""
        os.write(self.descriptor, data)

    def ended(self) -> int:
        """Read to the end; return the exit code."""
        while self.read():
            pass
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def watching(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "eventbus", "watch", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    return next(line for line in process.stdout if text in line)


def test_a_run_of_another_process_is_watched_to_its_end(tmp_path: Path, writer: Writer) -> None:
    """In a pipe each change is a line when it happens; the verdict comes last, and is the exit code."""
    writer.publish("start", "lint")
    process = watching("--dir", tmp_path / "log")
    line_with(process, "start  lint")
    writer.publish("linted")
    line_with(process, "done   lint")
    writer.publish("fail", "failed")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].endswith("FAIL   tests (2.0s) E")
    assert lines[2].startswith("✗ ci failed after 3.0s    session s1 · ")
    assert lines[3] == "  1 of 2 nodes succeeded, tests failed"


def test_it_waits_for_the_next_session(tmp_path: Path, writer: Writer) -> None:
    """Where nothing runs it waits, also for a log that does not exist yet; a success is exit code 0."""
    process = watching("--dir", tmp_path / "log", "--wait")
    assert process.stderr is not None
    assert process.stderr.readline() == f"note: waiting for a session in {tmp_path / 'log'}\n"
    writer.publish("start", "linted")
    line_with(process, "done   lint")
    writer.publish("end")
    assert "✓ ci succeeded in 3.0s" in process.communicate(timeout=30)[0]
    assert process.returncode == 0


def test_a_writer_that_is_killed_is_not_waited_for(tmp_path: Path, writer: Writer) -> None:
    """A session whose process is gone is shown as unfinished, and is a failure."""
    writer.publish("start", "lint")
    process = watching("--dir", tmp_path / "log", "s1")
    line_with(process, "start  lint")
    writer.kill()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "✗ ci unfinished: its process is gone" in out


def test_the_first_failure_ends_it(tmp_path: Path, writer: Writer) -> None:
    """With --fail-fast it ends, with 1, while the run goes on."""
    process = watching("--dir", tmp_path / "log", "--fail-fast", "--wait", "s1")
    writer.publish("start", "fail")
    assert "tests failed" in process.communicate(timeout=30)[0]
    assert (process.returncode, writer.process.poll()) == (1, None)


def test_on_a_terminal_the_state_is_drawn_and_stays_in_the_scrollback(tmp_path: Path, writer: Writer) -> None:
    """The other screen shows the state; on the end it is left, and the verdict is printed."""
    writer.publish("start", "lint")
    terminal = Terminal("watch", "--dir", tmp_path / "log", columns=100)
    terminal.until("▸")
    terminal.resize(40, 10)
    writer.publish("linted", "fail", "failed")
    terminal.until("tests failed")
    assert terminal.ended() == 1
    drawn, _, left = terminal.seen.rpartition("\x1b[?7h\x1b[?25h\x1b[?1049l")
    assert drawn.count("\x1b[?1049h") == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", left)
    assert plain.startswith("✗ ci failed after 3.0s")
    assert max(map(len, plain.splitlines())) < 40


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_leaving_changes_nothing_for_the_run(tmp_path: Path, writer: Writer, key: bytes) -> None:
    """After q or Ctrl-C the terminal is as before, the exit code is 130, and the run goes on."""
    writer.publish("start", "lint")
    terminal = Terminal("watch", "--dir", tmp_path / "log")
    before = termios.tcgetattr(terminal.descriptor)
    terminal.until("▸")
    terminal.write(key)
    terminal.until("\x1b[?1049l")
    after = termios.tcgetattr(terminal.descriptor)
    assert terminal.ended() == 130
    assert before[:4] == after[:4]
    writer.publish("linted", "end")


def test_a_terminated_watch_leaves_the_screen(tmp_path: Path, writer: Writer) -> None:
    """SIGTERM ends it with 143, and the terminal is as before."""
    writer.publish("start", "lint")
    terminal = Terminal("watch", "--dir", tmp_path / "log")
    terminal.until("▸")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ended() == 143
    assert terminal.seen.count("\x1b[?1049l") == terminal.seen.count("\x1b[?1049h") == 1


def log_of(directory: Path, *events: Event, bus: str = "b0") -> Path:
    path = segment_path(directory, bus, start=datetime(2026, 1, 2, tzinfo=UTC))
    append(path, b"".join(stored(seq, event) for seq, event in enumerate(events, 1)))
    return directory


def test_a_session_that_has_ended_is_shown_at_once(cli: Program, tmp_path: Path) -> None:
    """With --once the latest session is shown, whatever its state; without a session nothing is."""
    log_of(tmp_path, WorkflowStarted(**RUN), WorkflowCompleted(**RUN, status="cancelled", success=False))
    done = cli("watch", "--once", "--dir", tmp_path)
    assert (done.returncode, done.stdout.startswith("⊘ ci cancelled")) == (130, True)
    empty = tmp_path / "empty"
    (empty / "events").mkdir(parents=True, mode=0o700)
    assert (
        cli("watch", "--once", "--dir", empty).stdout,
        cli("watch", "no", "--dir", tmp_path).returncode,
    ) == ("", 3)


def test_a_detached_skill_is_waited_for(tmp_path: Path) -> None:
    """A session is not over while a skill is open that another process will end, as one of an agent."""
    named: dict[str, Any] = {"session_id": "s1", "skill_name": "k", "invocation_id": "i"}
    log_of(tmp_path, SkillStarted(**named, metadata={"detached": True}))
    log = EventLog(tmp_path)
    watched = WatchedSession(log, "s1")
    for outcome in ("open", "succeeded"):
        for record in log.records():
            watched.add(record)
        assert watched.is_over() is (outcome == "succeeded")
        assert [each.outcome for each in watched.view.skills.values()] == [outcome]
        log_of(tmp_path, SkillCompleted(**named), bus="b1")


def test_a_record_that_comes_twice_is_folded_once(tmp_path: Path) -> None:
    """A record that was read, and is then followed, is not folded again; nor are other sessions' records."""
    other = WorkflowStarted(session_id="other", workflow_id="ci", run_id="q")
    progress = [NodeProgress(**RUN, node_id="a", completed=n) for n in (1, 2, 3)]
    log_of(tmp_path, WorkflowStarted(**RUN), other, NodeStarted(**RUN, node_id="a"), *progress)
    log = EventLog(tmp_path)
    watched = WatchedSession(log, "s1")
    assert [len(watched.add(each)) for each in log.records()] == [1, 0, 1, 1, 1, 1]
    assert not any(watched.add(each) for each in log.records())
    (node,) = watched.view.nodes()
    assert (node.passes, node.completed, watched.view.events) == (1, 3, 5)


def test_a_linked_session_is_watched_with_the_one_it_belongs_to(tmp_path: Path) -> None:
    """From its link on, another session's events are folded, those before the link, too; others are not."""
    job: dict[str, Any] = {"session_id": "job", "workflow_id": "ci", "run_id": "j"}
    log_of(
        tmp_path, SkillStarted(session_id="agent", skill_name="k"), WorkflowStarted(**job),
        WorkflowStarted(session_id="other", workflow_id="ci", run_id="q"),
        SessionLinked(session_id="agent", other="job"), NodeStarted(**job, node_id="a"),
    )  # fmt: skip
    log = EventLog(tmp_path)
    watched = WatchedSession(log, "agent")
    assert [len(watched.add(each)) for each in log.records()] == [1, 0, 0, 3, 0]
    assert [each.run_id for each in watched.view.runs.values()] == ["j"]
    figures = watched.figures()
    assert figures is not None
    assert (figures.skills_open, figures.workflows_open, figures.session_id) == (1, 1, "agent")
