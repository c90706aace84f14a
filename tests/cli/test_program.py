"""The program: its arguments, its exit codes, and its errors of one line."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from eventbus_subscribers import JsonPersister

import eventbus
from benchmarks.stored_log import write_log
from eventbus import EventBus, NodeCompleted
from eventbus.cli import main
from eventbus.cli.command_table import COMMANDS
from eventbus.ground.distribution import DISTRIBUTION

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


def one_line_error(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.stdout == ""
    assert ended.stderr.endswith("\n")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("error: ")
    assert ". hint: " in ended.stderr
    return ended.stderr


def test_the_version_is_the_distributions(program: Program) -> None:
    """`python -m eventbus --version` prints the installed version on stdout."""
    ended = program("--version")
    assert (ended.returncode, ended.stdout) == (0, f"eventbus {importlib.metadata.version(DISTRIBUTION)}\n")


def test_the_version_needs_nothing_else() -> None:
    """`eventbus --version` imports no more than the program's first lines."""
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from eventbus.cli import main\n"
        "assert main(['--version']) == 0\n"
        "print(*set(sys.modules) - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    version, imported = ended.stdout.splitlines()
    assert version == f"eventbus {eventbus.__version__}"
    of_ours = {each for each in imported.split() if each.startswith("eventbus")}
    first = {"exit_codes", "standard_streams"}
    assert of_ours == {
        "eventbus",
        "eventbus.cli",
        "eventbus.errors",
        *(f"eventbus.cli.{each}" for each in first),
    }
    assert not {"argparse", "logging", "pathlib", "re", "typing"} & {*imported.split()}


def test_a_command_imports_no_other(tmp_path: Path) -> None:
    """A command runs without the modules of the other commands, and without `eventbus.public_names`."""
    script = (
        "import sys\n"
        "from eventbus.cli import main\n"
        "assert main(['stats', '--dir', 'nowhere']) == 3\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)
    imported = {*ended.stdout.split()}
    assert "eventbus.cli.log_statistics" in imported
    others = {f"eventbus.cli.{each.module or each.name}" for each in COMMANDS if each.name != "stats"}
    assert not imported & {*others, "eventbus.public_names", "rich.console"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["frobnicate"], "frobnicate"),
        (["demo", "--frobnicate"], "--frobnicate"),
        (["demo", ".", "surplus"], "surplus"),
        (["demo", "--progress", "loud"], "'loud' is not one of auto, tty, plain, quiet, json"),
        (["demo", "--dir"], "--dir"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(cli: Program, arguments: list[str], problem: str) -> None:
    """The line names the word that is wrong; there is no traceback, no box, no page of help."""
    ended = cli(*arguments)
    assert ended.returncode == 2
    assert problem in one_line_error(ended)


def test_a_wrong_setting_is_one_line_and_exit_code_2(cli: Program, project: Path) -> None:
    """The line names the file and the key, and nothing runs."""
    with (project / "pyproject.toml").open("a") as file:
        file.write('[tool.eventbus]\nprogress = "loud"\n')
    ended = cli("demo", project)
    assert ended.returncode == 2
    assert f"{project / 'pyproject.toml'}: [tool.eventbus]: " in one_line_error(ended)
    assert ": progress: Invalid enum value 'loud'. hint: Give progress one of " in ended.stderr


def test_without_the_extra_the_error_says_what_to_install(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without rich, a list for a terminal is an error of one line; the same list for a pipe is printed."""
    write_log(tmp_path / "log", sessions=1)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert cli("sessions", "--dir", tmp_path / "log").returncode == 0
    ended = cli("sessions", "--dir", tmp_path / "log", FORCE_COLOR="1")
    assert ended.returncode == 2
    assert one_line_error(ended) == (
        "error: a coloured screen needs rich, which is not installed. "
        "hint: install it with: pip install 'anyio-eventbus[cli]'\n"
    )


@pytest.mark.skipif(importlib.util.find_spec("crackerjack") is not None, reason="crackerjack is installed")
def test_without_crackerjack_the_error_says_what_to_install(program: Program, somewhere: Path) -> None:
    """`eventbus crackerjack` without crackerjack prints one line, and creates no log."""
    ended = program("crackerjack", "run", "--fast")
    assert list(somewhere.iterdir()) == []
    assert ended.returncode == 3
    assert "crackerjack is not installed in this environment. hint: install it with: " in one_line_error(
        ended
    )


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`eventbus plugins | true` prints no traceback, not even when the interpreter exits."""
    running = subprocess.Popen(
        [sys.executable, "-m", "eventbus", "plugins"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    errors = running.stderr.read()
    running.stderr.close()
    assert (running.wait(60), errors) == (141, "")


def test_the_program_can_be_called_as_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    """`main` takes arguments, returns the exit code, and restores the signal handlers of the process."""
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("eventbus ")
    assert main(["frobnicate"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "command", ["sessions", "report", "stats", "export", "show s", "doctor --repair", "cat"]
)
def test_a_defect_is_one_line(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception that nothing expects ends a command with one line, which names it and its place."""

    def defective(*_: object) -> None:
        raise NameError("name 'zork' is not defined")

    with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(NodeCompleted(session_id="s", workflow_id="w", node_id="n"))
    monkeypatch.setattr("eventbus.history.indexing.decode_raw", defective)
    monkeypatch.setattr("eventbus.history.reading.Reader.records", defective)
    assert main([*command.split(), "--dir", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unexpected NameError in test_program.py, line ")


def test_a_defect_of_crackerjack_is_shown_as_without_eventbus(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of crackerjack itself comes with its traceback."""

    def crash(arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("eventbus.cli.crackerjack_command._program", lambda: crash)
    ended = cli("crackerjack", "--dir", tmp_path, "run")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback ")
    assert ended.stderr.endswith("ZeroDivisionError\n")


_WITHOUT_BUSES = """
import sys
from eventbus.cli import main, run_command
run_command.build_runtime = None
sys.exit(main(["run", "--", "sh", "-c", "exit 7"]))
"""


def test_a_defect_of_observing_does_not_keep_a_command_from_running(tmp_path: Path) -> None:
    """`run` runs the command unobserved if observing it fails for whatever reason."""
    program = [sys.executable, "-c", _WITHOUT_BUSES]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (
        7,
        "note: the command is not observed: 'NoneType' object is not callable\n",
    )


@pytest.mark.nightly
@pytest.mark.parametrize("limit", range(5, 25))
@pytest.mark.parametrize("command", ["demo .", "cat -f", "watch", "sessions", "doctor", "export", "plugins"])
def test_without_descriptors_a_command_ends_without_a_traceback(
    tmp_path: Path, command: str, limit: int
) -> None:
    """Where too few files may be open, a command does its work, or says in one line that it cannot."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    program = f"ulimit -n {limit}; exec timeout --foreground -s INT 3 {sys.executable} -m eventbus {command}"
    ended = subprocess.run(
        ["sh", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode in (0, 1, 3, 124, 130)


def test_a_command_may_close_its_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A command that closes stdout, as the server of mcp 1 does at its end, keeps its exit code."""

    def closes_its_output(arguments: object) -> int:
        sys.stdout.close()
        return 0

    monkeypatch.setattr("eventbus.cli.app.run", closes_its_output)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["stats"]) == 0
    assert capfd.readouterr().err == ""
