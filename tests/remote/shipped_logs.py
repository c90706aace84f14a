"""Logs to ship, and what a stream must contain of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from eventbus_subscribers import JsonPersister

from eventbus import Event, EventBus, EventsLost, NodeStarted, SessionLinked, SkillEvent, WorkflowEvent
from eventbus.history import EventLog
from eventbus.remote.forwarder import Forwarder
from eventbus.remote.remote_settings import RemoteSettings
from eventbus.remote.wire import RecordId, line_of
from tests.remote.nats_server import NatsServer, Stored
from tests.vocabulary import PATIENCE_SECONDS

SHIPPED = SkillEvent | WorkflowEvent | SessionLinked | EventsLost


def node(n: int, session: str | None = "s") -> Event:
    """Return event number n."""
    return NodeStarted(session_id=session, workflow_id="ci", node_id=str(n))


def write_log(directory: Path, count: int, first: int = 0) -> None:
    """Write events of one bus, in three sessions."""
    with EventBus([JsonPersister(directory)]) as bus:
        for n in range(first, first + count):
            bus.publish(node(n, f"s{n % 3}"))


def expected(directory: Path) -> dict[str, list[tuple[str, bytes]]]:
    """Return the ids and lines of the records to ship, in each writer's order."""
    found: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for record in EventLog(directory).records(types=SHIPPED):
        found[f"{record.bus_id}-{record.pid}"].append((str(RecordId.of(record)), record.line))
    return found


def found(stored: list[Stored]) -> dict[str, list[tuple[str, bytes]]]:
    """Return the ids and lines of the messages of a stream, in each writer's order."""
    found: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for each in stored:
        record = RecordId.parsed(each.id)
        found[f"{record.bus_id}-{record.pid}"].append((each.id, line_of(each.line, record.seq)))
    return found


def assert_shipped(server: NatsServer, *directories: Path) -> None:
    """Assert that a stream contains what logs do: nothing lost, nothing doubled, each writer's order kept."""
    wanted: dict[str, list[tuple[str, bytes]]] = {}
    for directory in directories:
        wanted |= expected(directory)
    stored = found(server.stored())
    assert _summary(stored) == _summary(wanted), f"{_summary(stored)} instead of {_summary(wanted)}"
    assert stored == wanted


def _summary(records: dict[str, list[tuple[str, bytes]]]) -> dict[str, str]:
    """Return the numbers of each writer's records, as runs without a gap."""
    return {writer: ", ".join(_runs([each for each, _ in found])) for writer, found in records.items()}


def _runs(ids: list[str]) -> list[str]:
    runs: list[list[int]] = []
    for seq in (RecordId.parsed(each).seq for each in ids):
        if runs and seq == runs[-1][1] + 1:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
    return [f"{first}-{last}" for first, last in runs]


def ship(directory: Path, settings: RemoteSettings) -> Forwarder:
    """Ship all of a log."""
    forwarder = Forwarder(directory, settings)
    forwarder.start()
    assert forwarder.finish(patience=PATIENCE_SECONDS)
    return forwarder


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
