"""A command imports what it needs when it runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, NodeCompleted
from eventbus.cli.command_table import COMMANDS, every_command

SCRIPT = """
import json, os, sys
from eventbus.cli import main

for line in json.loads(sys.argv[1]):
    sys.stdout.flush()
    reader, writer = os.pipe()
    if not os.fork():
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        code = main(line.split())
        with os.fdopen(writer, "w") as file:
            print(code, *sys.modules, file=file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        print(line, file.read(), sep="|", end="")
    os.wait()
"""
READERS = ["sessions", "report", "report --json", "stats", "cat", "export", "doctor", "prune --older-than 9d"]
LINES = [*READERS, "config", "schema", "completion bash", "show", "-h", "sesions", "show nosuch"]
_OTHER_PROGRAMS = {
    "rich.live",
    "rich.progress",
    "mcp",
    "pydantic",
    "nats",
    "opentelemetry",
    "jinja2",
    "pytest",
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return what each command has imported, each run in a process that had imported nothing."""
    log = tmp_path_factory.mktemp("log")
    with EventBus([JsonPersister(log)]) as bus:
        bus.publish(NodeCompleted(session_id="s", workflow_id="w", node_id="n"))
    of_log = {*READERS, "show", "show nosuch"}
    lines = [f"{line} --dir {log}" if line in of_log else line for line in LINES]
    command = [sys.executable, "-c", SCRIPT, json.dumps(lines)]
    ended = subprocess.run(command, cwd=log, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, set[str]] = {}
    for name, printed in zip(LINES, ended.stdout.splitlines(), strict=True):
        code, *modules = printed.partition("|")[2].split()
        assert int(code) == {"sesions": 2, "show nosuch": 3}.get(name, 0), printed[:200]
        found[name] = {*modules}
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_command_imports_no_other(imported: dict[str, set[str]], line: str) -> None:
    """A command imports no other command, none of the extras that it does not use, and not the event loop."""
    name = line.partition(" ")[0]
    others = {f"eventbus.cli.{each.module or each.name}" for each in COMMANDS if each.name != name}
    own = {f"eventbus.cli.{each.module or each.name}" for each in COMMANDS if each.name == name}
    unneeded = {"asyncio", "trio", "eventbus.public_names", "eventbus.bus", *_OTHER_PROGRAMS, *(others - own)}
    assert not imported[line] & unneeded


@pytest.mark.parametrize("line", [*READERS, "config", "schema", "completion bash", "-h", "sesions"])
def test_rich_is_for_terminals(imported: dict[str, set[str]], line: str) -> None:
    """What prints lines into a pipe does without rich."""
    assert not {each for each in imported[line] if each.partition(".")[0] == "rich"}


@pytest.mark.parametrize("line", ["-h", "sesions", "completion bash"])
def test_help_needs_no_command(imported: dict[str, set[str]], line: str) -> None:
    """The help of the program, a wrong word and the script of a shell need neither events nor settings."""
    assert not imported[line] & {"msgspec", "eventbus.settings", "eventbus.events.event", "sqlite3"} - (
        {"msgspec", "eventbus.events.event"} if line == "sesions" else set()  # its error is made printable
    )


def test_every_command_has_a_name_of_its_own() -> None:
    """Two commands never share the words to type."""
    names = [name for name, _ in every_command()]
    assert len(names) == len({*names})
