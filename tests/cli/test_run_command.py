"""`eventbus run`: the command runs as by itself; its start, its end and its events are recorded.

A test that waits for a command starts a process: `run` blocks the signals that it waits for in its
own threads, and another thread of this process would take them.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventbus import Event, NodeCompleted, WorkflowCompleted, WorkflowStarted
from eventbus.history import EventLog

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawnp"), reason="needs a POSIX system")

INSTRUMENTED = """
from eventbus import EventBus, PhaseTask, WorkflowEventTracker
from eventbus_subscribers import JsonPersister
import anyio
with EventBus([JsonPersister()]) as bus:
    tracker = WorkflowEventTracker(bus)
    tracker.workflow_started("inner")
    anyio.run(PhaseTask("tests", lambda: 1, tracker).run)
    tracker.workflow_completed()
"""


def _stored(directory: Path, event_type: type[Event] = Event) -> list[Any]:
    return list(EventLog(directory).events(types=event_type))


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_commands_own(program: Program, tmp_path: Path, code: int) -> None:
    """`run` exits with the command's exit code, and the end of the run records it."""
    ended = program("run", "--dir", tmp_path / "log", "--", "sh", "-c", f"exit {code}")
    assert ended.returncode == code
    (start,), (end,) = (
        _stored(tmp_path / "log", WorkflowStarted),
        _stored(tmp_path / "log", WorkflowCompleted),
    )
    assert (start.workflow_id, start.run_id) == ("sh", end.run_id)
    assert (end.success, end.status, end.metadata) == (
        not code,
        "failed" if code else "ok",
        {"exit_code": code},
    )
    assert end.duration_seconds > 0


@pytest.mark.parametrize(("name", "status"), [("TERM", "cancelled"), ("KILL", "failed")])
def test_a_signal_gives_128_and_its_number(program: Program, tmp_path: Path, name: str, status: str) -> None:
    """If signal n ended the command the exit code is 128 + n, as in shells, and the end names the signal."""
    ended = program("run", "--dir", tmp_path / "log", "--", "sh", "-c", f"kill -{name} $$")
    assert ended.returncode == 128 + signal.Signals[f"SIG{name}"]
    (end,) = _stored(tmp_path / "log", WorkflowCompleted)
    assert (end.status, end.error_type) == (status, f"SIG{name}")


