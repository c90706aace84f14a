"""How the words of a command line become the arguments of a command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventbus.cli.arguments import Parser
from eventbus.cli.command_table import COMMANDS

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


def parsed(line: str) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of a command that are not their defaults, and the unknown options."""
    name, *words = line.split()
    command = next(each for each in COMMANDS if each.name == name)
    parser = Parser(f"eventbus {name}", "", add_help=not command.passes_options_on)
    parser.add_parameters(command.load())
    found = parser.parse(words)
    assert found is not None
    return {key: value for key, value in found[0].items() if not (value is None or value is False)}, found[1]


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("cat --type a --type=b -f", {"types": ["a", "b"], "follow": True, "form": "jsonl"}),
        ("sessions --limit 0 --dir=a/b", {"limit": 0, "directory": Path("a/b")}),
        ("show abc --json", {"session": "abc", "as_json": True}),
        ("show --json -- -abc", {"session": "-abc", "as_json": True}),
        ("report --json abc --dir x", {"session": "abc", "as_json": True, "directory": Path("x")}),
        ("demo", {"project": Path()}),
        ("demo --progress plain there", {"project": Path("there"), "progress": "plain"}),
    ],
)
def test_options_and_arguments_come_in_any_order(line: str, given: dict[str, Any]) -> None:
    """Options stand before or after arguments; a word after `--` is an argument."""
    assert parsed(line) == (given, [])


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("make -j2 --dir there", ["make", "-j2", "--dir", "there"]),
        ("--session s make --session t", ["make", "--session", "t"]),
        ("-- make test", ["make", "test"]),
        ("--session s -- --odd -- x", ["--odd", "--", "x"]),
    ],
)
def test_run_leaves_the_commands_words_alone(words: str, command: list[str]) -> None:
    """From its first word on, everything is the command's, whatever it looks like."""
    given, unknown = parsed(f"run {words}")
    assert (given["command"], unknown) == (command, [])


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("", []),
        ("run --fast --dir x", ["run", "--fast", "--dir", "x"]),
        ("--dir x --help", ["--help"]),
        ("-t --session s run -v", ["-t", "run", "-v"]),
        ("-- --dir x", ["--dir", "x"]),
    ],
)
def test_crackerjacks_arguments_are_passed_on(words: str, arguments: list[str]) -> None:
    """Options that are not `eventbus crackerjack`'s, `--help` too, are crackerjack's, in their order."""
    given, unknown = parsed(f"crackerjack {words}")
    assert [*unknown, *given.get("arguments", [])] == arguments


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("run", "COMMAND"),
        ("prune", "--older-than"),
        ("sessions --limit -1", "'-1' is not a number of 0 or more"),
        ("sessions --limit x", "'x' is not a number of 0 or more"),
        ("sessions --lim 3", "there is no option --lim. hint: did you mean --limit?"),
        ("cat --since yesterday", "'yesterday' is not a time"),
        ("stats --json=x", "--json"),
        ("export --format", "--format"),
    ],
)
def test_what_is_wrong_is_named(cli: Program, line: str, problem: str) -> None:
    """A missing argument, a bad value, an abbreviation and a surplus value are errors that name them."""
    ended = cli(*line.split())
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    assert problem in ended.stderr
    assert ended.stderr.endswith(f"see eventbus {line.split()[0]} --help\n")
