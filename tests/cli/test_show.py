"""The screen of one session: its verdict, its rows, and what failed, at every width."""

from __future__ import annotations

import gzip
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
from rich.cells import cell_len

from eventbus.cli import main
from eventbus.cli.session_screen import Look, session_lines
from eventbus.correlation import Correlation
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    SkillCompleted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.history.session_history import SessionHistory
from eventbus.testing.sessions import SessionBuilder
from eventbus.views import SessionView
from eventbus.views.durations import Durations, Subject, Usual
from tests.history.log_examples import append, segment_path, stored

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
RUN: dict[str, Any] = {"session_id": "04f049c0", "workflow_id": "crackerjack", "run_id": "r"}
PLACE = "session 04f049c0 · 2026-01-02 12:00:00 · no skill"
MESSAGE = (
    "codespell found 3 misspellings in docs/a/very/long/path/that/goes/on.md; run codespell -w to mend them"
)


def at(seconds: float) -> dict[str, Any]:
    return {"timestamp": NOON + timedelta(seconds=seconds)}


def hook(name: str, status: str, completed: int, **details: Any) -> NodeProgress:
    metadata = {"hook": name, "status": status, **details}
    return NodeProgress(**RUN, **at(2), node_id="fast_hooks", completed=completed, total=3, metadata=metadata)


FAILED: list[Event] = [
    WorkflowStarted(**RUN, **at(0), nodes=("configuration", "fast_hooks", "tests", "commit")),
    NodeCompleted(**RUN, **at(0.1), node_id="configuration", duration_seconds=0.1),
    NodeStarted(**RUN, **at(0.2), node_id="fast_hooks"),
    hook("codespell", "failed", 1, duration_seconds=5.0),
    hook("ruff", "failed", 2, duration_seconds=1.0),
    hook("codespell", "failed", 1, duration_seconds=4.5),
    hook("ruff", "passed", 2, duration_seconds=1.0),
    hook("mdformat", "timeout", 3),
    NodeCompleted(
        **RUN, **at(55.7), node_id="fast_hooks", status="failed", success=False, duration_seconds=55.5,
        error_type="RuntimeError", error_message=MESSAGE,
    ),
    WorkflowCompleted(
        **RUN, **at(55.8), status="failed", success=False, duration_seconds=55.7, metadata={"exit_code": 1}
    ),
]  # fmt: skip


def _always(usual: Usual | None) -> Callable[[str, str], Usual | None]:
    def usual_of(_workflow_id: str, _node_id: str) -> Usual | None:
        return usual

    return usual_of


def screen(given: list[Event], look: Look, usual: Usual | None = None) -> list[str]:
    correlation = Correlation()
    correlation.add_all(given)
    (session,) = correlation.sessions().values()
    return [line.plain for line in session_lines(SessionView.of(given), session, look, _always(usual))]


def log_of(directory: Path, *given: Event, bus: str = "b0") -> Path:
    """Store events as a process that is gone did."""
    lines = b"".join(stored(seq, event) for seq, event in enumerate(given, 1))
    append(segment_path(directory, bus, start=NOON), lines)
    return directory


def test_a_failed_run_is_understood_at_a_glance(cli: Program, tmp_path: Path) -> None:
    """The verdict comes first, then what failed with its hooks and its message, then the rest."""
    done = cli("show", "--dir", log_of(tmp_path, *FAILED), TZ="UTC")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"✗ crackerjack failed after 55.7s with exit code 1    {PLACE}",
        "  1 of 4 nodes succeeded, fast_hooks failed, 2 not run",
        "",
        "   55.5s  ✗ fast_hooks     ████████████████████   99 %  RuntimeError",
        "            ✗ codespell 4.5s · mdformat timeout  (2 passes)",
        f"            {MESSAGE}",
        "    0.1s  ✓ configuration                          0 %",
        "       -  · tests, commit: not run",
    ]


def test_a_node_is_beside_what_was_usual_before(cli: Program, tmp_path: Path) -> None:
    """Beside a node is what was usual before, and how much longer it took; later runs change nothing."""
    for number, seconds in enumerate([4.0, 4.2, 4.1, 9.0, 50.0, 50.0, 50.0, 50.0]):
        made = SessionBuilder(f"s{number}", NOON + timedelta(hours=number)).run_started(
            "ci", ["tests", "lint"]
        )
        log_of(
            tmp_path, *made.node("tests", seconds).node("lint", 0.1).run_completed().events, bus=f"b{number}"
        )
    lines = cli("show", "s3", "--dir", tmp_path).stdout.splitlines()
    assert lines[3:] == [
        "    9.0s  ✓ tests  ████████████████████   98 %  usual 4.1s, +4.9s",
        "    0.1s  ✓ lint                           1 %  usual 0.1s",
    ]
    assert "usual" not in cli("show", "s2", "--dir", tmp_path).stdout


