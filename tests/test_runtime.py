"""The composition root: settings and plugins become a bus."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventbus import (
    NodeStarted,
    PluginError,
    WorkflowCompleted,
    WorkflowStarted,
    decode,
    session_scope,
)
from eventbus.runtime import build_runtime
from eventbus.settings import Settings
from eventbus.trackers import WorkflowEventTracker


def test_the_built_in_subscribers_follow_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The built-in subscribers show, store and report a run as the settings say."""
    runtime = build_runtime(Settings(directory=tmp_path / "log", progress="plain"))
    with session_scope("abc123"), runtime.bus as bus:
        tracker = WorkflowEventTracker(bus)
        tracker.workflow_started("ci")
        tracker.workflow_completed()
    assert list(runtime.subscribers) == ["console_progress", "json_persister", "live_correlator"]
    assert runtime.failed == ()
    shown = capsys.readouterr().err
    assert f"eventbus: session=abc123 dir={tmp_path / 'log'}" in shown
    assert "end    workflow ci ok" in shown
    (segment,) = (tmp_path / "log" / "events").iterdir()
    logged = {type(decode(line)) for line in segment.read_bytes().splitlines()}
    assert {WorkflowStarted, WorkflowCompleted} <= logged
    assert "Session: abc123" in str(runtime.correlation_report())


def test_a_disabled_subscriber_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disabled subscriber is not loaded: it shows nothing, and reports nothing."""
    disabled = ("console_progress", "event_logger", "live_correlator")
    runtime = build_runtime(Settings(directory=tmp_path, disabled=disabled))
    with runtime.bus as bus:
        bus.publish(NodeStarted(workflow_id="w", node_id="n"))
    assert list(runtime.subscribers) == ["json_persister"]
    assert runtime.correlation_report() is None
    assert capsys.readouterr().err == ""


def test_a_program_may_choose_among_the_subscribers(tmp_path: Path) -> None:
    """A program may name the subscribers to load or to leave out; disabled ones stay disabled."""
    settings = Settings(directory=tmp_path, disabled=("live_correlator",))
    only = build_runtime(settings, only=("json_persister", "live_correlator"))
    without = build_runtime(settings, without=("json_persister",))
    assert list(only.subscribers) == ["json_persister"]
    assert "json_persister" not in without.subscribers
    assert "console_progress" in without.subscribers
    assert "event_logger" not in without.subscribers


def test_the_settings_in_force_are_those_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without settings those of the nearest pyproject.toml are used."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.eventbus]\ndirectory = "logs"\nenabled = ["event_logger"]\n'
    )
    monkeypatch.chdir(tmp_path)
    runtime = build_runtime()
    assert runtime.settings.directory == tmp_path / "logs"
    assert "event_logger" in runtime.subscribers


def test_the_bus_starts_without_the_plugins_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken plugin is listed with its reason, and the bus has all the others."""
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[eventbus.subscribers]\nbroken = no_such_module:Thing\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    runtime = build_runtime(Settings(directory=tmp_path, progress="quiet"))
    assert [(each.plugin.name, each.reason) for each in runtime.failed] == [
        ("broken", "ModuleNotFoundError: No module named 'no_such_module'")
    ]
    with runtime.bus as bus:
        assert sorted(bus.statistics().subscriptions) == sorted(
            ["console_progress", "json_persister", "live_correlator"]
        )


# A persister that cannot be loaded.


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """Return a directory with a package that hides the built-in subscribers, and with a crackerjack."""
    package = tmp_path / "eventbus_subscribers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "fake_crackerjack.py").write_text(
        "from pathlib import Path\n\ndef main():\n    Path('ran').touch()\n"
    )
    info = tmp_path / "crackerjack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crackerjack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\ncrackerjack = fake_crackerjack:main\n")
    return tmp_path


def eventbus(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eventbus", *arguments]
    return subprocess.run(
        command, cwd=directory, env=dict(os.environ), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [("run", "--", "touch", "ran"), ("crackerjack", "run"), ("demo", ".")],
    ids=lambda each: each[0],
)
def test_a_command_that_could_store_nothing(hidden: Path, arguments: tuple[str, ...]) -> None:
    """A command that publishes fails with one line, before it runs anything, if the persister is hidden."""
    done = eventbus(hidden, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == (
        "error: events cannot be stored, because the plugin json_persister was not loaded: "
        "ModuleNotFoundError: No module named 'eventbus_subscribers.json_persister'. "
        f"hint: Check {hidden / 'eventbus_subscribers' / '__init__.py'}, or run without storing: "
        'disabled = ["json_persister"] in [tool.eventbus] of pyproject.toml'
    )
    assert not (hidden / "ran").exists()


def test_a_command_that_is_to_store_nothing(hidden: Path) -> None:
    """A command whose persister is disabled runs, and reports the other plugins that were not loaded."""
    (hidden / "pyproject.toml").write_text('[tool.eventbus]\ndisabled = ["json_persister", "event_logger"]\n')
    done = eventbus(hidden, "run", "--", "touch", "ran")
    assert done.returncode == 0
    assert (hidden / "ran").exists()
    assert not (hidden / ".session-buddy" / "events").exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("def f(:", "SyntaxError: .*"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_persister_that_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    """A runtime whose persister cannot be imported raises a `PluginError` with the reason."""
    monkeypatch.delitem(sys.modules, "eventbus_subscribers.json_persister", raising=False)
    monkeypatch.delitem(sys.modules, "eventbus_subscribers", raising=False)
    (tmp_path / "eventbus_subscribers.py").write_text(source)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(PluginError, match=f"was not loaded: {reason}. Check .*{tmp_path}"):
        build_runtime(Settings(directory=tmp_path))
    for chosen in (
        build_runtime(Settings(directory=tmp_path, disabled=("json_persister",))),
        build_runtime(Settings(directory=tmp_path), without=("json_persister",)),
        build_runtime(Settings(directory=tmp_path), only=("console_progress",)),
    ):
        assert "json_persister" not in chosen.subscribers
        assert "json_persister" not in [failed.plugin.name for failed in chosen.failed]


def test_a_persister_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime for which no persister is installed raises a `PluginError`, too."""
    monkeypatch.setattr("eventbus.runtime.find_plugins", list[object])
    with pytest.raises(
        PluginError, match=r"was not loaded: it is not installed. Install eventbus with pip, or"
    ):
        build_runtime(Settings(directory=tmp_path))
    assert build_runtime(Settings(directory=tmp_path), only=()).subscribers == {}
