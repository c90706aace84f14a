"""`eventbus sessions`, `show`, `report`, `export` and `stats`, for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    NodeStatus,
    PatternDetected,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
    encode,
)
from eventbus.history import EventLog
from eventbus.testing.sessions import SessionBuilder

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
COMMANDS = [["sessions"], ["show", "7f3a1"], ["report"], ["report", "7f3a1"], ["export"], ["stats"]]


class Deployed(Event, frozen=True, kw_only=True):
    """An event of a plugin."""

    target: str


def of_session(name: str, start: float, *, ended: bool = True) -> list[Event]:
    def at(seconds: float) -> datetime:
        return NOON + timedelta(seconds=start + seconds)

    run: dict[str, Any] = {"session_id": name, "workflow_id": "crackerjack", "run_id": f"r{name}"}
    skill: dict[str, Any] = {"session_id": name, "skill_name": "crackerjack-run", "invocation_id": f"i{name}"}
    events: list[Event] = [
        SkillStarted(**skill, timestamp=at(0), workflow_path="daily"),
        WorkflowStarted(**run, timestamp=at(1)),
        NodeStarted(**run, node_id="lint", timestamp=at(1)),
        NodeProgress(**run, node_id="lint", timestamp=at(2), completed=1),
        NodeCompleted(**run, node_id="lint", timestamp=at(3), duration_seconds=2.0),
        NodeCompleted(
            **run, node_id="tests", attempt=2, status="failed", success=False, timestamp=at(7),
            duration_seconds=4.0, error_type="AssertionError",
        ),
        PatternDetected(session_id=name, pattern="p", message="slower", timestamp=at(7)),
        Deployed(session_id=name, target="x", timestamp=at(8)),
    ]  # fmt: skip
    if ended:
        actions = ("git commit",)
        events += [
            WorkflowCompleted(**run, timestamp=at(9), duration_seconds=8.0, success=False),
            SkillCompleted(**skill, timestamp=at(10), duration_seconds=10.0, follow_up_actions=actions),
        ]
    return events


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log with four sessions, one of them open and one with a hostile name."""
    directory = tmp_path / "log"
    with EventBus([JsonPersister(directory)]) as bus:
        for number, name in enumerate(["7f3a1", "7f3b2", "\x1b[2J\n\u202eevil"]):
            for event in of_session(name, number * 100):
                bus.publish(event)
        for event in of_session("open", 300, ended=False):
            bus.publish(event)
    return directory


def test_sessions_are_listed_the_latest_first(cli: Program, log: Path) -> None:
    """Each session is one line with its figures, the latest first."""
    done = cli("sessions", "--dir", log)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].split() == ["session", "when", "what", "result", "took", "usual", "skill"]
    assert [line.split()[1] for line in lines[1:-1]] == ["open", "\\x1b[2J\\n\\u202eevil", "7f3b2", "7f3a1"]
    assert lines[1].split()[4:] == ["crackerjack", "tests", "failed", "-", "-", "crackerjack-run"]
    assert lines[4].split()[4:] == ["crackerjack", "tests", "failed", "8.0s", "-", "crackerjack-run"]
    assert lines[5] == "4 of 4 sessions · 4 failed"


def test_the_number_of_listed_sessions_is_limited(cli: Program, log: Path) -> None:
    """The last line counts the sessions, and says how to see others; 0 means no limit."""
    out = cli("sessions", "--dir", log, "--limit", 1).stdout
    assert len(out.splitlines()) == 3
    assert out.splitlines()[-1] == "1 of 4 sessions · 1 failed · more: --failed  --since 7d  --limit 0"
    assert len(cli("sessions", "--dir", log, "--limit", 0).stdout.splitlines()) == 6
    assert cli("sessions", "--dir", log, "--limit", -1).returncode == 2


