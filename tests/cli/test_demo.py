"""`eventbus demo`: a workflow over real projects, with a skill around it, shown live."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from eventbus import (
    Event,
    NodeCompleted,
    NodeProgress,
    SkillCompleted,
    WorkflowCompleted,
    WorkflowStarted,
    decode,
)

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"

PHASES = ("metadata", "compile", "lint", "inventory", "summary")


def logged(directory: Path) -> list[Event]:
    (segment,) = (directory / "events").iterdir()
    return [decode(line) for line in segment.read_bytes().splitlines()]


def of_type(events: list[Event], *kinds: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kinds)]


def outcomes(events: list[Event]) -> dict[str, str]:
    return {event.node_id: event.status for event in events if isinstance(event, NodeCompleted)}


def test_a_project_without_problems_succeeds_and_is_reported(program: Program, project: Path) -> None:
    """The real program shows every phase, prints summary and report on stdout, and exits with 0."""
    ended = program("demo", project)
    assert ended.returncode == 0
    lines = ended.stderr.splitlines()
    assert re.fullmatch(rf"eventbus: session=\w+ dir={re.escape(str(project))}/\.session-buddy", lines[0])
    done = [line.split()[2] for line in lines if line.split()[1] == "done"]
    assert sorted(done[:-1]) == sorted(PHASES)
    assert re.search(r"end    workflow quality ok 5/5 nodes, \d+ events, 0 lost", ended.stderr)
    summary, rule, *report = ended.stdout.splitlines()
    assert summary == "sample 1.2: 2 modules, 1 functions, 1 classes; no problems"
    assert rule == "=" * 60
    session_id = re.search(r"session=(\w+)", lines[0])
    assert session_id is not None
    assert f"Session: {session_id[1]}" in report
    assert "  Skills Completed: 1" in report
    assert "  Workflow Nodes: 5" in report


def test_the_log_holds_the_whole_run(cli: Program, project: Path, tmp_path: Path) -> None:
    """The events of the run and of the skill around it are stored in `--dir`, all in one session."""
    cli("demo", project, "--dir", tmp_path / "log")
    events = logged(tmp_path / "log")
    (started,) = of_type(events, WorkflowStarted)
    assert isinstance(started, WorkflowStarted)
    assert started.nodes == PHASES
    assert outcomes(events) == dict.fromkeys(PHASES, "ok")
    assert {
        event.session_id for event in of_type(events, WorkflowStarted, NodeCompleted, SkillCompleted)
    } == {started.session_id}
    (skill,) = of_type(events, SkillCompleted)
    assert isinstance(skill, SkillCompleted)
    assert (skill.completed, skill.follow_up_actions) == (True, ("git commit",))
    compiled = [
        event.message for event in events if isinstance(event, NodeProgress) and event.node_id == "compile"
    ]
    assert compiled == ["sample/__init__.py", "sample/shapes.py"]


def test_the_project_is_not_changed(cli: Program, project: Path, tmp_path: Path) -> None:
    """With the log elsewhere no file is added: no byte code, no cache."""
    before = sorted(project.rglob("*"))
    assert cli("demo", project, "--dir", tmp_path / "log").returncode == 0
    assert sorted(project.rglob("*")) == before


def test_the_environment_names_session_and_log(cli: Program, tmp_path: Path) -> None:
    """The session and the directory of the log are read from the environment."""
    ended = cli("demo", EVENTBUS_SESSION_ID="abc123", EVENTBUS_DIR=str(tmp_path / "log"))
    assert f"eventbus: session=abc123 dir={tmp_path / 'log'}" in ended.stderr
    assert {event.session_id for event in of_type(logged(tmp_path / "log"), NodeCompleted)} == {"abc123"}


def test_every_source_that_does_not_compile_is_listed_once_at_the_end(cli: Program, project: Path) -> None:
    """The phase fails, the phases that need it are skipped, and the places are printed after the run."""
    (project / "sample" / "a.py").write_text("x = 1\ndef f(:\n")
    (project / "sample" / "b.py").write_bytes(b"x = '\xff'\n")
    (project / "sample" / "c.py").write_text("f(\x1b[31m)\n")
    ended = cli("demo", project)
    assert ended.returncode == 1
    *progress, first, second, third, next_step = ended.stderr.splitlines()
    assert re.fullmatch(r"next: .+ show \w{12} --events --dir .+", next_step)
    assert re.fullmatch(r"sample/a\.py:2: SyntaxError: .+ \[compile\]", first)
    assert re.fullmatch(r"sample/b\.py:\d: SyntaxError: .+ \[compile\]", second)
    assert re.fullmatch(r"sample/c\.py:1: SyntaxError: .+ \[compile\]", third)
    assert "\x1b" not in ended.stderr
    words = {line.split()[2]: line.split()[1] for line in progress if line.startswith("+")}
    assert [words[phase] for phase in PHASES] == ["done", "FAIL", "skip", "skip", "skip"]
    assert "quality FAILED" in ended.stderr
    assert "Session: " in ended.stdout
    (skill,) = of_type(logged(project / ".session-buddy"), SkillCompleted)
    assert isinstance(skill, SkillCompleted)
    assert (skill.completed, skill.follow_up_actions) == (True, ("fix compile",))


def test_a_failed_phase_skips_only_the_phases_that_need_it(cli: Program, tmp_path: Path) -> None:
    """In an empty directory there is no pyproject.toml, and every other phase but the summary runs."""
    ended = cli("demo", "--dir", tmp_path / "log")
    assert ended.returncode == 1
    assert "pyproject.toml: FileNotFoundError: No such file or directory [metadata]" in ended.stderr
    assert outcomes(logged(tmp_path / "log")) == {
        "metadata": "failed",
        "compile": "ok",
        "lint": "ok",
        "inventory": "ok",
        "summary": "skipped",
    }


def test_a_pyproject_that_is_not_toml_is_a_problem_with_its_line(cli: Program, project: Path) -> None:
    """A broken pyproject.toml fails the phase that reads it; the program runs without its settings."""
    (project / "pyproject.toml").write_text('[project]\nname = "sample\n')
    ended = cli("demo", project)
    assert ended.returncode == 1
    assert re.search(r"^pyproject\.toml:2: .+ \[metadata\]$", ended.stderr, re.MULTILINE)


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_missing_directory_is_exit_code_3(cli: Program, tmp_path: Path, what: str) -> None:
    """The error is one line; nothing runs."""
    target = tmp_path / "target"
    if what == "a file":
        target.write_text("")
    ended = cli("demo", target)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        f"error: {target} is not a directory. hint: name the directory of a Python project\n"
    )


def test_progress_as_json_is_one_event_per_line(cli: Program, project: Path) -> None:
    """With `--progress json` stderr is the events."""
    ended = cli("demo", project, "--progress", "json")
    events = [decode(line) for line in ended.stderr.splitlines()]
    assert outcomes(events) == dict.fromkeys(PHASES, "ok")


def test_a_reader_of_the_report_that_leaves_is_no_error(project: Path) -> None:
    """`eventbus demo | true` runs to the end, shows all progress, and prints no traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "eventbus", "demo", str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read()
    assert running.returncode == 141
    assert "done   skill project-quality" in errors.splitlines()[-1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe to block a phase")
@pytest.mark.parametrize(
    ("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_run_is_complete_in_the_log(
    project: Path, tmp_path: Path, sent: signal.Signals, exit_code: int
) -> None:
    """Interrupted while a phase blocks the loop, node, run and skill end in the log, without traceback."""
    blocking = project / "sample" / "blocking.py"
    os.mkfifo(blocking)
    with subprocess.Popen(
        [sys.executable, "-m", "eventbus", "demo", str(project), "--dir", str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        # Opening it returns once the program has opened it for reading, within its phase.
        with blocking.open("w"):
            running.send_signal(sent)
        out, errors = running.communicate(timeout=30)
    assert (running.returncode, out) == (exit_code, "")
    assert "Traceback" not in errors
    assert "cancel compile" in errors
    events = logged(tmp_path / "log")
    assert outcomes(events) == {"metadata": "ok", "compile": "cancelled"}
    (run,) = of_type(events, WorkflowCompleted)
    assert isinstance(run, WorkflowCompleted)
    assert run.status == "cancelled"
    (skill,) = of_type(events, SkillCompleted)
    assert isinstance(skill, SkillCompleted)
    assert not skill.completed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe to block a phase")
def test_progress_is_shown_while_a_phase_blocks_the_loop(project: Path) -> None:
    """The previous phase is shown as done while `compile` blocks the only loop of the program."""
    blocking = project / "sample" / "blocking.py"
    os.mkfifo(blocking)
    with subprocess.Popen(
        [sys.executable, "-m", "eventbus", "demo", str(project)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        rescue = threading.Timer(20, running.kill)
        rescue.start()
        assert running.stderr is not None
        shown = next((line for line in iter(running.stderr.readline, "") if "metadata" in line), "")
        with blocking.open("w"):
            blocking.unlink()  # the next phases must not block
            blocking.write_text("")
        running.stderr.read()
        rescue.cancel()
    assert "done   metadata" in shown
    assert running.returncode == 0
