"""Plugins as a third party has them: built, installed into a fresh environment, and used from there."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from examples.tests.conftest import EXAMPLES, ROOT, Environment

PROGRAM = """
import time
import anyio
from eventbus import PhaseTask, WorkflowEventTracker
from eventbus.runtime import build_runtime

runtime = build_runtime(without=["console_progress"])
assert not runtime.failed, runtime.failed
with runtime.bus as bus:
    tracker = WorkflowEventTracker(bus)
    tracker.workflow_started("release")
    anyio.run(PhaseTask("tests", lambda: time.sleep(0.02), tracker).run)
    tracker.workflow_completed()
"""


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
    """From nothing to a plugin that is installed, tested, checked, configured, seen at work, and built."""
    began = time.monotonic()
    eventbus = "eventbus"
    installed.run(eventbus, "plugins", "new", "slow-nodes", cwd=tmp_path)
    project = tmp_path / "slow-nodes"
    installed.install("--no-deps", "--editable", project)
    assert "passed" in installed.run("python", "-m", "pytest", "-q", cwd=project).stdout
    installed.run("ruff", "check", "--no-cache", cwd=project)
    installed.run("ruff", "format", "--check", "--no-cache", cwd=project)
    installed.run("mypy", "--cache-dir", tmp_path / "cache", cwd=project)
    assert "slow_nodes" in installed.run(eventbus, "plugins", cwd=tmp_path).stdout
    checked = installed.run(eventbus, "plugins", "check", "slow_nodes", cwd=tmp_path).stdout
    assert {line.split()[0] for line in checked.splitlines()} == {"ok"}
    (tmp_path / "pyproject.toml").write_text("[tool.eventbus.plugins.slow_nodes]\nlimit_seconds = 0.01\n")
    installed.run("python", "-c", PROGRAM, cwd=tmp_path)
    found = installed.run(eventbus, "cat", "--type", "PatternDetected", cwd=tmp_path).stdout.splitlines()
    assert [json.loads(line)["message"] for line in found if "slow_nodes" in line] == ["tests"]
    installed.run("python", "-m", "build", cwd=project)
    shown = installed.run("python", "-m", "twine", "check", "--strict", *(project / "dist").iterdir()).stdout
    assert shown.count("PASSED") == 2
    installed.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "slow-nodes")
    print(f"from nothing to a built plugin: {time.monotonic() - began:.0f} s")
