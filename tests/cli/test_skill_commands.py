"""`eventbus skill`: a skill begins, goes on and ends in different processes; the log is its only state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from eventbus_subscribers import JsonPersister, LiveCorrelator
from eventbus_subscribers.direct_writer import DirectWriter

import eventbus.detached_skills.skill_uses
from eventbus import (
    Event,
    EventBus,
    SkillCompleted,
    SkillFollowedUp,
    SkillStarted,
    SkillTracker,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.correlation import CorrelatedSession
from eventbus.detached_skills.skills import DetachedSkills, session_of_terminal, tag_of_invocation
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
from eventbus.history.stored_lines import StoredLines
from eventbus.session import current_session_id
from eventbus.settings import Settings
from tests.vocabulary import PATIENCE_SECONDS, until

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture(autouse=True)
def _log_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path / "log"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def stored(log: Path, kind: type[Event] = Event) -> list[Any]:
    return list(EventLog(log).events(types=kind))


def session_in(log: Path) -> CorrelatedSession:
    """Return the only session, with its records."""
    with SessionHistory(EventLog(log)) as history:
        (session,) = history.sessions()
        return session


def until_stored(log: Path, count: int) -> None:
    """Wait until the log has this many events."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while len(stored(log)) < count:
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def write(log: Path, *events: Event, writer_id: str = "") -> None:
    """Store events in a segment of their own."""
    writer = DirectWriter(log, writer_id or os.urandom(6).hex(), sync="never")
    writer.append(events)
    writer.close()


def begun(cli: Program, *arguments: object, **environment: str) -> str:
    started = cli("skill", "start", *arguments, **environment)
    assert started.returncode == 0, started.stderr
    return started.stdout.removesuffix("\n")


def test_a_skill_from_start_to_end(cli: Program, log: Path) -> None:
    """A skill is started, followed up and completed by its id; its end has all actions and its duration."""
    id_ = begun(cli, "docs", "--path", "quick", "--session", "s1")
    assert cli("skill", "follow-up", id_, "git commit").returncode == 0
    done = cli("skill", "complete", id_, "--follow-up", "git push", "--follow-up", "gh pr")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    started, _, ended = stored(log)
    assert (started.skill_name, started.workflow_path, started.session_id) == ("docs", "quick", "s1")
    assert (ended.skill_name, ended.workflow_path, ended.session_id) == ("docs", "quick", "s1")
    assert ended.follow_up_actions == ("git commit", "git push", "gh pr")
    assert 0 < ended.duration_seconds < 60
    (record,) = session_in(log).skill_invocations
    assert record["follow_up_actions"] == ["git commit", "git push", "gh pr"]
    assert (record["completed"], record["duration_seconds"]) == (True, ended.duration_seconds)


def test_the_id_needs_no_quotes(cli: Program) -> None:
    """The id is the only word on stdout, of letters and digits."""
    assert begun(cli, "a skill; $(rm -rf)", "--session", "s").isalnum()


def test_the_session_is_found_or_made(cli: Program, log: Path) -> None:
    """The session is --session, else EVENTBUS_SESSION_ID, else a new one, which stderr names."""
    started = cli("skill", "start", "docs")
    assert started.stderr.startswith("note: this is session ")
    (event,) = stored(log)
    assert event.session_id is not None
    assert f"export EVENTBUS_SESSION_ID={event.session_id}\n" in started.stderr
    for arguments, session in (((), "from outside"), (("--session", "given"), "given")):
        started = cli("skill", "start", "docs", *arguments, EVENTBUS_SESSION_ID="from outside")
        assert started.stderr == ""
        assert stored(log)[-1].session_id == session


def test_the_end_has_the_session_of_the_start(cli: Program, log: Path) -> None:
    """The other commands take the session from the start, whatever their environment says."""
    id_ = begun(cli, "docs", "--session", "s1")
    cli("skill", "follow-up", id_, "git commit", EVENTBUS_SESSION_ID="other")
    cli("skill", "complete", id_, EVENTBUS_SESSION_ID="other")
    assert {event.session_id for event in stored(log)} == {"s1"}


