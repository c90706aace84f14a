"""Events of other hosts: marked as remote, and written to no log."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventbus_subscribers import JsonPersister, LiveCorrelator

from eventbus import (
    EventBus,
    NodeStarted,
    SessionCorrelated,
    SkillStarted,
    WorkflowStarted,
    encode,
    is_new_here,
    is_remote,
    mark_as_remote,
)
from eventbus.events.provenance import mark_read_from
from eventbus.history import EventLog
from tests.vocabulary import Tick


def test_marks() -> None:
    """A marked event is equal to what it was and encodes to the same bytes; only the mark differs."""
    here, read, remote = (Tick(n=1, metadata={"a": 1}) for _ in range(3))
    mark_read_from(read, "/a/log")
    assert mark_as_remote(remote) is remote
    assert [is_new_here(each) for each in (here, read, remote)] == [True, False, False]
    assert [is_remote(each) for each in (here, read, remote)] == [False, False, True]
    copied = Tick(n=1, metadata={"a": 1}, timestamp=remote.timestamp)
    assert remote == copied
    assert encode(remote) == encode(copied)


@pytest.mark.anyio
async def test_remote_events_are_written_to_no_log(tmp_path: Path) -> None:
    """A persister writes no remote event, whatever its log, and no finding that a remote event led to."""
    seen: list[SessionCorrelated] = []
    bus = EventBus([JsonPersister(tmp_path), LiveCorrelator()])
    bus.subscribe(seen.append, SessionCorrelated)
    async with bus:
        for n in range(10):
            bus.publish(mark_as_remote(SkillStarted(session_id=f"s{n}", skill_name="release")))
            bus.publish(mark_as_remote(WorkflowStarted(session_id=f"s{n}", workflow_id="ci")))
        await bus.drain()
    assert len(seen) == 10
    assert all(map(is_remote, seen))
    assert list(EventLog(tmp_path)) == []


@pytest.mark.anyio
async def test_own_events_of_a_remote_session_are_written(tmp_path: Path) -> None:
    """An event that happens here is written, and so is the finding that it leads to with a remote one."""
    with EventBus([JsonPersister(tmp_path), LiveCorrelator()]) as bus:
        bus.publish(mark_as_remote(SkillStarted(session_id="s", skill_name="release")))
        bus.publish(WorkflowStarted(session_id="s", workflow_id="ci"))
        bus.publish(NodeStarted(session_id="s", workflow_id="ci", node_id="a"))
    assert [type(event) for event in EventLog(tmp_path)] == [WorkflowStarted, NodeStarted, SessionCorrelated]