def test_only_some_sessions_are_listed(cli: Program, log: Path) -> None:
    """They are chosen by their outcome, their start, and their workflow."""
    with EventBus([JsonPersister(log)]) as bus:
        for event in (
            SessionBuilder("good", NOON + timedelta(days=1)).run_started("deploy").run_completed().events
        ):
            bus.publish(event)

    def names(*options: str) -> list[str]:
        lines = cli("sessions", "--dir", log, "--json", *options).stdout.splitlines()
        return [json.loads(line)["session_id"] for line in lines]

    assert names("--workflow", "deploy") == ["good"] == names("--since", "2026-01-03T00:00:00Z")
    assert names("--since", "1h") == names("--workflow", "none") == []
    assert len(names("--failed")) == 4
    assert names("--failed", "--limit", "1") == ["open"]
    assert cli("sessions", "--dir", log, "--workflow", "x").stdout.endswith(
        "0 of 5 sessions · 0 failed\
 · more: --failed  --since 7d  --limit 0\n"
    )
    assert cli("sessions", "--dir", log, "--since", "soon").returncode == 2


def test_a_session_is_beside_what_was_usual_before_it(cli: Program, tmp_path: Path) -> None:
    """What a workflow usually took before is beside what it took, and by how much it was slower."""
    with EventBus([JsonPersister(tmp_path)]) as bus:
        for number, seconds in enumerate([8.1, 8.0, 8.2, 8.1, 11.4, 1.0]):
            made = SessionBuilder(f"s{number}", NOON + timedelta(hours=number)).run_started("quality", ["n"])
            status: NodeStatus = "failed" if number == 5 else "ok"
            for event in made.node("n", seconds, status).run_completed().events:
                bus.publish(event)
    lines = cli("sessions", "--dir", tmp_path, TZ="UTC").stdout.splitlines()
    assert lines[:3] == [
        "  session  when                 what     result     took  usual        skill",
        "✗ s5       2026-01-02 17:00:00  quality  n failed   1.0s  8.1s         -",
        "✓ s4       2026-01-02 16:00:00  quality  1/1       11.4s  8.1s  +3.3s  -",
    ]
    found = [json.loads(line) for line in cli("sessions", "--dir", tmp_path, "--json").stdout.splitlines()]
    assert [(each["usual"], each["slower"]) for each in found[-3:]] == [(None, None)] * 3
    assert (found[1]["usual"], round(found[1]["slower"], 6), found[0]["slower"]) == (8.1, 3.3, None)


def test_a_run_of_two_workflows_has_no_usual_duration(cli: Program, tmp_path: Path) -> None:
    """A run id that two workflows share is one run of both: nothing is usual for it."""
    with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(NodeStarted(session_id="s", workflow_id="a", run_id="r", node_id="n", timestamp=NOON))
        bus.publish(WorkflowStarted(session_id="s", workflow_id="b", run_id="r", timestamp=NOON))
    (line,) = cli("sessions", "--dir", tmp_path, "--json").stdout.splitlines()
    assert (json.loads(line)["workflow_ids"], json.loads(line)["usual"]) == (["b", "a"], None)


