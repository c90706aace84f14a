"""The real crackerjack on a real project: unchanged, and observed from its start to its end.

Known are 0.74, the newest for Python 3.13, and 0.91, which needs Python 3.14: it resumes no run, and its
runs publish and commit only if asked to.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventbus import (
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory

Run: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("crackerjack") is None,
    reason="SKIPPED: crackerjack is not installed (1.2 GB; Python 3.13 or newer): make test-crackerjack",
)

PLAIN = [str(Path(sys.executable).with_name("crackerjack"))]
OBSERVED = [sys.executable, "-m", "eventbus", "crackerjack"]
IS_0_74 = sys.version_info < (3, 14)
SUCCEEDS = ["run", "--skip-hooks", *(["--no-coverage-ratchet"] if IS_0_74 else [])]
FAILS = [*SUCCEEDS, "--run-tests"]
NODES = ("configuration", "publishing", "commit") if IS_0_74 else ("configuration",)
HOOKS = ["run", "--fast"]
PYPROJECT = (
    '[project]\nname = "sample"\nversion = "0.1.0"\ndescription = "A sample"\nrequires-python = ">=3.13"\n'
)
MODULE = '"""A sample."""\n\n\ndef double(n: int) -> int:\n    """Double it."""\n    return 2 * n\n'
TEST = "from sample import double\n\n\ndef test_double() -> None:\n    assert double(2) == 4\n"


def _new_project(directory: Path) -> Path:
    for place, text in {
        "pyproject.toml": PYPROJECT,
        "sample/__init__.py": MODULE,
        "tests/test_double.py": TEST,
    }.items():
        file = directory / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    for arguments in (
        ["init", "-q", "-b", "main", "."],
        ["add", "-A"],
        [*identity, "commit", "-qm", "initial"],
    ):
        subprocess.run(["git", *arguments], cwd=directory, check=True, timeout=30)
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in a new or an existing project, always under the same path."""

    def run(command: Sequence[str], project: str = "sample", **environment: str) -> Any:
        place, kept = tmp_path / "project", tmp_path / project
        (kept if kept.exists() else _new_project(kept)).rename(place)
        try:
            return subprocess.run(
                command, cwd=place, env=_environment(**environment), capture_output=True, text=True,
                timeout=300, check=False,
            )  # fmt: skip
        finally:
            place.rename(kept)

    return run


def _environment(**more: str) -> dict[str, str]:
    # Without uv the phase of the tests fails.
    path = [each for each in os.environ["PATH"].split(os.pathsep) if not Path(each, "uv").exists()]
    here = {
        "PATH": os.pathsep.join(path), "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1", "COLUMNS": "100",
    }  # fmt: skip
    return {**os.environ, **here, **more}


def _stored(directory: Path, session_id: str | None = None) -> list[Any]:
    return list(EventLog(directory).events(session_id=session_id))


def _sessions(run: Run, directory: Path) -> list[Any]:
    report = run([sys.executable, "-m", "eventbus", "report", "--json", "--dir", str(directory)])
    return [json.loads(line) for line in report.stdout.splitlines()]


