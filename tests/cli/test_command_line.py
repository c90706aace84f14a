"""The command line as a whole: its help, its exit codes, its errors."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, WorkflowCompleted, WorkflowStarted
from eventbus.cli.command_parser import command_parser
from eventbus.cli.command_table import COMMANDS, SECTIONS, Command, every_command
from eventbus.ground.session_names import spell

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
EVERY = dict(every_command())
HEADINGS = ["run and observe", "look back", "set up and maintain"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log with a run that succeeded in session `good` and one that failed, later, in `bad`."""
    with EventBus([JsonPersister(tmp_path / "log")]) as bus:
        for session in ("good", "bad"):
            run: dict[str, Any] = {"session_id": session, "workflow_id": "ci", "run_id": session}
            bus.publish(WorkflowStarted(**run))
            bus.publish(WorkflowCompleted(**run, success=session == "good", duration_seconds=1.0))
    return tmp_path / "log"


def one_line(error: str) -> str:
    """Return the one line of an error, which says what is wrong and what to do."""
    (line,) = error.splitlines()
    assert re.fullmatch(r"error: \S.*\. hint: \S.*", line), line
    return line


# Help.


def test_the_program_alone_prints_its_help(cli: Program) -> None:
    """`eventbus` alone prints its help, with exit code 0; so does a group, such as `eventbus skill`."""
    for words in ([], ["skill"], ["hook"]):
        alone, asked, short = cli(*words), cli(*words, "--help"), cli(*words, "-h")
        assert (alone.returncode, alone.stderr) == (0, "")
        assert alone.stdout == asked.stdout == short.stdout


def test_the_commands_are_listed_under_headings(cli: Program) -> None:
    """The commands are listed under headings, each with one sentence."""
    shown = cli(COLUMNS="100").stdout
    places = [shown.index(f"\n{heading}:\n") for heading in HEADINGS]
    assert places == sorted(places)
    assert list(SECTIONS) == HEADINGS
    for section in SECTIONS.values():
        for each in section:
            assert re.search(rf"^  {each.name} +{re.escape(each.summary)}$", shown, re.MULTILINE)


@pytest.mark.parametrize("name", EVERY)
def test_every_command_has_an_example_and_its_exit_codes(cli: Program, name: str) -> None:
    """Every command has `-h`, with an example that can be typed and what its exit codes mean."""
    ended = cli(*name.split(), "-h")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"^examples?:\n  \S", ended.stdout, re.MULTILINE)
    codes = re.search(r"^exit codes:\n((?:  (?:\d+|n) +\S.*\n)+)\Z", ended.stdout, re.MULTILINE)
    assert codes is not None
    assert "  2    wrong usage" in codes[1]
    assert name == "crackerjack" or cli(*name.split(), "--help").stdout == ended.stdout


@pytest.mark.parametrize("name", EVERY)
def test_the_examples_can_be_typed(name: str) -> None:
    """Each example is a line whose words the command takes."""
    command = EVERY[name]
    for example in command.examples:
        words = shlex.split(re.sub(r'^(?:id=|eval ")\$\((.*?)\)"?$', r"\1", example))
        words = words[: min(words.index(each) if each in words else len(words) for each in ("|", "&&", ">"))]
        assert words[0] == "eventbus" or name == "mcp"
        if name == "mcp":
            continue
        given = command_parser(name, command).parse(words[1 + len(name.split()) :])
        assert given is not None
        assert given[1] == [] or command.passes_options_on


def test_as_a_module_it_is_the_same_program(program: Program, cli: Program) -> None:
    """`python -m eventbus` is the same program."""
    ended, same = program("stats", "--dri", "x", COLUMNS="80"), cli("stats", "--dri", "x", COLUMNS="80")
    assert (ended.returncode, ended.stdout, ended.stderr) == (same.returncode, same.stdout, same.stderr)


def test_the_directory_has_one_wording(cli: Program) -> None:
    """`--dir PATH` has the same words in the help of each command that has it."""
    shown = {name: cli(*name.split(), "-h", COLUMNS="200").stdout for name in EVERY}
    lines = {name: re.search(r"^  --dir PATH +(\S.*)$", text, re.MULTILINE) for name, text in shown.items()}
    assert {line[1] for line in lines.values() if line} == {
        "Directory of the event log. Default: EVENTBUS_DIR, else .session-buddy in the project."
    }
    of_a_log = {"sessions", "show", "report", "stats", "cat", "export", "watch", "doctor", "prune", "run"}
    assert of_a_log <= {name for name, line in lines.items() if line}


