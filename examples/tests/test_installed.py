"""Plugins as a third party has them: built, installed into a fresh environment, and used from there."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from examples.tests.conftest import EXAMPLES, ROOT, Environment


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_passes_its_tests(installed: Environment, tmp_path: Path, name: str) -> None:
    """An example passes its own tests and linters where it is installed."""
    project = tmp_path / name
    shutil.copytree(ROOT / "examples" / name, project)
    shutil.rmtree(project / "src")  # what is tested is what was installed
    shown = installed.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project).stdout
    assert " passed" in shown
    assert "failed" not in shown
    shutil.copytree(ROOT / "examples" / name / "src", project / "src")
    installed.run("ruff", "check", "--no-cache", cwd=project)
    installed.run("ruff", "format", "--check", "--no-cache", cwd=project)
    installed.run("mypy", "--cache-dir", tmp_path / "cache", cwd=project)


def test_the_sink_is_a_plugin_like_any_other(installed: Environment, tmp_path: Path) -> None:
    """The installed sink is listed, passes the check, and stores the events of a command."""
    states = [json.loads(line) for line in installed.run("eventbus", "plugins", "--json").stdout.splitlines()]
    assert {each["name"]: each["state"] for each in states}["sqlite_sink"] == "ok"
    installed.run("eventbus", "plugins", "check", "sqlite_sink", cwd=tmp_path)
    installed.run("eventbus", "run", "--", "true", cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / ".session-buddy" / "events.sqlite3")) as connection:
        stored = connection.execute("SELECT event_type FROM events").fetchall()
    assert stored == [("workflow_started",), ("workflow_completed",)]


def test_progress_of_tests_is_seen_in_the_log(installed: Environment, tmp_path: Path) -> None:
    """`eventbus run -- pytest` stores the progress of each test."""
    (tmp_path / "test_it.py").write_text("def test_one(): ...\ndef test_two(): ...\n")
    installed.run("eventbus", "run", "--", "python", "-m", "pytest", "-q", cwd=tmp_path)
    stored = installed.run("eventbus", "cat", "--type", "NodeProgress", cwd=tmp_path).stdout.splitlines()
    assert [(json.loads(line)["completed"], json.loads(line)["total"]) for line in stored] == [
        (0, 2),
        (1, 2),
        (2, 2),
    ]


def test_the_ten_minute_path(installed: Environment, tmp_path: Path) -> None:
    """The guide, as it is printed: from nothing to a plugin that is tested, checked, used, and built."""
    began = time.monotonic()
    guide = (ROOT / "docs" / "writing-a-subscriber.md").read_text("utf-8")
    section = guide[guide.index("## In ten minutes") : guide.index("## The class")]
    (program,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    first, second = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    shown = typed(installed, first, tmp_path)
    assert " passed" in shown
    assert "ok       slow_nodes" in shown
    assert shown.splitlines()[-1].startswith("ok ")
    (tmp_path / "slow-nodes" / "try_it.py").write_text(program, "utf-8")
    shown = typed(installed, second, tmp_path / "slow-nodes")
    found = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    assert [each["message"] for each in found if each["pattern"] == "slow_nodes"] == ["tests"]
    assert shown.count("PASSED") == 2
    installed.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "slow-nodes")
    print(f"from nothing to a built plugin: {time.monotonic() - began:.0f} s")


def typed(installed: Environment, block: str, directory: Path) -> str:
    """Type the commands of a block into a shell; return what was printed."""
    commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    return installed.run("sh", "-e", "-c", "\n".join(commands), cwd=directory).stdout
