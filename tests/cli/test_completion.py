"""Shells complete the commands, options, choices and names that can be typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, NodeCompleted, SkillStarted
from eventbus.cli.command_table import every_command
from eventbus.cli.completion_words import words_at

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
HOSTILE = ("a b", "$(touch pwned)", "`x`", "x;y", "x\ny", "*", "'q", 'q"', "~", "a:b", "", "\\")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the log of the settings, with the sessions `ab1` and `ab2`, and some that cannot be typed."""
    with EventBus([JsonPersister(tmp_path / "log")]) as bus:
        for session in ("ab1", "ab2", "über", *HOSTILE):
            bus.publish(SkillStarted(session_id=session, skill_name="release", invocation_id=session))
            bus.publish(NodeCompleted(session_id=session, workflow_id="ci", node_id="lint"))
    monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path / "log"))
    return tmp_path / "log"


def completed(line: str) -> set[str]:
    """Return what can stand at the end of a line."""
    *before, last = line.split(" ")
    return {*words_at([*filter(None, before), last])}


def test_commands_are_completed() -> None:
    """The first word is a command or a group, and that of a group is one of its commands."""
    assert {name.split()[0] for name, _ in every_command()} == completed("")
    assert completed("s") >= {"sessions", "show", "skill", "stats", "schema"}
    assert completed("skill f") == {"follow-up"}
    assert completed("--v") == {"--version"}
    assert completed("frobnicate ") == completed("skill frobnicate ") == set()


@pytest.mark.parametrize("name", [name for name, _ in every_command()])
def test_options_are_completed(name: str) -> None:
    """After a command `-` completes its options, each with `-h`."""
    found = completed(f"{name} -")
    assert "-h" in found
    assert all(each.startswith("-") for each in found)
    assert "--json" in completed("sessions --j")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run --progress p", {"plain"}),
        ("run --progress=p", {"plain"}),
        ("run --progress = p", {"plain"}),  # as bash gives them
        ("export --format perf", {"perfetto"}),
        ("cat --type node_c", {"node_completed"}),
        ("schema session_l", {"session_linked"}),
        ("plugins ", {"check", "new"}),
        ("plugins check json", {"json_persister"}),
        ("completion ", {"bash", "zsh", "fish"}),
        ("run ", set()),
        ("run make --d", set()),
        ("run -- --d", set()),
        ("run --session x --di", {"--dir"}),
        ("skill run release -- ma", set()),
        ("sessions --dir /", set()),
        ("report --html pa", set()),
        ("demo ", set()),
    ],
)
def test_values_are_completed(line: str, found: set[str]) -> None:
    """Choices, types and plugins are completed; where a file or another program may stand nothing is."""
    assert completed(line) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("show ", {"ab1", "ab2", "über"}),
        ("show ab", {"ab1", "ab2"}),
        ("watch --wait ab2", {"ab2"}),
        ("export --format perfetto ab1", {"ab1"}),
        ("cat --session ab", {"ab1", "ab2"}),
        ("run --session=ab", {"ab1", "ab2"}),
        ("skill start ", {"release"}),
        ("skill run re", {"release"}),
        ("stats l", {"lint"}),
    ],
)
def test_names_of_the_log_are_completed(log: Path, line: str, found: set[str]) -> None:
    """Sessions, skills and nodes come from the log; those that would have to be quoted are left out."""
    assert completed(line) == found


def test_another_log_is_looked_into(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are those of `--dir`, if it is given."""
    monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path / "none"))
    assert completed(f"show --dir {log} ab") == {"ab1", "ab2"}


def test_it_never_fails(cli: Program, tmp_path: Path) -> None:
    """Where there is no log, or it cannot be read, nothing is completed, and nothing is printed."""
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "x.jsonl").write_bytes(b'\xff"session_id":"\xff\\q"\n' * 3)
    os.mkfifo(tmp_path / "events" / "y.jsonl")
    for words in (["show", "--dir", tmp_path, ""], ["show", "--dir", "/dev/null", ""], ["--", "-"], []):
        ended = cli("completion", "words", *words)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert not words or ended.stdout == ""


def test_names_are_found_without_reading_events(tmp_path: Path) -> None:
    """Completing a session imports neither the command, nor argparse, nor what reads a log."""
    script = (
        "import sys\n"
        "from eventbus.cli import main\n"
        "assert main(['completion', 'words', 'show', '']) == 0\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)
    imported = {*ended.stdout.split()}
    assert not imported & {"argparse", "rich", "anyio", "sqlite3", "eventbus.cli.show", "eventbus.history"}


# In real shells.


@pytest.fixture
def shell(cli: Program, tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Return a function that runs lines after the completion script in a shell."""
    program = tmp_path / "eventbus"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m eventbus "$@"\n')
    program.chmod(0o755)

    def run(name: str, lines: str) -> list[str]:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"SKIPPED: {name} is not installed: its completion is not tried")
        script = tmp_path / f"completion.{name}"
        script.write_text(cli("completion", name).stdout)
        path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        ended = subprocess.run(
            [found, "-c", lines.format(script=script)],
            env=path, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    return run


def test_bash_completes(log: Path, shell: Callable[[str, str], list[str]]) -> None:
    """bash completes commands, sessions and the value after `=`, and runs nothing that a name contains."""
    lines = """
        source {script}
        complete -p eventbus >/dev/null || exit 1
        try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _eventbus eventbus; echo "${{COMPREPLY[*]}}"; }}
        try eventbus sho
        try eventbus show ab
        try eventbus run --progress = p
        try eventbus show --dir nowhere ""
    """
    assert shell("bash", lines) == ["show", "ab1 ab2", "plain", ""]
    assert not list(log.parent.glob("pwned"))


def test_zsh_completes(log: Path, shell: Callable[[str, str], list[str]]) -> None:
    """zsh completes commands and sessions."""
    lines = """
        compdef() {{ :; }}; compadd() {{ print -l -- "${{(@P)2}}"; }}; _files() {{ print files; }}
        source {script}
        try() {{ words=("$@"); CURRENT=$#; _eventbus; }}
        try eventbus sho
        try eventbus show ab
        try eventbus demo ""
    """
    assert shell("zsh", lines) == ["show", "ab1", "ab2", "files"]


def test_fish_completes(log: Path, shell: Callable[[str, str], list[str]]) -> None:
    """fish completes commands and sessions."""
    lines = "source {script}; complete -C 'eventbus sho'; complete -C 'eventbus show ab'"
    assert shell("fish", lines) == ["show", "ab1", "ab2"]


def test_an_unknown_shell_is_wrong_usage(cli: Program) -> None:
    """A shell without a script is an error that names those with one."""
    ended = cli("completion", "tcsh")
    assert ended.returncode == 2
    assert ended.stderr.endswith("hint: name one of bash, zsh, fish\n")