@pytest.mark.parametrize("command", ["sessions", "report"])
def test_figures_for_programs(cli: Program, log: Path, command: str) -> None:
    """With --json each session is an object on a line, without records, its keys in the same order."""
    done = cli(command, "--dir", log, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [each["session_id"] for each in found] == ["open", "\x1b[2J\n\u202eevil", "7f3b2", "7f3a1"]
    assert len({tuple(each) for each in found}) == 1
    assert "workflow_events" not in found[0]
    assert (found[3]["skills_completed"], found[3]["workflow_nodes_failed"], found[0]["end_time"]) == (
        1,
        1,
        None,
    )


def test_a_session_is_shown_event_by_event(program: Program, log: Path) -> None:
    """The real program shows each change as a line, and no progress; the beginning of an id is enough."""
    done = program("show", "7f3a", "--events", "--dir", log)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("session 7f3a1  began 2026-01-0")
    assert done.stdout.splitlines()[1:] == [
        "skills 1/1 completed (10.0s), runs 1/1 ended (8.0s), nodes 1 succeeded, 1 failed",
        "outcome failed",
        "workflows failed 1, nodes failed 1 (tests)",
        "",
        "    +0.0s start  skill crackerjack-run (daily)",
        "    +1.0s start  workflow crackerjack",
        "    +1.0s start  lint",
        "    +3.0s done   lint (2.0s)",
        "    +7.0s FAIL   tests, attempt 2 (4.0s) AssertionError",
        "    +7.0s note   slower",
        "    +8.0s event  deployed",
        "    +9.0s end    workflow crackerjack FAILED (8.0s)",
        "   +10.0s done   skill crackerjack-run (10.0s), then git commit",
    ]


def test_the_events_of_a_session_for_programs(cli: Program, log: Path) -> None:
    """With --json a session is its stored events, one per line."""
    out = cli("show", "7f3a1", "--dir", log, "--json").stdout
    stored = [event for event in EventLog(log) if event.session_id == "7f3a1"]
    assert out.splitlines() == [encode(event).decode() for event in stored]


def test_no_control_character_reaches_the_terminal(cli: Program, log: Path) -> None:
    """Control characters in names are escaped in every text."""
    for command in (
        ["sessions"],
        ["show", "\x1b"],
        ["show", "\x1b", "--events"],
        ["report"],
        ["stats"],
        ["show", "\x1b?"],
        ["show", ""],
    ):
        done = cli(*command, "--dir", log)
        assert all(char.isprintable() or char == "\n" for char in done.stdout + done.stderr), command


@pytest.mark.parametrize(
    ("name", "code", "error"),
    [
        ("7f3", 2, "error: several sessions begin with '7f3': 7f3a1, 7f3b2. hint: type more of its id\n"),
        ("zz", 3, "error: no session begins with 'zz'. hint: list them with: eventbus sessions\n"),
        ("", 3, "error: no session begins with ''. hint: list them with: eventbus sessions\n"),
        ("7%", 3, "error: no session begins with '7%'. hint: list them with: eventbus sessions\n"),
    ],
)
@pytest.mark.parametrize("command", ["show", "report", "export"])
def test_a_name_that_is_not_one_session(
    cli: Program, log: Path, command: str, name: str, code: int, error: str
) -> None:
    """The beginning of several ids, or of none, is one clear error."""
    done = cli(command, name, "--dir", log)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", error)


def test_a_whole_name_wins(cli: Program, log: Path) -> None:
    """A session whose id is the beginning of another id can be shown."""
    with EventBus([JsonPersister(log)]) as bus:
        bus.publish(SkillStarted(session_id="7f3", skill_name="k"))
    assert "session 7f3 · " in cli("show", "7f3", "--dir", log).stdout


def test_the_report_has_the_form_of_the_correlators(cli: Program, log: Path) -> None:
    """The report covers all sessions, or one, in the historic form."""
    out = cli("report", "--dir", log).stdout
    assert out.startswith("=" * 60 + "\nSkills-Workflow Correlation Report\n")
    assert "Total Sessions: 4" in out
    out = cli("report", "7f3b", "--dir", log).stdout
    assert "Total Sessions: 1" in out
    assert "Session: 7f3b2\n  Skills Used: 1\n  Skills Completed: 1\n  Workflow Nodes: 1\n" in out


def test_statistics(cli: Program, log: Path) -> None:
    """The totals of the log are printed for people, and with --json for programs."""
    done = cli("stats", "--dir", log)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "crackerjack   3 runs: 3 failed   before: 0, 0 succeeded",
        "  node   runs  failed  median   p90  4 weeks  change",
        "  tests     4       4       -     -           =",
        "  lint      4       0    2.0s  2.0s        █  =",
    ]
    assert lines[4:6] == [
        "skill crackerjack-run   3 of 3 completed, 0 abandoned; after it: git commit 3",
        "sessions  4: 0 succeeded, 4 failed, 0 cancelled, 0 skipped, 0 open, 0 unfinished",
    ]
    assert lines[6].startswith("log       1 segment of 1 bus, ")
    found = json.loads(cli("stats", "--dir", log, "--json").stdout)
    assert (found["sessions"], found["sessions_failed"], found["segments"], found["writers"]) == (4, 4, 1, 1)
    assert found["bytes"] == sum(each.size for each in EventLog(log).segments())
    assert (found["skills"], found["skills_completed"], found["total_skill_duration"]) == (4, 3, 30.0)