def test_an_abandoned_skill(cli: Program, log: Path) -> None:
    """`abandon` ends a skill as not completed: failed if an error is named, otherwise cancelled."""
    for arguments, error in (((), None), (("--error-type", "Timeout"), "Timeout")):
        id_ = begun(cli, "docs", "--session", "s")
        assert cli("skill", "abandon", id_, *arguments).returncode == 0
        assert (stored(log)[-1].completed, stored(log)[-1].error_type) == (False, error)
    session = session_in(log)
    assert (session.skills_failed, session.skills_cancelled, session.skills_open) == (1, 1, 0)


@pytest.mark.parametrize("again", ["complete", "abandon"])
def test_ending_twice_counts_once(cli: Program, log: Path, again: str) -> None:
    """Ending what has ended stores nothing, is noted, and is no error."""
    id_ = begun(cli, "docs", "--session", "s")
    cli("skill", "complete", id_)
    repeated = cli("skill", again, id_)
    assert (repeated.returncode, repeated.stdout) == (0, "")
    assert repeated.stderr == f"note: {id_} had ended before: completed\n"
    assert len(stored(log)) == 2


def test_two_ends_at_once_count_once(cli: Program, log: Path) -> None:
    """Of two processes that both find the skill open, one end counts, in sessions and in stats."""
    id_ = begun(cli, "docs", "--session", "s")
    one, other = (DetachedSkills(Settings(directory=log)) for _ in range(2))
    uses = one.find(id_), other.find(id_)
    assert uses[0] is not None
    assert uses[1] is not None
    assert one.end(uses[0], follow_up_actions=["git commit", "git tag"])
    assert other.end(
        uses[1], completed=False, follow_up_actions=["git tag", "git push"], error_type="Timeout"
    )
    assert len(stored(log, SkillCompleted)) == 2
    session = session_in(log)
    assert (session.skills, session.skills_ended, session.skills_completed) == (1, 1, 1)
    assert session.skill_invocations[0]["follow_up_actions"] == ["git commit", "git tag", "git push"]
    assert json.loads(cli("stats", "--json").stdout)["skills_ended"] == 1


def test_what_was_never_started(cli: Program, log: Path) -> None:
    """Another id than one of a start is one clear error, with exit code 3, and stores nothing."""
    begun(cli, "docs", "--session", "s")
    for arguments in (("complete", "nope"), ("abandon", "nope"), ("follow-up", "nope", "git commit")):
        refused = cli("skill", *arguments)
        assert refused.returncode == 3
        assert refused.stderr.startswith("error: no skill was started as 'nope' in the log in ")
        assert refused.stderr.count("\n") == 1
    assert len(stored(log)) == 1


def test_without_a_log(cli: Program, log: Path) -> None:
    """Where there is no log nothing was started; nothing is created."""
    assert cli("skill", "complete", "nope").returncode == 3
    assert not log.exists()


def test_follow_ups_of_a_completed_skill(cli: Program, log: Path) -> None:
    """Actions after the end are in the skill's record, too; those of a repeated end once."""
    id_ = begun(cli, "docs", "--session", "s")
    cli("skill", "complete", id_, "--follow-up", "git commit")
    cli("skill", "follow-up", id_, "git push")
    for _ in range(2):
        cli("skill", "complete", id_, "--follow-up", "git commit", "--follow-up", "gh pr")
    (record,) = session_in(log).skill_invocations
    assert record["follow_up_actions"] == ["git commit", "git push", "gh pr"]
    assert [event.action for event in stored(log, SkillFollowedUp)] == ["git push", "gh pr"]


@pytest.mark.parametrize("same_boot", [True, False])
def test_a_clock_that_was_set_back(
    cli: Program, log: Path, monkeypatch: pytest.MonkeyPatch, same_boot: bool
) -> None:
    """The duration does not come from the wall clock within one boot of a host, and is never negative."""
    id_ = begun(cli, "docs", "--session", "s")

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=1)

    monkeypatch.setattr(eventbus.detached_skills.skill_uses, "datetime", Earlier)
    if not same_boot:
        monkeypatch.setattr(eventbus.detached_skills.skill_uses, "pid_space", lambda: "another")
    assert cli("skill", "complete", id_).returncode == 0
    (ended,) = stored(log, SkillCompleted)
    assert (ended.duration_seconds > 0) if same_boot else (ended.duration_seconds == 0)


