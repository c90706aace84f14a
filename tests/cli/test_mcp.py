"""`eventbus mcp` answers agents, in a process of its own, as the protocol's own client asks."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    SkillCompleted,
    WorkflowCompleted,
    WorkflowStarted,
)
from tests.cli.live_writer import Writer
from tests.history.log_examples import append, segment_path, stored

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
NOW = datetime.now(UTC) - timedelta(minutes=10)
RUN: dict[str, Any] = {"session_id": "s1", "workflow_id": "ci", "run_id": "r"}
SECRET = "ghp_" + "a1B2" * 9


def at(seconds: float) -> dict[str, Any]:
    return {"timestamp": NOW + timedelta(seconds=seconds)}


FAILED: list[Event] = [
    WorkflowStarted(**RUN, **at(0), nodes=("lint", "tests", "publish")),
    NodeCompleted(**RUN, **at(1), node_id="lint", duration_seconds=1.0),
    NodeProgress(**RUN, **at(2), node_id="tests", metadata={"hook": "mypy", "status": "failed"}),
    NodeCompleted(
        **RUN, **at(5), node_id="tests", duration_seconds=4.0, success=False,
        error_type="AssertionError", error_message=f"bad {SECRET} \x1b[2J",
    ),
    WorkflowCompleted(**RUN, **at(6), duration_seconds=6.0, success=False, metadata={"exit_code": 1}),
    SkillCompleted(
        session_id="s1", skill_name="docs", invocation_id="i", **at(7), duration_seconds=7.0,
        follow_up_actions=("git commit",),
    ),
    WorkflowCompleted(session_id="t2", workflow_id="other", run_id="q", **at(8), duration_seconds=1.0),
]  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log with a session that failed, and one that did not."""
    lines = b"".join(stored(seq, event) for seq, event in enumerate(FAILED, 1))
    append(segment_path(tmp_path / "log", "b0", start=NOW), lines)
    return tmp_path / "log"


@pytest.fixture
def anyio_backend() -> str:
    """The protocol's package runs its server under asyncio, and its client starts a process there."""
    return "asyncio"


@asynccontextmanager
async def asking(log: Path) -> AsyncGenerator[Client]:
    arguments = ["-m", "eventbus", "mcp", "--dir", str(log)]
    with (log.parent / "stderr").open("w") as stderr:
        async with Client(
            stdio_client(StdioServerParameters(command=sys.executable, args=arguments), errlog=stderr)
        ) as client:
            yield client


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    given = await client.call_tool(tool, arguments)
    assert not given.is_error, given.content
    assert given.structured_content is not None
    return given.structured_content.get("result", given.structured_content)


async def error(client: Client, tool: str, **arguments: Any) -> str:
    given = await client.call_tool(tool, arguments)
    assert given.is_error
    return str(given.content[0])


