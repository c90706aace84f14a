"""One log directory: everything that reads or writes the log finds it in the same place."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from eventbus_subscribers import ConsoleProgress, JsonPersister

from eventbus import DEFAULT_DIRECTORY, EventBus, NodeCompleted, SkillsWorkflowCorrelator, log_directory
from eventbus.history import EventLog
from eventbus.runtime import build_runtime
from eventbus.settings import load_settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose log is in `logs`; the working directory is a folder of the project."""
    (tmp_path / "pyproject.toml").write_text('[tool.eventbus]\ndirectory = "logs"\nprogress = "loud"\n')
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    return tmp_path


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def store_an_event() -> None:
    with EventBus([JsonPersister()]) as bus:
        bus.publish(NodeCompleted(session_id="s", workflow_id="ci", node_id="tests"))


# The callers.


def test_what_commands_write_is_found(project: Path) -> None:
    """`EventLog()` and the correlator read the log that a program with the project's settings writes."""
    (project / "pyproject.toml").write_text('[tool.eventbus]\ndirectory = "logs"\n')
    runtime = build_runtime(only=("json_persister",))
    with runtime.bus as bus:
        bus.publish(NodeCompleted(session_id="s", workflow_id="ci", node_id="tests"))
    assert len(list(EventLog())) == 1
    assert list(SkillsWorkflowCorrelator().correlate_by_session()) == ["s"]


def test_the_event_log(project: Path) -> None:
    """`EventLog()` reads the log in the project's directory."""
    assert EventLog().directory == project / "logs"


def test_the_persister(project: Path) -> None:
    """`JsonPersister()` writes the log in the project's directory."""
    store_an_event()
    assert len(list((project / "logs" / "events").iterdir())) == 1
    assert list((project / "src").iterdir()) == []


def test_the_correlator(project: Path) -> None:
    """`SkillsWorkflowCorrelator()` reads the log and the legacy files in the project's directory."""
    correlator = SkillsWorkflowCorrelator()
    assert correlator.skills_file == project / "logs" / "skill_metrics.json"
    assert correlator.workflow_events_file == project / "logs" / "workflow_events.json"
    store_an_event()
    assert list(correlator.correlate_by_session()) == ["s"]


def test_the_console(project: Path) -> None:
    """`ConsoleProgress()` shows the project's directory."""
    screen = StringIO()
    with EventBus([ConsoleProgress(screen, mode="plain")]) as bus:
        bus.publish(NodeCompleted(session_id="s", workflow_id="ci", node_id="tests"))
    assert screen.getvalue().splitlines()[0] == f"eventbus: session=s dir={project / 'logs'}"


# The function.


def test_a_given_directory_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A given directory is returned as it is; an empty one counts as not given."""
    monkeypatch.setenv("EVENTBUS_DIR", "elsewhere")
    assert log_directory("given") == log_directory(Path("given")) == Path("given")
    assert log_directory("") == log_directory(None) == log_directory() == Path("elsewhere")


def test_the_environment_wins_over_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EVENTBUS_DIR` wins over pyproject.toml; an empty value counts as unset, and ~ is a home directory."""
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("EVENTBUS_DIR", "~/logs")
    assert log_directory() == Path("/home/someone/logs")
    monkeypatch.setenv("EVENTBUS_DIR", "")
    assert log_directory() == project / "logs"


def test_the_nearest_file_counts(project: Path) -> None:
    """The nearest pyproject.toml counts, even if it sets nothing: then its directory has the log."""
    (project / "src" / "pyproject.toml").write_text("[project]\nname = 'inner'\n")
    assert log_directory() == project / "src" / DEFAULT_DIRECTORY


def test_a_file_that_changes(project: Path) -> None:
    """A pyproject.toml that changes is read again."""
    assert log_directory() == project / "logs"
    (project / "pyproject.toml").write_text('[tool.eventbus]\ndirectory = "other logs"\n')
    assert log_directory() == project / "other logs"
    (project / "pyproject.toml").unlink()
    assert log_directory() == project / "src" / DEFAULT_DIRECTORY


def test_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pyproject.toml the log is in the working directory."""
    monkeypatch.chdir(tmp_path)
    assert log_directory() == tmp_path / DEFAULT_DIRECTORY


@pytest.mark.parametrize(
    "text",
    ["", '[tool.eventbus]\ndirectory = "logs"\n', '[tool.eventbus]\ndirectory = "/logs"\n', "[tool.eventbus"],
)
@pytest.mark.parametrize("variable", ["", "elsewhere"])
def test_commands_use_the_same_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, variable: str
) -> None:
    """`log_directory` returns the directory of `load_settings`, wherever it is set."""
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.setenv("EVENTBUS_DIR", variable)
    monkeypatch.chdir(tmp_path)
    assert log_directory() == load_settings(ignore_unreadable=True).directory


# What cannot be used.


def write_nonsense(file: Path) -> None:
    file.write_text("not TOML [")


def write_other_bytes(file: Path) -> None:
    file.write_bytes(b"\xff")


def set_a_number(file: Path) -> None:
    file.write_text("[tool.eventbus]\ndirectory = 7\n")


def set_nothing_of_ours(file: Path) -> None:
    file.write_text("tool = 1\n")


def set_a_strange_home(file: Path) -> None:
    file.write_text('[tool.eventbus]\ndirectory = "~no-such-user/logs"\n')


@pytest.mark.parametrize(
    "break_file", [write_nonsense, write_other_bytes, set_a_number, set_nothing_of_ours, set_a_strange_home]
)
def test_a_file_that_cannot_be_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    break_file: Callable[[Path], None],
) -> None:
    """A pyproject.toml that cannot be used is ignored with one warning: a program goes on working."""
    break_file(tmp_path / "pyproject.toml")
    monkeypatch.chdir(tmp_path)
    store_an_event()
    assert log_directory() == tmp_path / DEFAULT_DIRECTORY
    assert len(list(EventLog())) == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("eventbus.settings", logging.WARNING)
    assert str(tmp_path / "pyproject.toml") in record.getMessage()


def test_a_variable_that_cannot_be_used(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An `EVENTBUS_DIR` that cannot be used is ignored with one warning."""
    monkeypatch.setenv("EVENTBUS_DIR", "~no-such-user/of the test")
    assert log_directory() == log_directory() == project / "logs"
    assert [record.name for record in caplog.records] == ["eventbus.settings"]
    assert "EVENTBUS_DIR" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a directory in use cannot be deleted there")
def test_a_working_directory_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a working directory that was deleted, the default is returned."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert log_directory() == Path(DEFAULT_DIRECTORY)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)
def test_a_directory_above_that_is_private(tmp_path: Path) -> None:
    """A directory above that the user may not enter has no pyproject.toml for this user."""
    working_directory = tmp_path / "private" / "of a daemon"
    working_directory.mkdir(parents=True)
    working_directory.chmod(0o755)
    program = f"""
import os
from eventbus import log_directory
os.chdir({str(working_directory)!r})
os.setuid(65534)
print(log_directory())
"""
    (tmp_path / "private").chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (str(working_directory / DEFAULT_DIRECTORY), "")


def test_what_importing_costs() -> None:
    """`from eventbus import *` reads no pyproject.toml, and imports no TOML parser."""
    program = "import sys, json; from eventbus import *; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "tomllib" not in json.loads(done.stdout)
