"""What the commands say about failures, and about what never ended or never ran."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import Mock

import pytest

from eventbus.events import (
    Event,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from tests.history.log_examples import append, segment_path, stored

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NAME = "a-session-" * 12
RUN: dict[str, Any] = {"session_id": NAME, "workflow_id": "crackerjack", "run_id": "r"}
SKILL: dict[str, Any] = {"session_id": NAME, "skill_name": "k", "invocation_id": "i"}


def at(seconds: float) -> dict[str, Any]:
    return {"timestamp": NOON + timedelta(seconds=seconds)}


def log_of(directory: Path, *events: Event, bus: str = "b0") -> Path:
    """Store events as a process that is gone did."""
    append(
        segment_path(directory, bus, start=NOON),
        b"".join(stored(seq, event) for seq, event in enumerate(events, 1)),
    )
    return directory


def hook(name: str, status: str, when: float, **details: Any) -> NodeProgress:
    return NodeProgress(
        **RUN, **at(when), node_id="fast_hooks", metadata={"hook": name, "status": status, **details}
    )


@pytest.fixture
def failed_run(tmp_path: Path) -> Path:
    """Return a log with a run without nodes that failed with exit code 2."""
    end = WorkflowCompleted(
        **RUN, **at(1), status="failed", metadata={"exit_code": 2}, duration_seconds=1.0, success=False
    )
    return log_of(tmp_path / "log", WorkflowStarted(**RUN, **at(0)), end)


def test_a_failed_run_without_nodes_is_failed_everywhere(cli: Program, failed_run: Path) -> None:
    """Every command says that a run without nodes failed, and its exit code."""
    table = cli("sessions", "--dir", failed_run).stdout.splitlines()
    assert table[1].split()[4:] == ["crackerjack", "failed,", "exit", "2", "1.0s", "-", "-"]
    for command in (["sessions"], ["report"], ["report", "a-"]):
        found = json.loads(cli(*command, "--dir", failed_run, "--json").stdout)
        assert (found["outcome"], found["exit_code"], found["workflows_failed"]) == ("failed", 2, 1)
    report = cli("report", "--dir", failed_run).stdout
    assert "  Outcome: failed (exit code 2)\n  Workflows Failed: 1\n" in report
    shown = cli("show", "a-", "--events", "--dir", failed_run).stdout
    assert "\noutcome failed (exit code 2)\nworkflows failed 1\n" in shown
    assert "    +1.0s end    workflow crackerjack FAILED (1.0s) exit code 2\n" in shown
    assert "0 succeeded, 1 failed, 0 cancelled, 0 skipped, 0 open" in cli("stats", "--dir", failed_run).stdout
    totals = json.loads(cli("stats", "--dir", failed_run, "--json").stdout)
    assert (totals["sessions_failed"], totals["workflows_failed"], totals["sessions_open"]) == (1, 1, 0)


def test_nothing_is_cut_in_a_pipe(cli: Program, failed_run: Path) -> None:
    """In a pipe, a session's name and its outcome are whole, whatever their length."""
    line = cli("sessions", "--dir", failed_run, COLUMNS="40", FORCE_COLOR="1").stdout.splitlines()[1]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    assert plain.startswith(f"✗ {NAME}  2026-")
    assert "  failed, exit 2  " in plain


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 40, 30, 20, 16, 10, 7])
def test_on_a_narrow_terminal_the_result_is_the_last_column(
    cli: Program, failed_run: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are narrower than the terminal, and each still has its mark and its result."""
    monkeypatch.setattr(type(sys.stdout), "isatty", Mock(return_value=True))
    out = cli("sessions", "--dir", failed_run, COLUMNS=str(columns), TERM="xterm").stdout
    header, line, *_ = lines = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()
    assert "result"[: columns - 4] in header
    assert line.startswith("✗ ")
    assert "failed, exit 2"[: columns - 5] in line
    assert max(map(len, lines)) < columns
    assert ("session" in header) is (columns >= 30)
    assert ("usual" in header) is (columns >= 100)


def test_hooks_that_failed_are_shown(cli: Program, tmp_path: Path) -> None:
    """Hooks of a phase that did not pass are shown, those that passed are not."""
    log_of(
        tmp_path, WorkflowStarted(**RUN, **at(0), nodes=("fast_hooks", "tests")),
        NodeStarted(**RUN, **at(0), node_id="fast_hooks"), hook("ruff", "running", 1),
        hook("ruff", "passed", 2, duration_seconds=1.0), hook("codespell", "running", 2),
        hook("codespell", "failed", 7, duration_seconds=5.0), hook("mdformat", "timeout", 8),
        hook("uv-lock", "running", 9),
    )  # fmt: skip
    shown = cli("show", "a-", "--events", "--dir", tmp_path).stdout.splitlines()
    assert shown[2:4] == ["outcome unfinished", "workflows unfinished 1, nodes unfinished 1, nodes not run 1"]
    assert shown[-8:] == [
        "    +0.0s start  workflow crackerjack",
        "    +0.0s start  fast_hooks",
        "    +7.0s FAIL   fast_hooks: codespell (5.0s)",
        "    +8.0s FAIL   fast_hooks: mdformat timeout",
        "        - unfinished workflow crackerjack",
        "        - unfinished fast_hooks",
        "        - unfinished fast_hooks: uv-lock",
        "        - not run tests",
    ]


def test_the_hooks_of_a_session(cli: Program, tmp_path: Path) -> None:
    """Their passes, outcomes and durations are in the report, in its JSON, and in the head of `show`."""
    log_of(
        tmp_path, WorkflowStarted(**RUN, **at(0)), hook("ruff", "running", 1),
        hook("ruff", "failed", 2, duration_seconds=1.0), hook("mypy", "failed", 3, duration_seconds=1.5),
        hook("ruff", "passed", 4, duration_seconds=0.5), WorkflowCompleted(**RUN, **at(5)),
    )  # fmt: skip
    expected = "1/2 succeeded in 3 passes (3.0s), failed mypy"
    assert f"  Hooks: {expected}" in cli("report", "--dir", tmp_path).stdout.splitlines()
    assert cli("show", "a-", "--events", "--dir", tmp_path).stdout.splitlines()[3] == f"hooks {expected}"
    figures = json.loads(cli("report", "--json", "--dir", tmp_path).stdout)
    assert (figures["hooks_failed"], figures["failed_hooks"]) == (1, ["mypy"])
    assert [tuple(each.values()) for each in figures["hooks"]] == [
        ("fast_hooks", "ruff", "succeeded", 2, 1, 1.5),
        ("fast_hooks", "mypy", "failed", 1, 1, 1.5),
    ]


def test_the_words_of_the_live_progress(cli: Program, tmp_path: Path) -> None:
    """Ends are worded as in the live progress, and lost events are shown."""
    node = {**RUN, **at(1)}
    log_of(
        tmp_path, SkillStarted(**SKILL, **at(0)), NodeCompleted(**node, node_id="a", status="cancelled"),
        NodeCompleted(**node, node_id="b", status="skipped"), NodeCompleted(**node, node_id="c"),
        NodeCompleted(**node, node_id="d", status="failed"),
        EventsLost(**at(1), session_id=NAME, count=3, first_seq=1, last_seq=3),
        WorkflowCompleted(**node, status="cancelled", error_type="SIGINT"),
        SkillCompleted(**SKILL, **at(2), completed=False, error_type="KeyboardInterrupt"),
    )  # fmt: skip
    lines = cli("show", "a-", "--events", "--dir", tmp_path).stdout.splitlines()
    words = [line.split()[1:3] for line in lines if line.startswith("    +")]
    assert words[1:5] == [["cancel", "a"], ["skip", "b"], ["done", "c"], ["FAIL", "d"]]
    assert words[5:] == [["lost", "3"], ["end", "workflow"], ["cancel", "skill"]]
    assert "events lost up to 3; the figures may be too low" in lines[3]
    assert "Note: 3 events were lost before they were stored" in cli("report", "--dir", tmp_path).stdout
    assert "lost      3 events before they were stored" in cli("stats", "--dir", tmp_path).stdout


def test_a_demo_that_found_problems_says_so_in_its_report(cli: Program, project: Path) -> None:
    """The report of a demo that exits with 1 says that it failed, where, and what never ran."""
    (project / "sample" / "broken.py").write_text("def f(:\n")
    ended = cli("demo", project)
    assert ended.returncode == 1
    for line in (
        "  Skills Completed: 1",
        "  Outcome: failed",
        "  Workflows Failed: 1",
        "  Nodes Failed: 1 (compile)",
        "  Nodes Skipped: 3",
    ):
        assert line in ended.stdout.splitlines()


def test_a_demo_that_is_over_at_once_shows_no_pattern(cli: Program, project: Path) -> None:
    """A demo of no time is not dominated by interactive work."""
    ended = cli("demo", project)
    assert ended.returncode == 0
    assert "  Outcome: succeeded" in ended.stdout.splitlines()
    assert "dominated" not in ended.stdout + ended.stderr