# How a command ends.


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", 0),
        ("sessions", 0),
        ("show good", 0),
        ("show ba --json", 0),
        ("watch good --once", 0),
        ("watch bad --once", 1),
        ("demo .", 1),
        ("frobnicate", 2),
        ("sessions --frobnicate", 2),
        ("sessions --limit x", 2),
        ("show good bad", 2),
        ("skill frobnicate", 2),
        ("show nosuch", 3),
        ("report nosuch", 3),
        ("export nosuch", 3),
        ("watch nosuch", 3),
        ("sessions --dir nowhere", 3),
        ("cat --dir nowhere", 3),
        ("doctor --dir nowhere", 3),
        ("prune --older-than 1d --dir nowhere", 3),
        ("skill complete 0123456789ab", 3),
        ("demo nowhere", 3),
    ],
)
def test_exit_codes(cli: Program, log: Path, line: str, code: int) -> None:
    """0 ok, 1 problems found, 2 wrong usage, 3 not found; an error is one line with a hint."""
    words = line.split()
    ended = cli(*words, EVENTBUS_DIR=str(log))
    assert ended.returncode == code, ended
    if code > 1:
        assert ended.stdout == ""
        one_line(ended.stderr)


@pytest.mark.parametrize("line", ["sessions", "show", "report", "stats", "cat", "export", "doctor"])
def test_damaged_data_has_an_exit_code(cli: Program, log: Path, line: str) -> None:
    """4: damaged parts of the log were skipped, and all else was done."""
    (segment,) = (log / "events").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'{"seq":3,', b'{"seq":3;'))
    ended = cli(line, "--dir", log)
    assert ended.returncode == 4
    assert ended.stdout != ""


def test_a_wrong_setting_is_wrong_usage(cli: Program, log: Path) -> None:
    """2 is also a setting that is wrong."""
    ended = cli("sessions", EVENTBUS_KEEP_DAYS="soon")
    assert ended.returncode == 2
    assert "EVENTBUS_KEEP_DAYS" in one_line(ended.stderr)


@pytest.mark.parametrize(
    ("line", "nearest"),
    [
        ("sesions", "did you mean eventbus sessions?"),
        ("Show", "did you mean eventbus show?"),
        ("skill folow_up", "did you mean eventbus skill follow-up?"),
        ("zzz", "see eventbus --help"),
        ("cat --folow", "did you mean --follow? see eventbus cat --help"),
        ("sessions --limits=3", "did you mean --limit? see eventbus sessions --help"),
        ("--versoin", "did you mean --version? see eventbus --help"),
        ("sessions --zzz", "see eventbus sessions --help"),
        ("crackerjack --dir", "see eventbus crackerjack -h"),
    ],
)
def test_the_nearest_right_word_is_named(cli: Program, line: str, nearest: str) -> None:
    """A command or option that does not exist is an error, which names the nearest one that does."""
    ended = cli(*line.split())
    assert (ended.returncode, ended.stdout) == (2, "")
    assert one_line(ended.stderr).endswith(f"hint: {nearest}")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EIO])
def test_an_error_of_the_system_comes_with_a_hint(
    cli: Program, log: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A full disk, missing rights, too many open files and a broken disk are one line with a hint."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "file")

    monkeypatch.setattr("eventbus.history.session_history.SessionHistory.figures", fail)
    ended = cli("sessions", "--dir", log)
    assert ended.returncode == 1
    assert os.strerror(number) in one_line(ended.stderr)


@pytest.mark.parametrize("output", [">/dev/full", ">&-"])
def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, output: str) -> None:
    """On a full disk, and with stdout closed, every kind of output is one line of error, and exit code 1."""
    commands = ("config", "schema event", "completion bash", "show -h")
    for command in commands if output == ">/dev/full" else commands[:1]:
        script = f"exec {sys.executable} -m eventbus {command} {output}"
        ended = subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert (ended.returncode, ended.stdout) == (1, "")
        one_line(ended.stderr)


def test_hostile_words_make_one_line(cli: Program) -> None:
    """What was typed is shown in an error without the characters that a terminal would obey."""
    for word in ("\x1b[2Jx", "a\nerror: b", "‮sessions", "x" * 5_000, spell("s-\udcfc")):
        for words in ([word], ["show", word], ["cat", f"--{word}"], ["cat", "--session", word, word]):
            ended = cli(*words)
            assert ended.returncode in (2, 3)
            assert one_line(ended.stderr).isprintable()


# The table.


def test_the_summaries_are_true() -> None:
    """The sentence in the list is the first one of the command's help."""
    for command in COMMANDS:
        first, *_ = (command.load().__doc__ or "").split("\n")
        assert first == command.summary


def test_a_command_can_be_added_without_examples() -> None:
    """A command that says nothing of its exit codes has those of every command."""
    assert list(Command("x", "X.").ends) == ["0", "1", "2", "130"]
    assert list(Command("x", "X.", own_ends={"n": "its own", "3": "none"}).ends) == ["n", "2", "3"]