def _of(events: Sequence[Any], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def _timeless(text: str) -> list[str]:
    """Return the lines without times, and sorted, since the hooks of a pool end in any order."""
    text = re.sub(r"ident=\d+", "ident", re.sub(r"\d+\.\d+ ?(s|seconds)\b", "<seconds>", text))
    return sorted(text.splitlines())


def test_a_run_that_succeeds(run: Run, tmp_path: Path) -> None:
    """Output and exit code are exactly crackerjack's own; the whole run is in the log."""
    plain = run([*PLAIN, *SUCCEEDS], "plain")
    observed = run(
        [*OBSERVED, *SUCCEEDS], "observed", EVENTBUS_SESSION_ID="s1", EVENTBUS_DIR=str(tmp_path / "log")
    )
    assert plain.returncode == observed.returncode == 0, plain.stderr
    assert observed.stdout == plain.stdout
    assert observed.stderr == plain.stderr
    events = _stored(tmp_path / "log")
    (start,), (end,) = _of(events, WorkflowStarted), _of(events, WorkflowCompleted)
    assert (start.workflow_id, start.nodes) == ("crackerjack", NODES)
    assert [event.node_id for event in _of(events, NodeStarted)] == list(start.nodes)
    assert [(event.node_id, event.status) for event in _of(events, NodeCompleted)] == [
        (node, "ok") for node in start.nodes
    ]
    assert end.success
    assert {event.session_id for event in events} == {"s1"}


def test_without_another_session_a_run_has_crackerjacks_own(run: Run, tmp_path: Path) -> None:
    """That session has eight hexadecimal digits."""
    run([*OBSERVED, "--dir", str(tmp_path / "log"), *SUCCEEDS])
    (session_id,) = {event.session_id for event in _stored(tmp_path / "log")}
    assert re.fullmatch("[0-9a-f]{8}", session_id)


def test_a_run_that_fails_and_is_resumed(run: Run, tmp_path: Path) -> None:
    """A failed phase is published with the type of its first cause; the next run of crackerjack 0.74 skips
    the phases that passed.
    """
    log = {"EVENTBUS_DIR": str(tmp_path / "log")}
    plain = [run([*PLAIN, *FAILS], "plain") for _ in range(2)]
    observed = [
        run([*OBSERVED, *FAILS], "observed", EVENTBUS_SESSION_ID=session, **log) for session in ("s1", "s2")
    ]
    for theirs, ours in zip(plain, observed, strict=True):
        assert ours.returncode == theirs.returncode != 0
        assert _timeless(ours.stdout) == _timeless(theirs.stdout)
        assert _timeless(ours.stderr) == _timeless(theirs.stderr)
    first, second = (_of(_stored(tmp_path / "log", session), NodeCompleted) for session in ("s1", "s2"))
    assert [(event.node_id, event.status) for event in first] == [
        ("configuration", "ok"),
        ("tests", "failed"),
    ]
    assert first[1].error_type == "FileNotFoundError"
    assert first[1].error_message is None
    assert [(event.node_id, event.status) for event in second] == [
        ("configuration", "skipped" if IS_0_74 else "ok"),
        ("tests", "failed"),
    ]


def test_hooks_are_published_as_progress_of_their_phase(run: Run, tmp_path: Path) -> None:
    """Each hook publishes its start and its end with the run's session, also from the threads of a pool."""
    plain = run([*PLAIN, *HOOKS], "plain")
    observed = run(
        [*OBSERVED, *HOOKS], "observed", EVENTBUS_SESSION_ID="s1", EVENTBUS_DIR=str(tmp_path / "log")
    )
    assert observed.returncode == plain.returncode
    assert _timeless(observed.stdout) == _timeless(plain.stdout)
    assert _timeless(observed.stderr) == _timeless(plain.stderr)
    progress = _of(_stored(tmp_path / "log"), NodeProgress)
    started = [event.metadata["hook"] for event in progress if event.metadata["status"] == "running"]
    ended = [event.metadata["hook"] for event in progress if "duration_seconds" in event.metadata]
    assert len(started) >= 16
    assert sorted(started) == sorted(ended)
    assert {(event.session_id, event.node_id, event.total) for event in progress} == {
        ("s1", "fast_hooks", len(set(started)))
    }
    (session,) = _sessions(run, tmp_path / "log")
    assert {each["hook"]: each["passes"] for each in session["hooks"]} == Counter(started)
    assert all(each["duration_seconds"] > 0 for each in session["hooks"])


def test_one_session_in_two_processes(run: Run, tmp_path: Path) -> None:
    """A skill and crackerjack in two processes that share an id are one session in the report."""
    skill = (
        "import subprocess, sys\n"
        "from eventbus import EventBus, track_skill\n"
        "from eventbus_subscribers import JsonPersister\n"
        "with EventBus([JsonPersister()]):\n"
        "    complete = track_skill('crackerjack-run', 'daily')\n"
        f"    code = subprocess.run({[*OBSERVED, *SUCCEEDS]!r}).returncode\n"
        "    complete(completed=code == 0, follow_up_actions=['git commit'])\n"
    )
    log = {"EVENTBUS_SESSION_ID": "s1", "EVENTBUS_DIR": str(tmp_path / "log")}
    assert run([sys.executable, "-c", skill], **log).returncode == 0
    report = run([sys.executable, "-m", "eventbus", "report", "s1"], **log)
    assert report.returncode == 0, report.stderr
    assert "Total Sessions: 1" in report.stdout
    assert "Skills Completed: 1" in report.stdout
    assert f"Workflow Nodes: {len(NODES)}" in report.stdout
    assert len({event.run_id for event in _of(_stored(tmp_path / "log"), WorkflowStarted)}) == 1


def test_the_order_of_imports_does_not_matter(run: Run, tmp_path: Path) -> None:
    """A program may import crackerjack before it observes it."""
    script = (
        "import sys\n"
        "from crackerjack.__main__ import cli\n"
        "from eventbus import EventBus\n"
        "from eventbus.integrations.crackerjack import observe_crackerjack\n"
        "from eventbus_subscribers import JsonPersister\n"
        "with EventBus([JsonPersister()]) as bus, observe_crackerjack(bus):\n"
        f"    sys.argv = ['crackerjack', *{SUCCEEDS!r}]\n"
        "    cli()\n"
    )
    assert run([sys.executable, "-c", script], EVENTBUS_DIR=str(tmp_path / "log")).returncode == 0
    events = _stored(tmp_path / "log")
    assert [event.status for event in _of(events, NodeCompleted)] == ["ok"] * len(NODES)
    (session_id,) = {event.session_id for event in events}
    assert re.fullmatch("[0-9a-f]{8}", session_id)


def test_help_and_wrong_usage_are_crackerjacks_own(run: Run) -> None:
    """Every argument goes to crackerjack, also `--help` and unknown ones."""
    for arguments in (["--help"], ["run", "--help"], ["run", "--no-such-option"]):
        plain, observed = run([*PLAIN, *arguments]), run([*OBSERVED, *arguments])
        assert (observed.returncode, observed.stdout, observed.stderr) == (
            plain.returncode, plain.stdout, plain.stderr,
        )  # fmt: skip


CLIENT = """
import asyncio, json, sys, warnings
warnings.simplefilter("ignore")
from fastmcp import Client

async def start(url, agents):
    async with Client(url) as client:
        names = {tool.name for tool in await client.list_tools()}
        (name,) = names & {"execute_crackerjack", "crackerjack_execute"}
        for agent in agents:
            own = {"eventbus_session_id": agent} if agent else {}
            options = {"skip_hooks": True, "test_mode": False, "ai_agent": False, **own}
            result = await client.call_tool(name, {"args": "", "kwargs": json.dumps(options)})
            print(json.loads(result.content[0].text)["job_id"])

asyncio.run(start(sys.argv[1], sys.argv[2:]))
"""


def test_jobs_of_the_mcp_server(tmp_path: Path) -> None:
    """Two agents and an unknown one start jobs on one server: each finds its own, by the job's id and, where
    it has passed it, in its own session.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project, log = _new_project(tmp_path / "project"), tmp_path / "log"
    with (project / "pyproject.toml").open("a") as file:
        file.write(f"[tool.crackerjack]\nmcp_http_enabled = true\nmcp_http_port = {port}\n")
    environment = _environment(EVENTBUS_DIR=str(log), EVENTBUS_SESSION_ID="of-the-server")
    with subprocess.Popen(
        [*OBSERVED, "start"], cwd=project, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            _wait_until(lambda: _is_listening(port))
            client = subprocess.run(
                [sys.executable, "-c", CLIENT, f"http://127.0.0.1:{port}/mcp", "a", "b", ""],
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert client.returncode == 0, client.stderr
            jobs = client.stdout.split()
            _wait_until(lambda: len(_of(_stored(log), WorkflowCompleted)) >= len(jobs))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    events = _of(_stored(log), WorkflowEvent)
    assert {(event.session_id, event.metadata["job_id"]) for event in events} == {(job, job) for job in jobs}
    with SessionHistory(EventLog(log)) as history:
        names = dict(zip(jobs, ("a", "b", jobs[2]), strict=True))
        assert {each.session_id for each in history.figures()} == set(names.values())
        for job, name in names.items():
            session = history.figures_of(job)
            assert session is not None
            assert (session.session_id, session.outcome, session.workflows) == (name, "succeeded", 1)
            assert {event.run_id for event in _of(history.events(job), WorkflowEvent)} == {
                event.run_id for event in events if event.session_id == job
            }


def _wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not is_so() and time.monotonic() < until:
        time.sleep(0.1)
    assert is_so()


def _is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_sigterm_ends_the_run_as_cancelled(tmp_path: Path) -> None:
    """SIGTERM ends crackerjack as it does unobserved; first its open phase and its run end as cancelled."""
    project, log = _new_project(tmp_path / "project"), tmp_path / "log"
    with subprocess.Popen(
        [*OBSERVED, *HOOKS], cwd=project, env=_environment(EVENTBUS_DIR=str(log)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        _wait_until(lambda: log.exists() and bool(_of(_stored(log), NodeProgress)))
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == -signal.SIGTERM
    events = _stored(log)
    assert _of(events, NodeCompleted)[-1].status == "cancelled"
    assert _of(events, WorkflowCompleted)[-1].status == "cancelled"
