"""Tests of the plugin, each with a pytest run in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from eventbus import NodeCompleted, NodeEvent, NodeProgress, NodeStarted, PhaseTask, WorkflowEventTracker
from eventbus.history import EventLog
from eventbus.running_node import RunningNode

TESTS = """
import os, sys
import pytest

def test_passes():
    assert not os.environ.get("EVENTBUS_NODE")  # what a test starts is not the node

def test_fails():
    assert False

@pytest.mark.skip(reason="no need")
def test_is_skipped(): ...
"""
WITHOUT_BUS = """
import sys

def test_nothing_is_imported():
    assert not [name for name in sys.modules if name == "eventbus" or name.startswith(("eventbus.", "anyio"))]
"""
NODE = RunningNode("crackerjack", "run-1", "session-1", "tests", 2)
OUTCOMES = {"test_passes": "passed", "test_fails": "failed", "test_is_skipped": "skipped"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with three tests."""
    (tmp_path / "test_sample.py").write_text(TESTS)
    return tmp_path


def environment(project: Path, variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of a run in a project, with its log there."""
    outer = {
        name: value for name, value in os.environ.items() if not name.startswith(("EVENTBUS_", "PYTEST"))
    }
    return {**outer, "EVENTBUS_DIR": str(project / "log"), **variables}


def run(project: Path, *options: str, words: Sequence[str] = (), **variables: str) -> str:
    """Run the tests of a project; return what was printed."""
    command = [sys.executable, "-m", *words, "pytest", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=project, env=environment(project, variables), capture_output=True, text=True, timeout=60
    )
    assert done.returncode < 2, done.stdout + done.stderr
    return done.stdout + done.stderr


def published(project: Path) -> list[Any]:
    """Return the node events in the log of a project."""
    return list(EventLog(project / "log").events(types=NodeEvent))


def steps(events: list[Any]) -> list[tuple[float, float | None]]:
    """Return the progress that was published."""
    return [(event.completed, event.total) for event in events if isinstance(event, NodeProgress)]


def outcomes(events: list[Any]) -> dict[str, str]:
    """Return the outcome of each test that was published."""
    return {event.message.rpartition("::")[2]: event.metadata["outcome"] for event in events if event.message}


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_each_test_is_progress_of_the_node(project: Path, options: tuple[str, ...]) -> None:
    """Each test that ends is one step of the running node, also under pytest-xdist."""
    if options:
        pytest.importorskip("xdist")
    run(project, *options, **NODE.variables())
    events = published(project)
    assert steps(events) == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert outcomes(events) == OUTCOMES
    for event in events:
        assert (
            RunningNode(event.workflow_id, event.run_id, event.session_id, event.node_id, event.attempt)
            == NODE
        )


def test_it_can_be_turned_off(project: Path) -> None:
    """With `-p no:eventbus_progress` nothing is published."""
    run(
        project, "-p", "no:eventbus_progress", "--deselect", "test_sample.py::test_passes", **NODE.variables()
    )
    assert published(project) == []


def test_it_costs_nothing_without_a_node(tmp_path: Path) -> None:
    """Without a node nothing of eventbus is imported."""
    (tmp_path / "test_sample.py").write_text(WITHOUT_BUS)
    assert "1 passed" in run(tmp_path, "-p", "no:anyio", EVENTBUS_NODE="")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("text", ["{", '{"run_id": 3}'])
def test_a_wrong_variable_is_ignored(project: Path, text: str) -> None:
    """A variable that names no node changes nothing."""
    assert "not published" not in run(project, "-k", "skipped", EVENTBUS_NODE=text)
    assert published(project) == []


def test_a_log_that_cannot_be_written_changes_no_result(project: Path) -> None:
    """Where nothing can be stored, the tests run as ever."""
    (project / "log").write_text("not a directory")
    assert "1 failed, 1 passed, 1 skipped" in run(project, **NODE.variables())


def test_wrong_settings_change_no_result(project: Path) -> None:
    """With wrong settings the header says that nothing is published."""
    (project / "pyproject.toml").write_text('[tool.eventbus]\nsync = "sometimes"\n')
    shown = run(project, **NODE.variables())
    assert "1 failed, 1 passed, 1 skipped" in shown
    assert "eventbus: the progress of these tests is not published: SettingsError: " in shown


def test_a_command_that_is_run_has_a_node_of_its_own(project: Path) -> None:
    """`eventbus run -- pytest` has a node `tests`, which ends as the exit code says."""
    words = ["eventbus", "run", "--", sys.executable, "-m"]
    run(project, words=words)
    events = published(project)
    assert {event.node_id for event in events} == {"tests"}
    assert isinstance(events[0], NodeStarted)
    assert isinstance(events[-1], NodeCompleted)
    assert (events[-1].status, len(steps(events))) == ("failed", 4)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("import no_such_module", "failed"),  # pytest calls this interrupted, too
        ("def test_it(): raise KeyboardInterrupt", "cancelled"),
        ("import pytest\ndef test_it(): pytest.exit('enough')", "cancelled"),
        ("", "ok"),
    ],
)
def test_the_node_ends_as_the_run_does(project: Path, source: str, status: str) -> None:
    """A run that was interrupted is cancelled, and one that could not collect its tests has failed."""
    (project / "test_sample.py").write_text(source)
    outer = RunningNode("ci", "run-1").variables()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    subprocess.run(command, cwd=project, env=environment(project, outer), capture_output=True, timeout=60)
    assert published(project)[-1].status == status


def test_every_outcome_is_counted(project: Path) -> None:
    """A test that is expected to fail has its own outcome, and one that crashes its worker has failed."""
    pytest.importorskip("xdist")
    source = """
import os
import pytest

@pytest.mark.xfail
def test_fails():
    assert False

@pytest.mark.xfail
def test_passes(): ...

def test_crashes():
    os._exit(3)
"""
    (project / "test_sample.py").write_text(source)
    run(project, "-n", "1", **NODE.variables())
    events = published(project)
    assert steps(events)[-1] == (3, 3)
    assert outcomes(events) == {"test_fails": "xfailed", "test_passes": "xpassed", "test_crashes": "failed"}


def test_a_phase_that_starts_pytest(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `PhaseTask` needs nothing to show the progress of its tests."""
    for name in [name for name in os.environ if name.startswith("EVENTBUS_")]:
        monkeypatch.delenv(name)
    tracker = WorkflowEventTracker(session_id="session-2")
    run_id = tracker.workflow_started("crackerjack")

    def runner() -> str:
        return run(project, EVENTBUS_NODE=os.environ["EVENTBUS_NODE"])

    anyio.run(PhaseTask("unit", runner, tracker).run)
    events = published(project)
    assert steps(events)[-1] == (3, 3)
    assert {(event.run_id, event.node_id, event.session_id) for event in events} == {
        (run_id, "unit", "session-2")
    }