def test_the_segments_of_a_clock_that_was_set_back(log: Path) -> None:
    """An end is found although the name of its segment is older than that of the start."""
    started = SkillStarted(skill_name="docs", session_id="s", invocation_id="0123456789ab")
    settings = Settings(directory=log)
    write(log, started, writer_id=f"{tag_of_invocation(started.invocation_id)}000001abcdef")
    (path,) = (log / "events").iterdir()
    path.rename(path.with_name(f"2099{path.name[4:]}"))
    use = DetachedSkills(settings).find(started.invocation_id)
    assert use is not None
    assert DetachedSkills(settings).end(use)
    again = DetachedSkills(settings).find(started.invocation_id)
    assert again is not None
    assert again.ended is not None


def test_a_skill_of_a_tracker_can_be_ended_by_a_command(cli: Program, log: Path) -> None:
    """A skill that a program began is found by its id, in segments with any name."""
    with EventBus([JsonPersister(log)]) as bus:
        skill = SkillTracker(bus, session_id="s").track("docs", "daily")
    assert cli("skill", "complete", skill.invocation_id).returncode == 0
    ended = stored(log, SkillCompleted)[-1]
    assert (ended.invocation_id, ended.skill_name) == (skill.invocation_id, "docs")


def test_the_open_skills(cli: Program, log: Path) -> None:
    """`list` shows the open skills, the latest first, and none that ended or is unfinished."""
    ids = [begun(cli, name, "--session", name) for name in ("first", "second", "third")]
    cli("skill", "complete", ids[1])
    with EventBus([JsonPersister(log)]) as bus:
        bus.publish(SkillStarted(skill_name="running", session_id="first"))
        until_stored(log, 5)
        assert "running" in cli("skill", "list").stdout
        bus.publish(SkillStarted(skill_name="killed", session_id="first"))
    listed = cli("skill", "list", "--json")
    found = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [each["skill_name"] for each in found] == ["third", "first"]
    assert found[0]["invocation_id"] == ids[2]
    assert set(found[0]) == {
        "invocation_id", "skill_name", "workflow_path", "session_id", "started_at", "elapsed_seconds"
    }  # fmt: skip
    assert cli("skill", "list").stdout.splitlines()[0].split()[0] == ids[2]


def test_an_open_skill_is_open_in_all_reports(cli: Program) -> None:
    """The process that started the skill is gone, and its session is open, not unfinished."""
    begun(cli, "docs", "--session", "s")
    assert json.loads(cli("sessions", "--json").stdout)["outcome"] == "open"
    assert "Outcome: open" in cli("report").stdout
    assert json.loads(cli("stats", "--json").stdout)["skills_open"] == 1


@pytest.mark.parametrize("arguments", [("start", "docs", "--session", "s"), ("complete", "x")])
def test_a_log_that_cannot_be_written(cli: Program, log: Path, arguments: tuple[str, ...]) -> None:
    """A log that cannot be used is one error of one line, with exit code 1."""
    log.mkdir()
    (log / "events").write_text("in the way")
    refused = cli("skill", *arguments)
    if arguments[0] == "start":
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: nothing was stored: the event log in ")
    else:
        assert refused.returncode == 3
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""


def test_a_disabled_persister(cli: Program, somewhere: Path) -> None:
    """Where the log is disabled a skill cannot be tracked, and that is said."""
    (somewhere / "pyproject.toml").write_text('[tool.eventbus]\ndisabled = ["json_persister"]\n')
    refused = cli("skill", "start", "docs", "--session", "s")
    assert refused.returncode == 2
    assert "json_persister is disabled" in refused.stderr


