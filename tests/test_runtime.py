"""The composition root: settings and plugins become a bus."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from eventbus import NodeStarted, WorkflowCompleted, WorkflowStarted, decode, session_scope
from eventbus.runtime import build_runtime
from eventbus.settings import Settings
from eventbus.trackers import WorkflowEventTracker


def test_the_built_in_subscribers_follow_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run, with no word about subscribers: it is on the screen, in the log and in the report."""
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
    """What is disabled does nothing at all: no line on the screen, no report."""
    disabled = ("console_progress", "event_logger", "live_correlator")
    runtime = build_runtime(Settings(directory=tmp_path, disabled=disabled))
    with runtime.bus as bus:
        bus.publish(NodeStarted(workflow_id="w", node_id="n"))
    assert list(runtime.subscribers) == ["json_persister"]
    assert runtime.correlation_report() is None
    assert capsys.readouterr().err == ""


def test_a_program_may_choose_among_the_subscribers(tmp_path: Path) -> None:
    """Only those that are named are made, or all but those; what is disabled stays so."""
    settings = Settings(directory=tmp_path, disabled=("live_correlator",))
    only = build_runtime(settings, only=("json_persister", "live_correlator"))
    without = build_runtime(settings, without=("json_persister",))
    assert list(only.subscribers) == ["json_persister"]
    assert "json_persister" not in without.subscribers
    assert {"console_progress", "event_logger"} <= set(without.subscribers)


def test_the_settings_in_force_are_those_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without settings the nearest pyproject.toml is asked."""
    (tmp_path / "pyproject.toml").write_text('[tool.eventbus]\ndirectory = "logs"\ndisabled = []\n')
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
