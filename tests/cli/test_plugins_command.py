"""`eventbus plugins`, and commands beside plugins that are broken in every way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventbus.history import EventLog
from eventbus.testing import SCENARIOS
from tests.cli.conftest import Program
from tests.distributions import Distributions, on_the_path


def find_ruff() -> str | None:
    return shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


SOURCE = """
from eventbus import Event, Subscriber

class Good(Subscriber[Event]):
    def __init__(self, limit: int = 1) -> None: ...
    async def handle(self, event): ...

class FailsOnLoss(Good):
    async def handle(self, event):
        if type(event).__name__ == "EventsLost":
            print("not shown")
            raise ValueError("lost")

class WritesIntoTheLog(Good):
    async def start(self, bus):
        from eventbus import log_directory
        (log_directory() / "mine").write_text("")

class HandlesNothing(Subscriber[Event]):
    async def handel(self, event): ...

class NeedsMore(Good):
    def __init__(self, address: str) -> None: ...

class FailsToStart(Good):
    async def start(self, bus):
        raise RuntimeError("no start")

def exits():
    raise SystemExit(7)

number = 42
"""
REASONS = {
    "absent": "ModuleNotFoundError: No module named 'no_such_module'",
    "exits": "SystemExit: 7",
    "exits_early": "SystemExit: 4",
    "handles_nothing": "SubscriberError: HandlesNothing overrides neither handle nor handle_batch",
    "json_persister": (
        "the name is taken by eventbus_subscribers.json_persister:JsonPersister of anyio-eventbus"
    ),
    "misspelt": "AttributeError: module 'plugged' has no attribute 'Goood'",
    "needs_more": "it needs the option address",
    "newer": "ImportError: cannot import name 'SomethingOfVersion9'",
    "no_place": "",
    "number": "plugged:number is an instance of int, neither a Subscriber class nor a function",
    "syntax": "SyntaxError: ",
}
"""The plugins that cannot be loaded, and the beginnings of the reasons."""


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distributions]:
    (tmp_path / "path").mkdir()
    with on_the_path(tmp_path / "path") as made:
        made.add_module("plugged", SOURCE)
        # For programs of their own; this process has it in `sys.path`.
        inherited = os.environ.get("PYTHONPATH")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(made.directory), inherited))))
        yield made


@pytest.fixture
def broken(distributions: Distributions) -> Distributions:
    """Install a distribution for each way to be broken, and one that works."""
    distributions.add_module("syntax_error", "def f(:\n")
    distributions.add_module("exits_on_import", "raise SystemExit(4)\n")
    distributions.add_module("needs_newer", "from eventbus import SomethingOfVersion9\n")
    targets = {
        "absent": "no_such_module:Thing",
        "exits": "plugged:exits",
        "exits_early": "exits_on_import:Thing",
        "fails_to_start": "plugged:FailsToStart",
        "good": "plugged:Good",
        "handles_nothing": "plugged:HandlesNothing",
        "json_persister": "plugged:Good",
        "misspelt": "plugged:Goood",
        "needs_more": "plugged:NeedsMore",
        "newer": "needs_newer:Thing",
        "no_place": "nowhere at all",
        "number": "plugged:number",
        "syntax": "syntax_error:Thing",
    }
    for name, target in targets.items():
        distributions.add(
            f"of-{name}", {name: target}, requires="anyio-eventbus>=9" if name == "newer" else ""
        )
    return distributions


def states(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    return {(line["name"], line["distribution"]): line for line in lines}


def test_plugins_are_listed_with_their_state(cli: Program) -> None:
    """Each plugin is one line: its state, name, distribution and version, and how to enable it."""
    ended = cli("plugins")
    lines = {line.split()[1]: line for line in ended.stdout.splitlines()}
    assert (ended.returncode, ended.stderr) == (0, "")
    assert lines["json_persister"].split()[0] == "ok"
    assert lines["json_persister"].split()[2] == "anyio-eventbus"
    assert lines["event_logger"].split()[0] == "disabled"
    assert (
        'off by default; to enable it: enabled = ["event_logger"] in [tool.eventbus]' in lines["event_logger"]
    )


def test_a_disabled_plugin_says_where(cli: Program) -> None:
    """A plugin that the settings disable is listed with their place, and an enabled one is ok."""
    ended = cli("plugins", "--json", EVENTBUS_DISABLED="live_correlator", EVENTBUS_ENABLED="event_logger")
    found = states(ended.stdout)
    assert (
        found["live_correlator", "anyio-eventbus"]["reason"]
        == "disabled by the environment: EVENTBUS_DISABLED"
    )
    assert found["live_correlator", "anyio-eventbus"]["enable"] == "take it out of that list"
    assert found["event_logger", "anyio-eventbus"]["state"] == "ok"


def test_unknown_plugins_are_noted(cli: Program) -> None:
    """A name in the settings that no plugin has is noted with the nearest right name."""
    ended = cli("plugins", EVENTBUS_DISABLED="event_loger")
    assert ended.returncode == 0
    assert ended.stderr == (
        "note: the environment: EVENTBUS_DISABLED: no plugin 'event_loger' is installed; "
        "did you mean 'event_logger'?\n"
    )


def test_broken_plugins_are_listed_with_their_reasons(cli: Program, broken: Distributions) -> None:
    """A plugin that cannot be used is listed with its reason, the others are ok, and the exit code is 1."""
    ended = cli("plugins", "--json")
    found = states(ended.stdout)
    assert ended.returncode == 1
    assert {name for name, _ in found if found[name, _]["state"] == "failed"} == set(REASONS)
    for name, reason in REASONS.items():
        assert found[name, f"of-{name.replace('_', '-')}"]["reason"].startswith(reason)
    assert found["newer", "of-newer"]["reason"].endswith(
        " (it requires anyio-eventbus>=9; anyio-eventbus 0.1.0 is installed)"
    )
    assert found["good", "of-good"]["state"] == found["json_persister", "anyio-eventbus"]["state"] == "ok"
    shown = cli("plugins").stdout
    assert "FAILED   absent" in shown
    assert f"  no_such_module:Thing: {REASONS['absent']}" in shown


def test_a_plugin_that_prints(cli: Program, distributions: Distributions) -> None:
    """What a plugin prints when it is imported goes to stderr: the list can be parsed."""
    distributions.add_module("chatty", f"print('hello')\n{SOURCE}")
    distributions.add("chatty", {"chatty": "chatty:Good"})
    ended = cli("plugins", "--json")
    assert states(ended.stdout)["chatty", "chatty"]["state"] == "ok"
    assert "hello" in ended.stderr


def test_a_wrong_option_fails_its_plugin(cli: Program, distributions: Distributions, somewhere: Path) -> None:
    """A wrong option is the reason why its plugin failed, and names the file and the key."""
    distributions.add("of-good", {"good": "plugged:Good"})
    file = somewhere / "pyproject.toml"
    file.write_text('[tool.eventbus.plugins.good]\nlimit = "x"\n')
    found = states(cli("plugins", "--json").stdout)
    assert found["good", "of-good"]["reason"] == (
        f"{file}: [tool.eventbus.plugins.good]: limit: Expected `int`, got `str`. Correct it"
    )


def test_commands_work_beside_broken_plugins(
    program: Program, broken: Distributions, somewhere: Path
) -> None:
    """A command with plugins that are broken in every way says so, and does its work."""
    ended = program("run", "--", "true")
    assert ended.returncode == 0
    notes = [line for line in ended.stderr.splitlines() if " was not loaded: " in line]
    assert len(notes) == len(REASONS)
    assert ended.stderr.count("Traceback") == ended.stderr.count("RuntimeError: no start") == 1  # logged once
    names = [type(event).__name__ for event in EventLog(somewhere / ".session-buddy").events()]
    assert {"WorkflowStarted", "WorkflowCompleted"} <= set(names)


@pytest.mark.nightly
def test_plugins_that_hang(program: Program, broken: Distributions, somewhere: Path) -> None:
    """Plugins whose import or construction hangs are given up after 5 s, all together."""
    distributions = broken
    for place in ("import", "init"):
        call = "threading.Event().wait()"
        source = f"import threading\ndef make():\n    {call}\n" + (f"{call}\n" if place == "import" else "")
        distributions.add_module(f"hangs_in_{place}", source)
        distributions.add(f"of-{place}", {place: f"hangs_in_{place}:make"})
    ended = program("plugins", "--json")
    found = states(ended.stdout)
    assert {found[name, f"of-{name}"]["reason"] for name in ("import", "init")} == {
        "it did not load within 5 s"
    }
    assert found["good", "of-good"]["state"] == "ok"
    assert program("run", "--", "true").returncode == 0


# eventbus plugins check.


def test_a_sound_plugin_passes_the_check(cli: Program, distributions: Distributions, somewhere: Path) -> None:
    """`eventbus plugins check NAME` prints a line for each scenario, and leaves the project's log alone."""
    distributions.add("of-good", {"good": "plugged:WritesIntoTheLog"})
    ended = cli("plugins", "check", "good")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["ok"] * len(SCENARIOS)
    assert list(somewhere.iterdir()) == []


