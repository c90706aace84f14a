"""`eventbus hook claude-code`: what an agent's hooks run, and how they are set up."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from eventbus_subscribers import JsonPersister
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import EventBus, SkillCompleted, SkillEvent, SkillStarted, WorkflowCompleted, WorkflowStarted
from eventbus.cli import main
from eventbus.cli.agent_hook import run_hook
from eventbus.cli.hook_settings import with_hooks, without_hooks
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
from eventbus.history.stored_lines import StoredLines
from eventbus.integrations.claude_code import HOOK_EVENTS
from tests.vocabulary import TooSlowError, attempts

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
Hook: TypeAlias = "Callable[..., tuple[int, str, str]]"

PRE: dict[str, Any] = {
    "session_id": "s1",
    "hook_event_name": "PreToolUse",
    "tool_name": "Skill",
    "tool_input": {"skill": "docs", "args": "private"},
}
STOP = {"session_id": "s1", "hook_event_name": "Stop"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def hook(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hook:
    """Run the command as a hook does, and return its exit code, stdout and stderr."""
    for variable in ("CLAUDE_PROJECT_DIR", "CLAUDE_ENV_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("EVENTBUS_DIR", str(log))

    def run(report: object) -> tuple[int, str, str]:
        data = report if isinstance(report, bytes) else json.dumps(report).encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = main(["hook", "claude-code"])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def stored(log: Path) -> list[Any]:
    return list(EventLog(log).events(types=SkillEvent))


def test_a_skill_of_an_agent(hook: Hook, log: Path) -> None:
    """A skill begins with its tool call and ends at the stop, in the agent's session; nothing is printed."""
    for report in ({"session_id": "s1", "hook_event_name": "SessionStart"}, PRE, STOP, STOP):
        assert hook(report) == (0, "", "")
    started, ended = stored(log)
    assert (started.skill_name, started.session_id, ended.session_id) == ("docs", "s1", "s1")
    assert ended.completed
    assert ended.duration_seconds > 0
    assert started.invocation_id == ended.invocation_id
    with SessionHistory(EventLog(log)) as history:
        (session,) = history.figures()
    assert (session.skills, session.skills_completed, session.outcome) == (1, 1, "succeeded")


def test_a_job_of_an_agent(hook: Hook, log: Path) -> None:
    """A job that the agent starts on crackerjack's MCP server is in the agent's session, with its skill."""
    answer = {"content": [{"type": "text", "text": '{"job_id": "ede3534e", "status": "running"}'}]}
    name = "mcp__crackerjack__crackerjack_execute"
    job = {"session_id": "s1", "hook_event_name": "PostToolUse", "tool_name": name, "tool_response": answer}
    with EventBus([JsonPersister(log)]) as server:
        server.publish(WorkflowStarted(session_id="ede3534e", workflow_id="crackerjack", run_id="r"))
        server.publish(WorkflowCompleted(session_id="ede3534e", workflow_id="crackerjack", run_id="r"))
    for report in (PRE, job, STOP):
        assert hook(report) == (0, "", "")
    with SessionHistory(EventLog(log)) as history:
        (session,) = history.figures()
        assert history.figures_of("ede3534e") == session
    assert (session.session_id, session.skills_completed, session.workflows_succeeded) == ("s1", 1, 1)


def test_an_open_skill_is_open(hook: Hook, log: Path) -> None:
    """Between its hooks no process of the agent's skill is there, and the skill is open."""
    hook(PRE)
    with SessionHistory(EventLog(log)) as history:
        (session,) = history.figures()
    assert (session.outcome, session.skills_open) == ("open", 1)