def test_standard_streams_are_inherited(tmp_path: Path) -> None:
    """The command reads our stdin and writes to our stdout and stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "eventbus", "run", "--progress", "quiet", "sh", "-c", "cat; echo said >&2"],
        cwd=tmp_path, input="given\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "given\n")
    assert "said\n" in ended.stderr


def test_arguments_are_passed_on_as_they_are(program: Program) -> None:
    """Options and a second `--` after the command belong to the command."""
    script = "import sys; print(sys.argv[1:])"
    ended = program("run", "--", sys.executable, "-c", script, "--dir", "x", "--", "--help")
    assert ended.stdout == "['--dir', 'x', '--', '--help']\n"


def test_the_environment_names_session_and_log(program: Program, tmp_path: Path) -> None:
    """The command finds EVENTBUS_SESSION_ID and EVENTBUS_DIR, an absolute path, in its environment."""
    show = 'echo "$EVENTBUS_SESSION_ID $EVENTBUS_DIR"'
    ended = program("run", "--session", "s1", "--dir", tmp_path / "log", "--", "sh", "-c", show)
    assert ended.stdout == f"s1 {tmp_path / 'log'}\n"
    ended = program("run", "--", "sh", "-c", show, EVENTBUS_SESSION_ID="s2", EVENTBUS_DIR="here")
    assert ended.stdout == f"s2 {tmp_path / 'somewhere' / 'here'}\n"


def test_events_of_the_command_are_shown_and_stored_once(program: Program, tmp_path: Path) -> None:
    """Events that the command publishes are shown live, and are in the log once, in one session."""
    log = tmp_path / "log"
    ended = program("run", "--session", "s1", "--dir", log, "--", sys.executable, "-c", INSTRUMENTED)
    assert ended.returncode == 0
    lines = [" ".join(line.split()[1:4]) for line in ended.stderr.splitlines() if line[:1] == "+"]
    assert [line.partition(" (")[0] for line in lines if "tests" in line] == ["done inner/tests"]
    assert lines[-1].startswith("end workflow python")
    events = _stored(log)
    assert {event.session_id for event in events} == {"s1"}
    assert [event.node_id for event in events if isinstance(event, NodeCompleted)] == ["tests"]


def test_other_sessions_are_not_shown(program: Program, tmp_path: Path) -> None:
    """Events of another session are not shown."""
    ended = program(
        "run", "--session", "s1", "--dir", tmp_path, "--",
        "env", "EVENTBUS_SESSION_ID=s2", sys.executable, "-c", INSTRUMENTED,
    )  # fmt: skip
    assert ended.returncode == 0
    assert "tests" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "code", "problem"),
    [
        (["no-such-command"], 127, "there is no command no-such-command"),
        (["/etc/passwd"], 126, "/etc/passwd"),
    ],
)
def test_a_command_that_cannot_be_run_is_one_line(
    cli: Program, tmp_path: Path, command: list[str], code: int, problem: str
) -> None:
    """The exit code is 127 for a missing command and 126 for one that is not executable, as in shells."""
    ended = cli("run", "--dir", tmp_path / "log", "--", *command)
    assert ended.returncode == code
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert problem in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert _stored(tmp_path / "log") == []


def test_without_a_command_it_is_a_usage_error(cli: Program) -> None:
    """`run` needs a command."""
    ended = cli("run")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")


WAITS = (
    "import signal, sys, time\n"
    "signal.signal(signal.{0}, lambda *_: sys.exit(7))\n"
    "print('ready', flush=True)\n"
    "time.sleep(20)\n"
)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_signals_are_passed_on(tmp_path: Path, name: str) -> None:
    """A signal sent to `run` reaches the command, whose reaction is the exit code."""
    command = [sys.executable, "-c", WAITS.format(name)]
    with subprocess.Popen(
        [sys.executable, "-m", "eventbus", "run", "--progress", "quiet", "--", *command],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.Signals[name])
        assert running.wait(30) == 7


def test_ctrl_c_in_a_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    """The terminal interrupts both processes; the command receives one SIGINT, and decides how to end."""
    script = (
        "import signal, sys, time\n"
        "received = []\n"
        "signal.signal(signal.SIGINT, lambda *_: received.append(1))\n"
        "print('ready', flush=True)\n"
        "until = time.monotonic() + 20\n"
        "while not received and time.monotonic() < until:\n"
        "    time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "sys.exit(40 + len(received))\n"
    )
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execv(
            sys.executable,
            [
                sys.executable,
                "-m",
                "eventbus",
                "run",
                "--progress",
                "quiet",
                "--",
                sys.executable,
                "-c",
                script,
            ],
        )
    shown, deadline = b"", time.monotonic() + 30
    while b"ready" not in shown and time.monotonic() < deadline:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 41


def test_a_run_ends_with_what_show_shows_and_a_next_step(program: Program, tmp_path: Path) -> None:
    """`run` ends, on stderr, with the block of `show`, and a command that works as typed."""
    log = tmp_path / "a log"
    ended = program("run", "--dir", log, "--", "sh", "-c", "echo said; exit 3")
    assert (ended.returncode, ended.stdout) == (3, "said\n")
    *_, verdict, empty, row, next_step = ended.stderr.splitlines()
    assert re.match(r"✗ sh failed after \d\.\ds with exit code 3    session \w+ ", verdict)
    assert (empty, row.split()[1:]) == ("", ["✗", "sh", "exit", "code", "3"])
    assert next_step.startswith("next: ")
    shown = subprocess.run(
        next_step.removeprefix("next: ").replace("eventbus", f"{sys.executable} -m eventbus", 1)
        if next_step.startswith("next: eventbus")
        else next_step.removeprefix("next: "),
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "end    workflow sh FAILED" in shown.stdout


@pytest.mark.parametrize("mode", ["json", "quiet"])
def test_json_and_quiet_have_no_block(program: Program, mode: str) -> None:
    """With `--progress json` stderr is events only, and with quiet only problems and ends."""
    ended = program("run", "--progress", mode, "--", "true")
    assert "next:" not in ended.stderr
    assert "✓" not in ended.stderr


def test_a_live_view_of_a_command_is_refused(cli: Program) -> None:
    """What the command writes would be overwritten: `run --progress tty` is wrong usage, and runs nothing."""
    ended = cli("run", "--progress", "tty", "--", "touch", "here")
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: what the command writes would be overwritten by a live view. hint: run it with --progress "
        "plain, and watch it from another terminal with: eventbus watch\n"
    )
    assert not Path("here").exists()


def test_the_log_stays_out_of_git(program: Program, somewhere: Path) -> None:
    """A log that is created within a project does not appear in its git status."""
    subprocess.run(["git", "init", "-q", somewhere], check=True, timeout=30)
    assert program("run", "--", "true").returncode == 0
    assert list((somewhere / ".session-buddy" / "events").iterdir())
    status = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=somewhere,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert status.stdout == ""


def test_a_log_that_cannot_be_written_does_not_stop_the_command(program: Program, tmp_path: Path) -> None:
    """Without a log the command runs all the same, with its exit code, and a note."""
    (tmp_path / "file").write_text("no directory")
    ended = program("run", "--dir", tmp_path / "file", "--", "sh", "-c", "echo done; exit 4")
    assert (ended.returncode, ended.stdout) == (4, "done\n")
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "file").read_text() == "no directory"


SAYS_AND_FAILS = "echo said; exit 7"
_STREAMS = [" ".join(some) for count in range(1, 4) for some in combinations(("<&-", ">&-", "2>&-"), count)]


def _run_in_a_shell(directory: Path, before: str, after: str = "") -> subprocess.CompletedProcess[str]:
    command = shlex.join([sys.executable, "-m", "eventbus", "run", "--", "sh", "-c", SAYS_AND_FAILS])
    return subprocess.run(
        ["sh", "-c", f"{before}\n{command} {after}"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "limit", [pytest.param(n, marks=() if n == 9 else pytest.mark.nightly) for n in range(5, 31)]
)
def test_without_descriptors_the_command_runs_unobserved(tmp_path: Path, limit: int) -> None:
    """Where too few files may be open, the command runs all the same, and one line says so."""
    ended = _run_in_a_shell(tmp_path, f"ulimit -n {limit}")
    assert (ended.returncode, ended.stdout) == (7, "said\n")
    if limit < 16:
        assert ended.stderr == "note: the command is not observed: Too many open files\n"


@pytest.mark.parametrize("limit", [50_000, 60_000, 70_000, 80_000, 100_000])
@pytest.mark.nightly
def test_without_memory_the_command_runs_unobserved(tmp_path: Path, limit: int) -> None:
    """Where no thread can be started, the command runs all the same, with its exit code."""
    ended = _run_in_a_shell(tmp_path, f"ulimit -v {limit}")
    assert (ended.returncode, ended.stdout) == (7, "said\n")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param(each, marks=() if each.count("&") == 3 else pytest.mark.nightly)
        for each in (*_STREAMS, ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full")
    ],
)
def test_closed_and_full_streams_do_not_change_the_exit_code(tmp_path: Path, streams: str) -> None:
    """With closed or full standard streams, `run` ends with the command's own exit code."""
    ended = _run_in_a_shell(tmp_path, "", streams)
    assert ended.returncode == 7
    assert "Traceback" not in ended.stderr
    assert len(_stored(tmp_path / ".session-buddy")) == 2


@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.nightly
def test_a_limited_file_size_does_not_change_the_exit_code(tmp_path: Path, blocks: int) -> None:
    """Where files may not grow, `run` says what it could not store, and ends with the command's exit code."""
    ended = _run_in_a_shell(tmp_path, f"ulimit -f {blocks}")
    assert (ended.returncode, ended.stdout) == (7, "said\n")
    assert "not stored: " in ended.stderr


_SETTLE = """
import resource, sys
from eventbus.cli.standard_streams import settle_streams
sys.stdout = open(1, "w", closefd=False)  # buffered, whatever PYTHONUNBUFFERED is
print("this cannot be written")
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
sys.stderr.close()
settle_streams()
sys.exit(7)
"""


def test_streams_are_settled_without_descriptors() -> None:
    """What cannot be written is discarded, also if no more file may be opened, or a stream is closed."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", _SETTLE], stdout=full, timeout=60, check=False)
    assert ended.returncode == 7