def test_a_disabled_plugin_can_be_checked(cli: Program) -> None:
    """A disabled plugin can be checked; what it prints or logs is not shown."""
    assert cli("plugins", "check", "event_logger").returncode == 0


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (
            "HandlesNothing",
            "FAILED  loading: it SubscriberError: HandlesNothing overrides neither handle nor",
        ),
        ("NeedsMore", "FAILED  loading: it needs the option address"),
        ("FailsOnLoss", "FAILED  lost events: it handle of a EventsLost raises ValueError: lost (asyncio)"),
        ("FailsToStart", "FAILED  no events: it start raises RuntimeError: no start (trio)"),
    ],
)
def test_a_plugin_with_a_defect_fails_the_check(
    cli: Program, distributions: Distributions, target: str, line: str
) -> None:
    """A plugin with a defect is exit code 1, and the line says in which scenario it did what."""
    distributions.add("of-bad", {"bad": f"plugged:{target}"})
    ended = cli("plugins", "check", "bad")
    assert ended.returncode == 1
    assert any(each.startswith(line) for each in ended.stdout.splitlines()), ended.stdout
    assert "not shown" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (
            ("check", "event_loger"),
            3,
            "no plugin 'event_loger' is installed. hint: did you mean 'event_logger'",
        ),
        (("check", "quite_another"), 3, "hint: eventbus plugins lists the installed ones"),
        (("check",), 2, "eventbus plugins check NAME"),
        (("chek", "x"), 2, "there is no eventbus plugins chek"),
        (("new",), 2, "eventbus plugins new NAME"),
        (("new", "json"), 2, "the name json is taken in this environment"),
        (("new", "event-logger"), 2, "the name event_logger is taken"),
        (("new", "Slow Nodes"), 2, "'Slow Nodes' cannot be the name of a package"),
        (("new", "../elsewhere"), 2, "cannot be the name of a package"),
        (("new", "class"), 2, "cannot be the name of a package"),
        (
            ("new", "x" * 41),
            2,
            "cannot be the name of a package. hint: use small letters, digits and - or _, 40",
        ),
    ],
)
def test_wrong_arguments(cli: Program, arguments: tuple[str, ...], code: int, problem: str) -> None:
    """Wrong arguments are one line, and the exit code of their kind."""
    ended = cli("plugins", *arguments)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (code, 1)
    assert problem in ended.stderr