def test_the_session_of_the_environment_wins(hook: Hook, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where EVENTBUS_SESSION_ID is set, what the agent runs is in that session, and so are its skills."""
    monkeypatch.setenv("EVENTBUS_SESSION_ID", "outer")
    hook(PRE)
    hook(STOP)
    assert [event.session_id for event in stored(log)] == ["outer", "outer"]


def test_agents_in_one_session_stay_apart(hook: Hook, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that another one started, in its session, does not end its skills."""
    monkeypatch.setenv("EVENTBUS_SESSION_ID", "outer")
    hook(PRE)
    hook({**PRE, "session_id": "inner", "tool_input": {"skill": "review"}})
    hook({**STOP, "session_id": "inner"})
    hook({"session_id": "inner", "hook_event_name": "SessionEnd", "reason": "other"})
    assert [(type(event), event.skill_name) for event in stored(log)] == [
        (SkillStarted, "docs"), (SkillStarted, "review"), (SkillCompleted, "review")
    ]  # fmt: skip


def test_subagents(hook: Hook, log: Path) -> None:
    """A subagent's skills are its own; the end of the session ends those of all its agents."""
    of_sub = {**PRE, "tool_input": {"skill": "review"}, "agent_id": "a1"}
    for report in (PRE, of_sub, STOP, {**of_sub, "hook_event_name": "SubagentStop"}, PRE, of_sub):
        hook(report)
    names = [event.skill_name for event in stored(log) if isinstance(event, SkillCompleted)]
    assert names == ["docs", "review"]
    hook({**STOP, "hook_event_name": "SessionEnd", "reason": "other"})
    ends = [event for event in stored(log) if isinstance(event, SkillCompleted)]
    assert sorted((event.skill_name, event.completed) for event in ends[2:]) == [
        ("docs", False), ("review", False)
    ]  # fmt: skip


def test_a_long_session_is_not_read(log: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many skills an agent has used, a hook opens a few segments only."""
    for number in range(60):
        hook({**PRE, "tool_use_id": f"t{number}"})
    opened: list[Path] = []

    def counted(path: Path) -> StoredLines:
        opened.append(path)
        return StoredLines(path)

    monkeypatch.setattr("eventbus.history.skill_segments.StoredLines", counted)
    hook(STOP)
    assert len(opened) < 12
    assert len([event for event in stored(log) if isinstance(event, SkillCompleted)]) == 60


def test_hooks_that_run_at_once_report_one_use(
    log: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with the same report, as of hooks that are installed twice, count as one use."""
    hook({**PRE, "tool_use_id": "t"})
    (first,) = (log / "events").iterdir()
    away = first.rename(log / "away")
    hook({**PRE, "tool_use_id": "t"})  # it did not see the other
    away.rename(first)
    assert len(stored(log)) == 2
    hook(STOP)
    with SessionHistory(EventLog(log)) as history:
        (session,) = history.figures()
    assert (session.skills, session.skills_ended) == (1, 1)


def test_skills_that_began_at_once_all_end(log: Path, hook: Hook) -> None:
    """Of two skills whose hooks ran at once, and did not see each other, the stop ends both."""
    hook(PRE)
    (first,) = (log / "events").iterdir()
    away = first.rename(log / "away")
    hook({**PRE, "tool_input": {"skill": "review"}})
    away.rename(first)
    hook(STOP)
    assert sorted(event.skill_name for event in stored(log) if isinstance(event, SkillCompleted)) == [
        "docs", "review"
    ]  # fmt: skip


def test_the_settings_choose_the_actions(
    hook: Hook, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`follow_up_actions` of the agent's project says which commands are recorded."""
    (tmp_path / "pyproject.toml").write_text('[tool.eventbus]\nfollow_up_actions = ["make"]\n')
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(tmp_path))
    bash = {**STOP, "hook_event_name": "PostToolUse", "tool_name": "Bash"}
    hook(PRE)
    for command in ("make check", "git commit"):
        hook({**bash, "tool_input": {"command": command}, "tool_response": {"stdout": "x"}})
    hook(STOP)
    assert stored(log)[-1].follow_up_actions == ("make",)


def test_the_log_is_the_projects(hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is in the agent's project, wherever in it the agent works; git ignores it."""
    monkeypatch.delenv("EVENTBUS_DIR")
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(tmp_path))
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    hook(PRE)
    assert len(stored(tmp_path / ".session-buddy")) == 1
    assert (tmp_path / ".session-buddy" / ".gitignore").read_text() == "*\n"
    assert not (tmp_path / "inner" / ".session-buddy").exists()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":1}' * 2, b'{"session_id":NaN}']
)
def test_nonsense_is_harmless(hook: Hook, log: Path, data: bytes) -> None:
    """Whatever is on stdin, the exit code is 0, nothing is on stdout, and at most one line on stderr."""
    code, out, err = hook(data)
    assert (code, out) == (0, "")
    assert err.count("\n") <= 1
    assert not log.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.binary()
    | st.text().map(
        str.encode,
    )
    | st.dictionaries(st.text(), st.text()).map(json.dumps).map(str.encode)
)
def test_any_bytes_are_harmless(hook: Hook, data: bytes) -> None:
    """The same for any bytes."""
    code, out, err = hook(data)
    assert (code, out) == (0, "")
    assert err.count("\n") <= 1