def test_what_was_usual_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The durations of a node are read once, however many runs of a session it is in."""
    made = SessionBuilder("s", NOON)
    for _ in range(3):
        made = made.run_started("ci", ["tests", "lint"]).node("tests", 1.0).node("lint", 0.1).run_completed()
    asked: list[Subject] = []
    durations = SessionHistory.durations

    def noted(history: SessionHistory, subject: Subject) -> Durations:
        asked.append(subject)
        return durations(history, subject)

    monkeypatch.setattr(SessionHistory, "durations", noted)
    assert main(["show", "s", "--dir", str(log_of(tmp_path, *made.events))]) == 0
    assert sorted(asked) == [Subject("node", "ci", "lint"), Subject("node", "ci", "tests")]


@pytest.mark.parametrize("columns", [200, 120, 100, 80, 60, 39, 30, 20, 15])
@pytest.mark.parametrize("has_unicode", [True, False])
def test_no_line_is_as_wide_as_the_terminal(columns: int, has_unicode: bool) -> None:
    """Each line is narrower than the terminal, and the verdict, the node and the hook are readable."""
    lines = screen(FAILED, Look(columns, has_unicode, NOON), Usual(24.1, 1.0))
    assert max(map(cell_len, lines)) < columns
    words = re.sub(r"\s+", " ", " ".join(lines))
    for word in ("failed", "codespell"):
        assert word in words.replace(" ", "")
    assert ("█" in words or "#" in words) is (columns >= 80)
    assert has_unicode or words.isascii()


def test_hostile_and_wide_names_stay_in_their_place() -> None:
    """Control characters are escaped, and wide characters count as two columns."""
    run = {**RUN, "workflow_id": "質\x1b[2J"}
    given: list[Event] = [
        WorkflowStarted(**run, **at(0)),
        NodeCompleted(**run, **at(1), node_id="テスト" * 30, duration_seconds=1.0, error_type="E\n\u202e"),
        NodeCompleted(**run, **at(1), node_id="b", duration_seconds=1.0),
        WorkflowCompleted(**run, **at(2), duration_seconds=2.0),
    ]
    for columns in (120, 80, 60, 39):
        lines = screen(given, Look(columns, now=NOON))
        assert max(map(cell_len, lines)) < columns
        assert all(char.isprintable() for line in lines for char in line)
    bars = [cell_len(line[: line.index("█")]) for line in screen(given, Look(100)) if "█" in line]
    assert len(set(bars)) == 1


def test_a_skill_with_its_follow_up_and_several_runs() -> None:
    """A skill is a row with its path and what came after it; several runs have a row each."""
    given: list[Event] = [
        SkillCompleted(
            session_id="s", skill_name="docs", invocation_id="i", workflow_path="quick",
            duration_seconds=9.0, follow_up_actions=("git commit", "git push"), **at(9),
        ),
        WorkflowCompleted(session_id="s", workflow_id="a", run_id="1", duration_seconds=2.0, **at(2)),
        WorkflowCompleted(
            session_id="s", workflow_id="b", run_id="2", duration_seconds=3.0, status="cancelled",
            success=False, error_type="KeyboardInterrupt", **at(5),
        ),
    ]  # fmt: skip
    assert screen(given, Look()) == [
        "⊘ a and 1 other cancelled after 9.0s    session s · 2026-01-02 12:00:00 · docs",
        "",
        "    9.0s  ✓ skill docs (quick), then git commit, git push",
        "    2.0s  ✓ a",
        "    3.0s  ⊘ b  KeyboardInterrupt",
    ]


def test_what_is_unfinished_is_said_to_be(cli: Program, tmp_path: Path) -> None:
    """Of a run whose process is gone, the node and the hook that were going are named as unfinished."""
    log_of(tmp_path, *FAILED[:3], hook("uv-lock", "running", 1))
    lines = cli("show", "--dir", tmp_path).stdout.splitlines()
    assert lines[0].startswith("✗ crackerjack unfinished: its process is gone")
    assert lines[1:] == [
        "  1 of 4 nodes succeeded, 1 unfinished, 2 not run",
        "",
        "       -  ✗ fast_hooks",
        "            ✗ uv-lock",
        "    0.1s  ✓ configuration",
        "       -  · tests, commit: not run",
    ]


def test_a_node_that_succeeded_in_the_end_did_not_fail() -> None:
    """The verdict counts a node by its best attempt; the attempt that failed is a row of its own."""
    given: list[Event] = [
        NodeCompleted(**RUN, **at(1), node_id="a", duration_seconds=1.0, success=False),
        NodeCompleted(**RUN, **at(2), node_id="a", attempt=2, duration_seconds=1.0),
        WorkflowCompleted(**RUN, **at(3), duration_seconds=3.0),
    ]
    lines = screen(given, Look())
    assert lines[:2] == [f"✓ crackerjack succeeded in 3.0s    {PLACE}", "  1 of 1 node succeeded"]
    assert [line.split()[1:3] for line in lines[3:]] == [["✗", "a"], ["✓", "a,"]]


def test_two_hundred_nodes(cli: Program, tmp_path: Path) -> None:
    """Of many nodes the failed one comes first, and the verdict names it."""
    many = [
        NodeCompleted(**RUN, **at(n), node_id=f"n{n}", duration_seconds=1.0, success=n != 150)
        for n in range(200)
    ]
    lines = cli("show", "--dir", log_of(tmp_path, *many)).stdout.splitlines()
    assert lines[1] == "  199 of 200 nodes succeeded, n150 failed"
    assert lines[3].split() == ["1.0s", "✗", "n150"]
    assert len(lines) == 203


def test_without_a_name_the_latest_session_is_shown(cli: Program, tmp_path: Path) -> None:
    """The session that began last is shown; in a log without one, the error says what to do."""
    (tmp_path / "events").mkdir(mode=0o700)
    empty = cli("show", "--dir", tmp_path)
    assert (empty.returncode, empty.stdout) == (3, "")
    assert empty.stderr == "error: there is no session in this log. hint: record one with: eventbus demo\n"
    later: dict[str, Any] = {"session_id": "later", "workflow_id": "w", "run_id": "q"}
    log_of(tmp_path, *FAILED, WorkflowCompleted(**later, **at(99)))
    assert "session later" in cli("show", "--dir", tmp_path).stdout


def test_the_next_step_works_as_typed(cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, the last line is a command that works, also for a name with spaces."""
    name = "a b;c'd e f g h"
    log_of(tmp_path, WorkflowCompleted(session_id=name, workflow_id="w", **at(1)))
    monkeypatch.setattr(type(sys.stdout), "isatty", Mock(return_value=True))
    last = cli("show", "--dir", tmp_path, TERM="xterm").stdout.splitlines()[-1]
    command = re.sub(r"\x1b\[[0-9;]*m", "", last).strip()
    monkeypatch.undo()
    shown = subprocess.run(
        ["/bin/sh", "-c", command.replace("eventbus", '"$PYTHON" -m eventbus')],
        env={"PYTHON": sys.executable, "EVENTBUS_DIR": str(tmp_path), "PYTHONUTF8": "1"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (shown.returncode, "workflow w ok" in shown.stdout) == (0, True)


def test_a_terminal_without_unicode_gets_words(program: Program, tmp_path: Path) -> None:
    """Where only ASCII can be shown, marks are words in brackets."""
    shown = program("show", "--dir", log_of(tmp_path, *FAILED), PYTHONIOENCODING="ascii").stdout
    assert shown.isascii()
    assert shown.startswith("[FAIL] crackerjack failed after 55.7s")
    assert "   55.5s  [FAIL] fast_hooks  " in shown


def test_sessions_are_exported_as_a_trace(cli: Program, tmp_path: Path) -> None:
    """A trace holds all sessions or one. A file that ends in .gz has the same bytes each time."""
    other: dict[str, Any] = {"session_id": "other", "workflow_id": "w", "run_id": "q"}
    log_of(tmp_path, *FAILED, WorkflowStarted(**other, **at(60)))
    whole = json.loads(cli("export", "--format", "perfetto", "--dir", tmp_path).stdout)["traceEvents"]
    processes = [each["args"]["name"] for each in whole if each["name"] == "process_name"]
    assert processes == ["session 04f049c0", "session other"]
    unfinished = [each["cat"] for each in whole if each["ph"] == "X" and each["name"] == "w"]
    assert unfinished == ["unfinished"]
    packed: list[bytes] = []
    for name in ("a.gz", "b.gz"):
        command = ("export", "04f0", "--format", "perfetto", "--dir", tmp_path, "--output", tmp_path / name)
        assert cli(*command).returncode == 0
        packed.append((tmp_path / name).read_bytes())
    assert packed[0] == packed[1]
    one = json.loads(gzip.decompress(packed[0]))["traceEvents"]
    assert [each["name"] for each in one if each["ph"] == "i"] == ["crackerjack failed", "fast_hooks failed"]