def test_empty_words_are_refused(cli: Program) -> None:
    """An empty name, id or action, as of an unset variable, is wrong usage."""
    for arguments in (("start", ""), ("complete", " "), ("follow-up", "", "x")):
        refused = cli("skill", *arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_secrets_are_scrubbed(cli: Program, log: Path) -> None:
    """What commands store is scrubbed like everything else."""
    id_ = begun(cli, "docs", "--session", "s")
    cli("skill", "follow-up", id_, "curl -H 'Authorization: Bearer abcdefghijklmnop'")
    content = b"".join(path.read_bytes() for path in (log / "events").iterdir())
    assert b"abcdefghijklmnop" not in content


def test_a_full_disk_leaves_no_empty_segments(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment without a record is removed when its event cannot be written."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("eventbus_subscribers.segment.os.write", full)
        with pytest.raises(OSError, match="No space"):
            DetachedSkills(Settings(directory=log)).start("docs", None, "s")
    assert list((log / "events").iterdir()) == []


def test_the_first_segment_of_a_day_prunes(log: Path) -> None:
    """Segments beyond the limits are removed once a day, not by each command."""
    events = log / "events"
    events.mkdir(parents=True)
    old = [events / f"2020010{day}T000000.000000Z-1-old{day}.jsonl" for day in (1, 2)]
    for path in old:
        path.write_bytes(b"x\n")
        os.utime(path, (0, 0))
    DetachedSkills(Settings(directory=log)).start("docs", None, "s")
    assert not any(path.exists() for path in old)
    old[0].write_bytes(b"x\n")
    os.utime(old[0], (0, 0))
    DetachedSkills(Settings(directory=log)).start("docs", None, "s")
    assert old[0].exists()


# `skill run`


@pytest.mark.parametrize(
    ("script", "code", "completed", "error"),
    [
        ("exit 0", 0, True, None),
        ("exit 3", 3, False, "CommandFailed"),
        ("kill -KILL $$", 137, False, "SIGKILL"),
        ("kill -INT $$", 130, False, None),
    ],
)
def test_a_command_as_a_use_of_a_skill(
    program: Program, log: Path, script: str, code: int, completed: bool, error: str | None
) -> None:
    """The exit code is the command's, and its start and end are the skill's."""
    ended = program("skill", "run", "docs", "--path", "daily", "--session", "s", "--", "sh", "-c", script)
    assert (ended.returncode, ended.stderr) == (code, "")
    first, last = stored(log)
    assert (first.skill_name, first.workflow_path, last.invocation_id) == (
        "docs",
        "daily",
        first.invocation_id,
    )
    assert (last.completed, last.error_type) == (completed, error)
    assert last.duration_seconds > 0


def test_what_a_command_has(program: Program, log: Path) -> None:
    """The command has the skill's session and log in its environment, and its own options."""
    show = 'echo "$EVENTBUS_SESSION_ID $EVENTBUS_DIR $1"'
    ended = program("skill", "run", "docs", "--session", "s1", "--", "sh", "-c", show, "x", "--help")
    assert ended.stdout == f"s1 {log} --help\n"
    assert program("skill", "run", "docs", "--", "no-such-command").returncode == 127


def test_a_command_whose_log_cannot_be_written(program: Program, log: Path) -> None:
    """The command runs, and its exit code is kept; what was not stored is noted."""
    log.mkdir()
    (log / "events").write_text("in the way")
    ended = program("skill", "run", "docs", "--", "sh", "-c", "echo done; exit 3")
    assert (ended.returncode, ended.stdout) == (3, "done\n")
    assert "nothing was stored" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_killed_run_is_unfinished_and_a_signal_reaches_the_command(log: Path) -> None:
    """SIGTERM goes to the command; while it runs the skill is open; `skill run` killed, it is unfinished."""
    command = [sys.executable, "-m", "eventbus", "skill", "run", "docs", "--session", "s", "--"]
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    with subprocess.Popen([*command, "sh", "-c", script], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 5
    script = "echo $$; exec sleep 60"
    with subprocess.Popen([*command, "sh", "-c", script], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        child = int(running.stdout.readline())
        until_stored(log, 3)
        assert session_in(log).skills_open == 1
        running.kill()
        running.wait(20)
        os.kill(child, signal.SIGKILL)
    session = session_in(log)
    assert (session.skills_open, session.skills_unfinished, session.skills_ended) == (0, 1, 1)


def test_the_session_of_the_open_skill_of_a_terminal(cli: Program, log: Path) -> None:
    """The latest open skill of a terminal is the session of what it runs; an ended one is not."""
    settings = Settings(directory=log)
    assert session_of_terminal(settings) is None
    ids = [begun(cli, "docs", "--session", name) for name in ("first", "second")]
    assert session_of_terminal(settings) == "second"
    cli("skill", "complete", ids[1])
    assert session_of_terminal(settings) == "first"
    cli("skill", "abandon", ids[0])
    assert session_of_terminal(settings) is None


@pytest.mark.parametrize("other", ["_terminal", "pid_space"])
def test_the_skill_of_another_terminal(
    cli: Program, log: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """An open skill of another terminal, or from before a reboot, is no session of this one."""
    begun(cli, "docs", "--session", "s")
    # 0 would be no other terminal where the session's leader is outside this process namespace.
    monkeypatch.setattr(eventbus.detached_skills.skill_uses, other, lambda: -1)
    assert session_of_terminal(Settings(directory=log)) is None


# The whole, in real processes.

RUN = """
from eventbus import EventBus, PhaseTask, WorkflowEventTracker
from eventbus_subscribers import JsonPersister
import anyio, os, signal, sys
with EventBus([JsonPersister()]) as bus:
    tracker = WorkflowEventTracker(bus)
    tracker.workflow_started("crackerjack")
    for name in ("fast_hooks", "tests"):
        anyio.run(PhaseTask(name, lambda: 1, tracker).run)
    if sys.argv[1:]:
        tracker.node_started("publish")
        bus.close()
        os.kill(os.getpid(), signal.SIGKILL)
    tracker.workflow_completed()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_skill_and_a_run_of_a_shell_are_one_session(
    tmp_path: Path, log: Path, compiled: dict[str, str], killed: bool
) -> None:
    """A start in one process, a run in another and an end in a third are one session in the report."""
    (tmp_path / "run.py").write_text(RUN)
    script = f"""
        set -e
        eventbus() {{ {sys.executable} -m eventbus "$@"; }}
        id=$(eventbus skill start docs --path quick)
        eventbus run --progress quiet -- {sys.executable} run.py {"killed || true" if killed else ""}
        eventbus skill complete $id --follow-up "git commit"
        eventbus report
    """
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env={**os.environ, **compiled},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in ("Total Sessions: 1", "Skills Completed: 1", "Workflow Nodes: 2"):
        assert line in done.stdout
    session = session_in(log)
    assert session.skill_invocations[0]["follow_up_actions"] == ["git commit"]
    assert session.outcome == ("failed" if killed else "succeeded")


@pytest.mark.anyio
async def test_the_join_is_seen_live(log: Path) -> None:
    """A live correlator that is fed by `follow` sees the skill and the run joined while both are open."""
    correlator = LiveCorrelator()
    skills = DetachedSkills(Settings(directory=log))

    def figures() -> tuple[int, int, int, bool] | None:
        session = correlator.session("s1")
        if session is None:
            return None
        return session.skills, session.workflows, session.skills_ended, session.is_open

    async with EventBus([correlator]) as bus, EventLog(log).follow(include_own=True) as records:

        async def feed() -> None:
            async for record in records:
                bus.publish(record.event)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            started = skills.start("docs", "quick", "s1")
            write(log, WorkflowStarted(workflow_id="crackerjack", run_id="r", session_id="s1"))
            await until(lambda: figures() == (1, 1, 0, True))
            use = DetachedSkills(Settings(directory=log)).find(started.invocation_id)
            assert use is not None
            skills.end(use)
            await until(lambda: figures() == (1, 1, 1, True))
            write(log, WorkflowCompleted(workflow_id="crackerjack", run_id="r", session_id="s1"))
            await until(lambda: figures() == (1, 1, 1, False))
            tasks.cancel_scope.cancel()


def test_crackerjack_joins_the_open_skill(cli: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a session of its own, `eventbus crackerjack` runs in that of the terminal's open skill."""
    seen: list[str | None] = []

    def program(_: object) -> None:
        seen.append(current_session_id())

    monkeypatch.setattr("eventbus.cli.crackerjack_command._program", lambda: program)
    begun(cli, "docs", "--session", "of the skill")
    for environment in ({}, {"EVENTBUS_SESSION_ID": "of the shell"}):
        assert cli("crackerjack", "run", **environment).returncode == 0
        monkeypatch.delenv("EVENTBUS_SESSION_ID", raising=False)
    assert seen == ["of the skill", "of the shell"]


def test_a_skill_is_found_without_reading_the_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a log of many segments, only those of the skill are opened."""
    settings = Settings(directory=log, sync="never")
    started = DetachedSkills(settings).start("docs", None, "s")
    for number in range(100):
        DetachedSkills(settings).start(f"other{number}", None, "s")
    opened: list[Path] = []

    def counted(path: Path) -> StoredLines:
        opened.append(path)
        return StoredLines(path)

    monkeypatch.setattr("eventbus.history.skill_segments.StoredLines", counted)
    use = DetachedSkills(settings).find(started.invocation_id)
    assert use is not None
    assert use.started == started
    assert len(opened) == 1