def test_half_a_surrogate_pair_is_read(hook: Hook, log: Path) -> None:
    """JSON that a strict decoder refuses is read where it matters."""
    data = json.dumps({**PRE, "prompt": "x"}).encode().replace(b'"x"', b'"\\ud800"')
    assert hook(data) == (0, "", "")
    assert len(stored(log)) == 1


@pytest.mark.parametrize("obstacle", ["file", "link", "settings", "disabled"])
def test_a_log_that_cannot_be_written(
    hook: Hook, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """A log that cannot be used is one line on stderr, and the agent goes on."""
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(tmp_path))
    if obstacle == "file":
        log.write_text("in the way")
    elif obstacle == "link":
        log.symlink_to(tmp_path / "elsewhere")
    else:
        value = 'disabled = ["json_persister"]' if obstacle == "disabled" else "sync = 3"
        (tmp_path / "pyproject.toml").write_text(f"[tool.eventbus]\n{value}\n")
    code, out, err = hook(PRE)
    assert (code, out, err.count("\n")) == (0, "", 1)
    assert err.startswith("eventbus: a hook's events were not stored: ")


def test_an_interrupt_is_harmless(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an interrupt does not reach the agent."""

    def interrupt(_: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eventbus.cli.agent_hook._run", interrupt)
    assert hook(PRE)[:2] == (0, "")


def test_without_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook without stdin or stderr exits with 0."""
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("sys.stderr", None)
    assert run_hook() == 0


def test_nothing_private_reaches_the_log(hook: Hook, log: Path) -> None:
    """No word of a prompt, of arguments, of outputs or of paths is in any file of the log."""
    common = {"session_id": "s1", "cwd": "/private", "transcript_path": "/private/x", "agent_type": "private"}
    bash = {"tool_name": "Bash", "tool_input": {"command": "git commit -m private", "description": "private"}}
    for report in (
        {**PRE, **common},
        {**common, "hook_event_name": "UserPromptSubmit", "prompt": "/review private"},
        {**common, "hook_event_name": "UserPromptExpansion", "command_name": "x", "command_args": "private"},
        {**common, "hook_event_name": "PostToolUse", **bash, "tool_response": {"stdout": "private"}},
        {**common, "hook_event_name": "Stop", "last_assistant_message": "private"},
    ):
        assert hook(report) == (0, "", "")
    assert len(stored(log)) == 7
    for path in (log / "events").iterdir():
        assert b"private" not in path.read_bytes()
        assert "private" not in path.name


# The session of what the agent runs.


@pytest.mark.parametrize("session", ["s1", 'it\'s; $(touch x) `y` "z"\n#'])
def test_the_session_is_exported(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    """A shell that sources CLAUDE_ENV_FILE has the agent's session, whatever characters it has."""
    file = tmp_path / "env"
    monkeypatch.setenv("CLAUDE_ENV_FILE", str(file))
    start = {"session_id": session, "hook_event_name": "SessionStart", "source": "startup"}
    for _ in range(2):  # it is also sent on resuming and after compacting
        assert hook(start) == (0, "", "")
    assert file.read_text().count("EVENTBUS_SESSION_ID") == 1
    shown = subprocess.run(
        ["sh", "-c", f'. {file}; printf %s "$EVENTBUS_SESSION_ID"'],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (shown.stdout, shown.stderr) == (session, "")
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("export A=1\n", "export A=1\nexport EVENTBUS_SESSION_ID=s1\n"),
        ("export A=1", "export A=1\nexport EVENTBUS_SESSION_ID=s1\n"),
        ("export EVENTBUS_SESSION_ID=mine\n", "export EVENTBUS_SESSION_ID=mine\n"),
        ("EVENTBUS_SESSION_ID=mine", "EVENTBUS_SESSION_ID=mine"),
    ],
)
def test_what_the_file_says_is_kept(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: str
) -> None:
    """A line is appended; a session that is set there already stays."""
    file = tmp_path / "env"
    file.write_text(content)
    monkeypatch.setenv("CLAUDE_ENV_FILE", str(file))
    hook({"session_id": "s1", "hook_event_name": "SessionStart"})
    assert file.read_text() == expected


def test_a_session_of_the_environment_is_not_exported(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the agent itself has a session, its commands have it, too."""
    monkeypatch.setenv("CLAUDE_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("EVENTBUS_SESSION_ID", "outer")
    hook({"session_id": "s1", "hook_event_name": "SessionStart"})
    assert not (tmp_path / "env").exists()


def test_a_pipe_in_its_place_does_not_block(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else than a file is one line on stderr."""
    os.mkfifo(tmp_path / "env")
    monkeypatch.setenv("CLAUDE_ENV_FILE", str(tmp_path / "env"))
    code, out, err = hook({"session_id": "s1", "hook_event_name": "SessionStart"})
    assert (code, out, err.count("\n")) == (0, "", 1)


# In processes of their own.


@pytest.fixture
def environment(tmp_path: Path, compiled: dict[str, str]) -> dict[str, str]:
    """Return the environment of an agent's hooks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLAUDE")}
    return {**kept, **compiled, "EVENTBUS_DIR": str(tmp_path / "log")}


def piped(report: object, **variables: str) -> float:
    """Run the command in a process of its own; return its processor time in seconds."""
    return _processor_seconds("-m", "eventbus", "hook", "claude-code", report=report, **variables)


def _processor_seconds(*arguments: str, report: object, **variables: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        input=json.dumps(report).encode(), env=variables, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


MAX_SECONDS, IDLE_SECONDS = 0.15, 0.013
"""Of a hook; and of Python itself on an idle machine of the kind this was measured on."""


@pytest.mark.alone
def test_a_hook_is_quick(hook: Hook, log: Path, environment: dict[str, str]) -> None:
    """A hook takes at most 150 ms of processor time, also in a log of 2,000 segments."""
    for _ in range(3):
        hook(PRE)
    (pattern, *_) = sorted((log / "events").iterdir())
    content, (rest, bus_id) = pattern.read_bytes(), (pattern.name.rpartition("-")[0], pattern.stem[-27:])
    for number in range(2_000):
        tag = bus_id[:15] if number % 2 else f"h{number:014x}"
        (log / "events" / f"{rest}-{tag}{number:06}{number:06x}.jsonl").write_bytes(content)
    piped(STOP, **environment)
    for attempt in attempts():
        with attempt:
            for report in (PRE, STOP):
                bare = min(_processor_seconds("-c", "pass", report=report, **environment) for _ in range(3))
                seconds = min(piped(report, **environment) for _ in range(3))
                if seconds > MAX_SECONDS * max(1.0, bare / IDLE_SECONDS):  # a busy core is slower
                    raise TooSlowError(f"{seconds * 1e3:.0f} ms of processor time")


def test_a_hook_imports_no_bus_no_loop_and_no_index(log: Path, environment: dict[str, str]) -> None:
    """A hook imports nothing that only other commands need."""
    script = (
        "import sys, io; sys.stdin = io.TextIOWrapper(io.BytesIO(sys.argv[1].encode()))\n"
        "from eventbus.cli import main; main(['hook', 'claude-code'])\n"
        "rooms = ['eventbus.' + name for name in ('bus', 'delivery', 'correlation', 'cli.app')]\n"
        "print([name for name in ('rich', 'anyio', 'asyncio', 'sqlite3', *rooms) if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(PRE)],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert len(stored(log)) == 1


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_an_agent_runs_is_in_the_session_of_its_skills(
    tmp_path: Path, environment: dict[str, str], is_killed: bool
) -> None:
    """Reports piped into hooks and a command in a shell that sources CLAUDE_ENV_FILE are one session."""
    ends = {"SessionEnd": "other"} if is_killed else {"Stop": "", "SessionEnd": "prompt_input_exit"}
    variables = {**environment, "CLAUDE_ENV_FILE": str(tmp_path / "env")}
    piped({"session_id": "s1", "hook_event_name": "SessionStart"}, **variables)
    piped({**PRE, "tool_use_id": "t"}, **variables)
    run = f". {tmp_path}/env; {sys.executable} -m eventbus run --progress quiet -- sh -c 'exit 3'"
    ran = subprocess.run(
        ["sh", "-c", run], cwd=tmp_path, env=variables, capture_output=True, timeout=60, check=False
    )
    assert ran.returncode == 3
    for name, reason in ends.items():
        piped({"session_id": "s1", "hook_event_name": name, "reason": reason}, **variables)
    with SessionHistory(EventLog(tmp_path / "log")) as history:
        (session,) = history.figures()
    assert (session.session_id, session.skills, session.workflows) == ("s1", 1, 1)
    assert (session.skills_completed, session.skills_cancelled) == ((0, 1) if is_killed else (1, 0))
    assert (session.exit_code, session.skill_names, session.workflow_ids) == (3, ("docs",), ("sh",))


# Installing.

COMMAND = "eventbus hook claude-code"
OTHERS = """{
    "model": "opus",  "permissions": {"allow": ["Bash(ls:*)", "Read"]},
    "hooks": {
        "PreToolUse": [
            {"matcher": "Bash", "hooks": [{"type": "command", "command": "other --flag"}]}
        ],
        "Notification": [{"hooks": [{"type": "command", "command": "say"}]}]
    },
    "number": 1.50, "name": "näher"
}
"""
TEXTS = [
    "{}",
    "{}\n",
    '{"model": "opus"}',
    '{\n\t"model": "opus"\n}\n',
    OTHERS,
    OTHERS.replace("\n", "\r\n"),
    '{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say"}]}]}}',
    '{"a": {"hooks": {"Stop": 3}}, "b": "\\"hooks\\": {"}',
]


@pytest.mark.parametrize("text", TEXTS)
def test_installing_and_uninstalling_gives_the_same_text(text: str) -> None:
    """Installing keeps all bytes, installing twice is installing once, and uninstalling undoes it."""
    installed = with_hooks(text, HOOK_EVENTS, COMMAND)
    settings = json.loads(installed)
    for event, matcher in HOOK_EVENTS.items():
        (ours,) = [group for group in settings["hooks"][event] if group["hooks"][0]["command"] == COMMAND]
        assert ours.get("matcher", "") == matcher
    assert with_hooks(installed, HOOK_EVENTS, COMMAND) == installed
    assert without_hooks(installed) == text
    assert without_hooks(text) == text


def test_all_other_settings_stay_in_their_places() -> None:
    """Each line of the settings is there afterwards, in the same order, but for a comma."""
    lines = iter(with_hooks(OTHERS, HOOK_EVENTS, COMMAND).splitlines())
    for line in OTHERS.splitlines():
        assert any(each.rstrip(",") == line.rstrip(",") for each in lines), line


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
GROUPS = st.lists(
    st.fixed_dictionaries(
        {"hooks": st.lists(st.fixed_dictionaries({"command": st.text()}), min_size=1, max_size=2)}
    )
    | VALUES.filter(bool),
    min_size=1,
    max_size=3,
)
HOOKS = st.dictionaries(st.sampled_from([*HOOK_EVENTS, "Notification"]), GROUPS, min_size=1)


@given(
    st.dictionaries(st.text(), VALUES, min_size=1, max_size=3),
    st.none() | HOOKS,
    st.none() | st.sampled_from([0, 2, "\t"]),
)
def test_any_settings_stay_as_they_are(others: dict[str, Any], hooks: Any, indent: Any) -> None:
    """Whatever settings there are, installing keeps them, and uninstalling gives them back."""
    settings = {**others, **({"hooks": hooks} if hooks else {})}
    if "hooks" in others and not hooks:
        del settings["hooks"]
    text = json.dumps(settings or {"a": 1}, indent=indent)
    installed = with_hooks(text, HOOK_EVENTS, COMMAND)
    found = json.loads(installed)
    for event, groups in (hooks or {}).items():
        assert found["hooks"][event][: len(groups)] == groups
    assert without_hooks(installed) == text


@pytest.mark.parametrize("option", [(), ("--user",)])
def test_the_commands_for_a_settings_file(
    cli: Program, somewhere: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    """`--install` writes the file and shows the change; `--uninstall` takes it back."""
    file = (tmp_path if option else somewhere) / ".claude" / "settings.json"
    install = ("hook", "claude-code", "--install", *option)
    installed = cli(*install, HOME=str(tmp_path), CLAUDE_CONFIG_DIR="")
    assert (installed.returncode, installed.stderr) == (0, "")
    assert installed.stdout.startswith(f"{file}: changed\n")
    assert '+            "command": ' in installed.stdout
    assert set(json.loads(file.read_text())["hooks"]) == set(HOOK_EVENTS)
    again = cli(*install, HOME=str(tmp_path), CLAUDE_CONFIG_DIR="")
    assert again.stdout == f"{file}: nothing to change\n"
    gone = cli("hook", "claude-code", "--uninstall", *option, HOME=str(tmp_path), CLAUDE_CONFIG_DIR="")
    assert gone.returncode == 0
    assert json.loads(file.read_text()) == {}


def test_the_file_stays_the_same_file(cli: Program, somewhere: Path, tmp_path: Path) -> None:
    """A link is followed, the mode and a BOM are kept, and no other file is left behind."""
    target = tmp_path / "dotfiles.json"
    target.write_bytes(b"\xef\xbb\xbf" + OTHERS.encode())
    target.chmod(0o640)
    (somewhere / ".claude").mkdir()
    (somewhere / ".claude" / "settings.json").symlink_to(target)
    assert cli("hook", "claude-code", "--install").returncode == 0
    assert (somewhere / ".claude" / "settings.json").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert "SessionEnd" in target.read_text("utf-8-sig")
    cli("hook", "claude-code", "--uninstall")
    assert target.read_bytes() == b"\xef\xbb\xbf" + OTHERS.encode()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dotfiles.json", "somewhere"]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"// a comment\n{}",
        b'{"hooks": []}',
        b'{"hooks": {"Stop": {}}}',
        b"\xff",
        b'{"a":1,"a":2}',
    ],
)
@pytest.mark.parametrize("option", ["--install", "--uninstall"])
def test_other_settings_are_left_alone(cli: Program, somewhere: Path, content: bytes, option: str) -> None:
    """A file that is not an agent's settings is refused in one line, and stays as it is."""
    file = somewhere / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_bytes(content)
    refused = cli("hook", "claude-code", option)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.startswith(f"error: {file} was left as it is: ")
    assert file.read_bytes() == content


def test_print_shows_what_to_paste(cli: Program) -> None:
    """`--print` prints the settings with our hooks only."""
    shown = json.loads(cli("hook", "claude-code", "--print").stdout)
    assert list(shown) == ["hooks"]
    assert "eventbus" in shown["hooks"]["Stop"][0]["hooks"][0]["command"]


def test_wrong_usage(cli: Program) -> None:
    """Options that exclude each other are refused."""
    for options in (("--install", "--uninstall"), ("--user",), ("--user", "--print", "--install")):
        refused = cli("hook", "claude-code", *options)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_without_the_script_the_hooks_run_no_file_of_the_project(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the program is no script, the hooks run the package, and no `eventbus.py` of the project."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    printed = cli("hook", "claude-code", "--print").stdout
    assert f"{tmp_path / 'python'} -P -m eventbus hook claude-code" in printed