# eventbus plugins new.


def run(project: Path, *words: str) -> str:
    """Run a module of Python in a project; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=project, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_project_is_complete(cli: Program, somewhere: Path) -> None:
    """`eventbus plugins new NAME` writes a project whose own tests pass, and writes over nothing."""
    ended = cli("plugins", "new", "slow-nodes")
    assert (ended.returncode, ended.stderr) == (0, "")
    written = {Path(line) for line in ended.stdout.splitlines()[:-1]}
    project = somewhere / "slow-nodes"
    assert written == {file.relative_to(somewhere) for file in project.rglob("*") if file.is_file()}
    assert "2 passed" in run(
        project, *["pytest", "-q", "-p", "no:cacheprovider", "-k"], "found or (replay and asyncio)"
    )
    assert cli("plugins", "new", "slow-nodes").returncode == 1


@pytest.mark.skipif(find_ruff() is None, reason="ruff is not installed")
@pytest.mark.parametrize("name", ["a", "slow-nodes", "x" * 40])
def test_a_new_project_passes_its_linter(cli: Program, somewhere: Path, name: str) -> None:
    """A new project is formatted and passes its own linter, whatever its name."""
    assert cli("plugins", "new", name).returncode == 0
    for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [str(find_ruff()), *words], cwd=somewhere / name, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.nightly
def test_a_new_project_is_typed(cli: Program, somewhere: Path) -> None:
    """A new project passes all of its tests, and mypy's strict mode."""
    assert cli("plugins", "new", "slow-nodes").returncode == 0
    run(somewhere / "slow-nodes", *["pytest", "-q", "-p", "no:cacheprovider"])
    pytest.importorskip("mypy")
    run(somewhere / "slow-nodes", "mypy", "--cache-dir", str(somewhere / "cache"))


@pytest.mark.nightly
def test_from_nothing_to_a_checked_plugin(program: Program, somewhere: Path) -> None:
    """A new project, installed into a directory as pip does it, is listed as ok and passes the check."""
    assert program("plugins", "new", "slow-nodes").returncode == 0
    project = somewhere / "slow-nodes"
    distributions = Distributions(project / "src")
    distributions.add("slow-nodes", {"slow_nodes": "slow_nodes:SlowNodes"})
    path = {"PYTHONPATH": os.pathsep.join(filter(None, (str(project / "src"), os.environ.get("PYTHONPATH"))))}
    (somewhere / "pyproject.toml").write_text("[tool.eventbus.plugins.slow_nodes]\nlimit_seconds = 3\n")
    assert states(program("plugins", "--json", **path).stdout)["slow_nodes", "slow-nodes"]["state"] == "ok"
    assert program("plugins", "check", "slow_nodes", **path).returncode == 0