def test_statistics_of_a_node(cli: Program, log: Path) -> None:
    """A node can be named; one that is not known is one clear error."""
    lines = cli("stats", "lint", "--dir", log).stdout.splitlines()
    assert lines[:3] == ["crackerjack", "  node  runs  failed  median   p90  4 weeks  change", lines[2]]
    (found,) = json.loads(cli("stats", "lint", "--dir", log, "--json").stdout)["subjects"]
    assert (found["node"], found["runs"], found["median"], found["slower"]) == ("lint", 4, 2.0, None)
    done = cli("stats", "x", "--dir", log)
    assert done.returncode == 3
    hint = "list what there is with: eventbus stats"
    assert done.stderr == f"error: nothing in this log is called 'x'. hint: {hint}\n"


def _without_times(text: str) -> Any:
    document: Any = json.loads(text)
    for name in ("exported_at", "last_updated") if isinstance(document, dict) else ():
        document[name] = ""
    return document


@pytest.mark.parametrize("format_", ["correlation", "skill-metrics", "workflow-events", "session-buddy"])
def test_an_export_is_the_same_in_a_file_and_on_the_screen(
    cli: Program, log: Path, tmp_path: Path, format_: str
) -> None:
    """Each format is written to a private file or to standard output, in the same form."""
    out = tmp_path / "out.json"
    done = cli("export", "--dir", log, "--format", format_, "--output", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"note: wrote {out}\n")
    assert out.stat().st_mode & 0o777 == 0o600
    shown = _without_times(cli("export", "--dir", log, "--format", format_).stdout)
    written = _without_times(out.read_text())
    assert shown == written


def test_one_session_is_exported(cli: Program, log: Path, tmp_path: Path) -> None:
    """If a session is named, only that session is written."""
    assert cli("export", "7f3a", "--dir", log, "--output", tmp_path / "one.json").returncode == 0
    (name,) = json.loads((tmp_path / "one.json").read_text())["sessions"]
    assert name == "7f3a1"


def test_an_export_that_cannot_be_written_is_one_clear_error(cli: Program, log: Path, tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("x")
    done = cli("export", "--dir", log, "--output", tmp_path / "file" / "out.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path}/file/out.json cannot be written: ")
    assert done.stderr.endswith("hint: choose another file\n")


def test_an_export_for_session_buddy_never_has_the_name_of_the_historic_file(
    cli: Program, log: Path, tmp_path: Path
) -> None:
    """Its extra key would make the historic readers lose their history."""
    target = tmp_path / "skill_metrics.json"
    done = cli("export", "--dir", log, "--format", "session-buddy", "--output", target)
    assert (done.returncode, target.exists()) == (2, False)
    assert "skill_metrics.json is the file of the format skill-metrics" in done.stderr
    assert cli("export", "--dir", log, "--format", "xml").returncode == 2


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_log_there_is_one_clear_error(
    cli: Program, tmp_path: Path, somewhere: Path, command: list[str]
) -> None:
    """A directory without a log is exit code 3, and nothing is created."""
    done = cli(*command, "--dir", tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "there is no event log in" in done.stderr
    assert list(tmp_path.iterdir()) == [somewhere]
    assert list(somewhere.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_environment_names_the_log(cli: Program, log: Path, command: list[str]) -> None:
    """Without --dir the log is in the directory that EVENTBUS_DIR names."""
    done = cli(*command, EVENTBUS_DIR=str(log))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("command", [each for each in COMMANDS if each != ["report", "7f3a1"]], ids=" ".join)
def test_a_reader_that_leaves_ends_it_quietly(log: Path, command: list[str]) -> None:
    """The real program prints nothing on stderr if the reader of its output has left."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [sys.executable, "-m", "eventbus", *command, "--dir", str(log)]
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
