"""The jobs of a known and an unknown MCP server, without crackerjack."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

import anyio
import pytest

from eventbus import (
    Event,
    EventBus,
    NodeEvent,
    NodeProgress,
    SessionLinked,
    WorkflowEvent,
    current_session_id,
    session_scope,
)
from eventbus.correlation import Correlation
from eventbus.integrations.crackerjack import observe_crackerjack
from eventbus.integrations.observed_run import ObservedRun
from eventbus.trackers.guards import GuardedSink

MODULE = "crackerjack.mcp.tools.workflow_executor"


class _Server:
    """A server whose jobs each run a workflow of one node, in which it waits for the other jobs."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.bus = EventBus()
        self.events: list[Event] = []
        self.job_count = 1
        self._at_work = anyio.Event()
        self._started = 0
        vars(module)["_execute_crackerjack_sync"] = self._make()

    def _make(self) -> Any:
        async def _execute_crackerjack_sync(job_id: str, args: str, kwargs: Any, context: object) -> str:
            run = ObservedRun(GuardedSink(self.bus), "crackerjack", f"run of {job_id}")
            run.begin(["tests"])
            run.start_node("tests")
            self._started += 1
            if self._started == self.job_count:
                self._at_work.set()
            await self._at_work.wait()
            run.report_progress("tests", completed=1, metadata={"hook": "ruff", "status": "passed"})
            run.end_node("tests", ValueError() if args == "fail" else None)
            run.end()
            if args == "raise":
                raise LookupError(job_id)
            return job_id

        return _execute_crackerjack_sync

    async def execute(self, job_id: str, args: str = "", kwargs: Any = None) -> Any:
        return await vars(self.module)["_execute_crackerjack_sync"](job_id, args, kwargs, None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    """A stand-in for crackerjack's server."""
    for name in ("crackerjack", "crackerjack.mcp", "crackerjack.mcp.tools", MODULE):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    return _Server(sys.modules[MODULE])


@pytest.mark.anyio
async def test_a_job_is_a_session(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event of its runs has the job's id as its session and in its metadata, whatever the server's."""
    monkeypatch.setenv("EVENTBUS_SESSION_ID", "of the server")
    with server.bus as bus, observe_crackerjack(bus), session_scope("of the server, too"):
        bus.subscribe(server.events.append, WorkflowEvent)
        assert await server.execute("ede3534e", "fail") == "ede3534e"
        assert current_session_id() == "of the server, too"
    assert len(server.events) == 5
    assert {event.session_id for event in server.events} == {"ede3534e"}
    assert {event.metadata["job_id"] for event in server.events} == {"ede3534e"}
    (progress,) = [event for event in server.events if isinstance(event, NodeProgress)]
    assert progress.metadata == {"job_id": "ede3534e", "hook": "ruff", "status": "passed"}


@pytest.mark.anyio
async def test_the_jobs_of_two_agents_stay_apart(server: _Server) -> None:
    """They run at the same time on one server; each is joined to the session of its own agent only."""
    server.job_count = 3
    with server.bus as bus, observe_crackerjack(bus):
        bus.subscribe(server.events.append, Event)
        async with anyio.create_task_group() as tasks:
            for job, agent in (("j1", "a"), ("j2", "b"), ("j3", None)):
                tasks.start_soon(server.execute, job, "", {"eventbus_session_id": agent, "skip_hooks": True})
    runs = [event for event in server.events if isinstance(event, WorkflowEvent)]
    assert {(event.session_id, event.run_id, event.metadata["job_id"]) for event in runs} == {
        (job, f"run of {job}", job) for job in ("j1", "j2", "j3")
    }
    correlation = Correlation()
    correlation.add_all(server.events)
    found = correlation.sessions()
    assert set(found) == {"a", "b", "j3"}
    assert all((each.workflows, each.workflow_nodes_completed) == (1, 1) for each in found.values())
    assert {record["metadata"]["job_id"] for record in found["a"].workflow_events} == {"j1"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "kwargs", [None, "text", {}, {"eventbus_session_id": 1}, {"eventbus_session_id": ""}]
)
async def test_a_job_without_an_agents_session_is_not_linked(server: _Server, kwargs: Any) -> None:
    """What is passed instead of one is ignored."""
    with server.bus as bus, observe_crackerjack(bus):
        bus.subscribe(server.events.append, Event)
        await server.execute("j1", "", kwargs)
    assert not [event for event in server.events if isinstance(event, SessionLinked)]
    assert len([event for event in server.events if isinstance(event, NodeEvent)]) == 3


@pytest.mark.anyio
async def test_a_job_that_raises(server: _Server) -> None:
    """The server sees its own exception; the session that it had before is back."""
    with server.bus as bus, observe_crackerjack(bus), pytest.raises(LookupError, match="j1"):
        await server.execute("j1", "raise")
    assert current_session_id() is None


@pytest.mark.anyio
async def test_after_the_block_a_job_is_as_before(server: _Server) -> None:
    """Its runs have no job id, and the function is crackerjack's own."""
    own = vars(server.module)["_execute_crackerjack_sync"]
    with server.bus as bus:
        bus.subscribe(server.events.append, WorkflowEvent)
        with observe_crackerjack(bus):
            late = vars(server.module)["_execute_crackerjack_sync"]
        assert vars(server.module)["_execute_crackerjack_sync"] is own
        assert await late("j1", "", {"eventbus_session_id": "a"}, None) == "j1"
    assert {event.session_id for event in server.events} == {None}


def test_an_unknown_server_is_not_changed(server: _Server, caplog: pytest.LogCaptureFixture) -> None:
    """One warning is logged."""

    async def _execute_crackerjack_sync(job: object) -> None: ...

    vars(server.module)["_execute_crackerjack_sync"] = _execute_crackerjack_sync
    with caplog.at_level(logging.WARNING, "eventbus"), observe_crackerjack(server.bus):
        assert vars(server.module)["_execute_crackerjack_sync"] is _execute_crackerjack_sync
    (record,) = caplog.records
    assert f"{MODULE}._execute_crackerjack_sync is not observed" in record.getMessage()