@pytest.mark.anyio
async def test_what_a_log_is_asked(log: Path) -> None:
    """Each tool is read-only, says what it returns, and answers from the log, small and without secrets."""
    async with asking(log) as client:
        tools = {each.name: each for each in (await client.list_tools()).tools}
        assert set(tools) == {"sessions", "session", "failures", "slowest", "wait_for"}
        for tool in tools.values():
            assert tool.annotations is not None
            assert (tool.annotations.read_only_hint, bool(tool.output_schema)) == (True, True)

        session = await answer(client, "session", session_id="s")
        assert session["verdict"] == "ci failed after 6.0s with exit code 1"
        assert session["skills"][0]["follow_up_actions"] == ["git commit"]
        (run,) = session["runs"]
        assert (run["nodes_succeeded"], run["not_run"], run["exit_code"]) == (1, ["publish"], 1)
        (node,) = run["nodes"]
        assert (node["node"], node["failed_hooks"], node["error_type"]) == (
            "tests",
            ["mypy"],
            "AssertionError",
        )
        assert SECRET not in str(session)
        assert "\x1b" not in str(session)

        assert (await answer(client, "session"))["session_id"] == "t2"
        listed = await answer(client, "sessions")
        assert [(each["session_id"], each["outcome"]) for each in listed] == [
            ("t2", "succeeded"),
            ("s1", "failed"),
        ]
        assert len(await answer(client, "sessions", limit=1)) == 1
        assert [each["session_id"] for each in await answer(client, "sessions", failed=True)] == ["s1"]
        assert await answer(client, "sessions", since="2999-01-01") == []
        (failure,) = await answer(client, "failures")
        assert (failure["workflow"], failure["node"], failure["seconds"]) == ("ci", "tests", 4.0)
        assert await answer(client, "failures", since="1s") == []
        assert [each["node"] for each in await answer(client, "slowest")] == ["tests", "lint"]

        events = await client.read_resource("eventbus://sessions/s1/events")
        assert len(str(getattr(events.contents[0], "text", "")).splitlines()) == len(FAILED) - 1
        await assert_a_wrong_question_is_one_error(client)
        assert len(await answer(client, "sessions")) == 2
    assert "Traceback" not in (log.parent / "stderr").read_text()


async def assert_a_wrong_question_is_one_error(client: Client) -> None:
    """What cannot be answered is said, with what to do; the server goes on."""
    assert "no session begins with 'zz'" in await error(client, "session", session_id="zz")
    assert "'soon' is not a time" in await error(client, "failures", since="soon")
    assert "limit" in await error(client, "sessions", limit=0)
    with pytest.raises(Exception, match="no session begins with 'zz'"):
        await client.read_resource("eventbus://sessions/zz/events")


@pytest.mark.anyio
async def test_an_agent_waits_for_a_run(tmp_path: Path, writer: Writer) -> None:
    """`wait_for` reports each node that ends, and returns when the session has, or when its time is up.

    A session whose process is gone is unfinished, and not waited for.
    """
    dying = Writer(tmp_path / "log", "s2")
    reported: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reported.append(progress)
        await anyio.to_thread.run_sync(writer.publish, ("linted", "fail", "failed")[int(progress)])

    async def kill(progress: float, total: float | None, message: str | None) -> None:
        if progress:  # what it published is in the log
            await anyio.to_thread.run_sync(dying.kill)

    async with asking(tmp_path / "log") as client:
        writer.publish("start", "lint")
        still = await answer(client, "wait_for", session_id="s1", timeout_seconds=0.1)
        assert (still["outcome"], still["verdict"][:7]) == ("open", "ci open")
        with anyio.fail_after(30):
            waiting = await client.call_tool("wait_for", {"session_id": "s1"}, progress_callback=note)
            dying.publish("start", "linted")
            waited = await client.call_tool("wait_for", {"session_id": "s2"}, progress_callback=kill)
    assert waited.structured_content is not None
    assert waited.structured_content["outcome"] == "unfinished"
    assert waiting.structured_content is not None
    assert waiting.structured_content["verdict"] == "ci failed after 3.0s"
    assert reported == [0, 1, 2]


def test_it_ends_with_its_reader_and_when_it_is_terminated(log: Path) -> None:
    """The end of stdin ends the server with 0; SIGTERM ends it, too."""
    command = [sys.executable, "-m", "eventbus", "mcp", "--dir", str(log)]
    assert (
        subprocess.run(command, input="", text=True, timeout=30, capture_output=True, check=False).returncode
        == 0
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


def test_without_its_package_it_says_what_to_install(cli: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named in one line."""
    monkeypatch.delitem(sys.modules, "eventbus.cli.mcp_server", raising=False)
    for name in [each for each in sys.modules if each.partition(".")[0] == "mcp"]:
        monkeypatch.setitem(sys.modules, name, None)
    done = cli("mcp")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pip install 'anyio-eventbus[mcp]'" in done.stderr
