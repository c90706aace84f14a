"""Events, lines, segments and files for the tests of the log."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from hypothesis import settings

from eventbus import Event, NodeProgress, encode
from eventbus.events import WorkflowEvent
from eventbus.events.records import SkillInvocation
from eventbus.ground.atomic_file import write_atomically
from eventbus.history.legacy_formats import skill_metrics_parts, workflow_events_parts

Segments: TypeAlias = "Callable[..., Path]"
"""Writes a segment; see the fixture `segment`."""
Writers: TypeAlias = "Callable[..., subprocess.Popen[str]]"
"""Starts a process that persists events; see the fixture `writer`."""

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

fewer_examples = settings(max_examples=settings().max_examples // 4, deadline=None)
"""A quarter of the profile's examples, for tests that write files."""


def progress(number: int = 1, name: str = "n", **fields: Any) -> NodeProgress:
    """Return event `number` of a node, that many seconds after START."""
    given: dict[str, Any] = {"session_id": "s", "timestamp": START + timedelta(seconds=number)} | fields
    return NodeProgress(workflow_id="w", node_id=name, attempt=number, **given)


def stored(seq: int, event: Event | None = None) -> bytes:
    """Return a record's line, as the persister writes it; by default of `progress(seq)`."""
    return b'{"seq":%d,%b\n' % (seq, encode(event or progress(seq))[1:])


def header(bus_id: str = "b0", pid: int = 1, first_seq: int = 1, **fields: Any) -> bytes:
    """Return a segment's first line."""
    known: dict[str, Any] = {
        "event_type": "segment_started",
        "session_id": None,
        "timestamp": START,
        "metadata": {},
        "schema_version": 1,
        "bus_id": bus_id,
        "pid": pid,
        "first_seq": first_seq,
        "utc_offset_seconds": 0,
    }
    return msgspec.json.encode(known | fields) + b"\n"


def segment_path(directory: Path, bus_id: str = "b0", pid: int = 1, start: datetime = START) -> Path:
    """Return the path of a segment in a log, whose directories are made."""
    (directory / "events").mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory / "events" / f"{start:%Y%m%dT%H%M%S.%fZ}-{pid}-{bus_id}.jsonl"


def append(path: Path, *content: bytes) -> None:
    """Append bytes to a file."""
    with path.open("ab") as file:
        file.write(b"".join(content))


def write_skill_metrics(path: Path, invocations: Iterable[SkillInvocation]) -> None:
    """Write a ``skill_metrics.json``."""
    write_atomically(path, skill_metrics_parts(invocations))


def write_workflow_events(path: Path, events: Iterable[WorkflowEvent | dict[str, Any]]) -> None:
    """Write a ``workflow_events.json``."""
    write_atomically(path, workflow_events_parts(events))
