"""`eventbus demo`: the real program over real projects."""

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
    """Every phase is shown, the report and the summary are on stdout, and the exit code is 0."""
    ended = program("demo", project)
    assert ended.returncode == 0
    lines = ended.stderr.splitlines()
    assert re.fullmatch(rf"eventbus: session=\w+ dir={re.escape(str(project))}/\.session-buddy", lines[0])
    done = [line.split()[2] for line in lines if line.split()[1] == "done"]
    assert sorted(done[:-1]) == sorted(PHASES)
    assert re.search(r"end    workflow quality ok 5/5 nodes, \d+ events, 0 lost", ended.stderr)
    summary, rule, *report = ended.stdout.splitlines()
    assert summary.startswith(
        "sample 1.2: 2 modules, 9 lines, 1 functions, 1 classes, 1 public names without"
    )
    assert rule == "=" * 60
    session_id = re.search(r"session=(\w+)", lines[0])
    assert session_id is not None
    assert f"Session: {session_id[1]}" in report
    assert "  Skills Completed: 1" in report
    assert "  Workflow Nodes: 5" in report


def test_the_log_holds_the_whole_run(program: Program, project: Path, tmp_path: Path) -> None:
    """What was published is on disk, in `--dir`, with the skill around the run, all in one session."""
    program("demo", project, "--dir", tmp_path / "log")
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
    told = [
        event.message for event in events if isinstance(event, NodeProgress) and event.node_id == "compile"
    ]
    assert told == ["sample/__init__.py", "sample/shapes.py"]


def test_the_project_is_left_as_it_was(program: Program, project: Path, tmp_path: Path) -> None:
    """With the log elsewhere, not one file is added: no byte code, no cache of a linter."""
    before = sorted(project.rglob("*"))
    assert program("demo", project, "--dir", tmp_path / "log").returncode == 0
    assert sorted(project.rglob("*")) == before


def test_the_session_and_the_place_of_the_log_may_come_from_outside(program: Program, tmp_path: Path) -> None:
    """A skill in another process names the session; both read it from the environment."""
    ended = program("demo", EVENTBUS_SESSION_ID="abc123", EVENTBUS_DIR=str(tmp_path / "log"))
    assert f"eventbus: session=abc123 dir={tmp_path / 'log'}" in ended.stderr
    assert {event.session_id for event in of_type(logged(tmp_path / "log"), NodeCompleted)} == {"abc123"}


def test_every_source_that_does_not_compile_is_listed_once_at_the_end(
    program: Program, project: Path
) -> None:
    """The phase fails, what needs it is skipped, and the places are printed after the run."""
    (project / "sample" / "a.py").write_text("x = 1\ndef f(:\n")
    (project / "sample" / "b.py").write_bytes(b"x = '\xff'\n")
    (project / "sample" / "c.py").write_text("f(\x1b[31m)\n")
    ended = program("demo", project)
    assert ended.returncode == 1
    *progress, first, second, third = ended.stderr.splitlines()
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


def test_a_failing_phase_stops_only_what_needs_it(program: Program, tmp_path: Path) -> None:
    """Over an empty directory there is no project to name; all that can be done is done."""
    ended = program("demo", "--dir", tmp_path / "log")
    assert ended.returncode == 1
    assert (
        "pyproject.toml: there is none, and no setup.cfg or setup.py names a project [metadata]"
        in ended.stderr
    )
    assert outcomes(logged(tmp_path / "log")) == {
        "metadata": "failed",
        "compile": "ok",
        "lint": "ok",
        "inventory": "ok",
        "summary": "skipped",
    }


def test_a_pyproject_that_is_no_toml_is_a_finding_with_its_line(program: Program, project: Path) -> None:
    """A file that is broken is what the run is there to find, and no reason not to run."""
    (project / "pyproject.toml").write_text('[project]\nname = "sample\n')
    ended = program("demo", project)
    assert ended.returncode == 1
    assert re.search(r"^pyproject\.toml:2: .+ \[metadata\]$", ended.stderr, re.MULTILINE)


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_directory_that_is_not_there_is_exit_code_3(program: Program, tmp_path: Path, what: str) -> None:
    """Nothing runs, and nothing is created."""
    target = tmp_path / "target"
    if what == "a file":
        target.write_text("")
    ended = program("demo", target)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        f"error: {target} is no directory. hint: name the directory of a Python project\n"
    )


def test_progress_as_json_is_one_event_on_each_line(program: Program, project: Path) -> None:
    """`--progress` is passed on to what shows it."""
    ended = program("demo", project, "--progress", "json")
    events = [decode(line) for line in ended.stderr.splitlines()]
    assert outcomes(events) == dict.fromkeys(PHASES, "ok")


def test_a_reader_of_the_report_that_leaves_is_no_error(project: Path) -> None:
    """`eventbus demo | true` runs to its end, shows all progress, and prints no traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "eventbus", "demo", str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        told = running.stderr.read()
    assert running.returncode == 141
    assert "done   skill project-quality" in told.splitlines()[-1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe to hold a phase up")
@pytest.mark.parametrize(
    ("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_run_closes_its_books(
    project: Path, tmp_path: Path, sent: signal.Signals, exit_code: int
) -> None:
    """In the middle of a phase that blocks the loop: node, run and skill end in the log, and no traceback."""
    held_up = project / "sample" / "held_up.py"
    os.mkfifo(held_up)
    with subprocess.Popen(
        [sys.executable, "-m", "eventbus", "demo", str(project), "--dir", str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        # Opening it returns when the program has it open for reading: then it is amid its phase.
        with held_up.open("w"):
            running.send_signal(sent)
        out, told = running.communicate(timeout=30)
    assert (running.returncode, out) == (exit_code, "")
    assert "Traceback" not in told
    assert "cancel compile" in told
    events = logged(tmp_path / "log")
    assert outcomes(events) == {"metadata": "ok", "compile": "cancelled"}
    (run,) = of_type(events, WorkflowCompleted)
    assert isinstance(run, WorkflowCompleted)
    assert run.status == "cancelled"
    (skill,) = of_type(events, SkillCompleted)
    assert isinstance(skill, SkillCompleted)
    assert not skill.completed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe to hold a phase up")
def test_progress_is_shown_while_a_phase_blocks_the_loop(project: Path) -> None:
    """The phase before is shown as done while `compile` still blocks the only loop of the program."""
    held_up = project / "sample" / "held_up.py"
    os.mkfifo(held_up)
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
        with held_up.open("w"):
            held_up.unlink()  # the phases after it must not be held up
            held_up.write_text("")
        running.stderr.read()
        rescue.cancel()
    assert "done   metadata" in shown
    assert running.returncode == 0
