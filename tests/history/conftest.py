"""Logs to read: segments made byte by byte, and real processes that write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from eventbus import Event, encode

Segments: TypeAlias = "Callable[..., Path]"
Writers: TypeAlias = "Callable[..., subprocess.Popen[str]]"

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def stored(seq: int, event: Event) -> bytes:
    """Return a record's line, as the persister writes it."""
    return b'{"seq":%d,%b\n' % (seq, encode(event)[1:])


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


@pytest.fixture
def segment(tmp_path: Path) -> Segments:
    """Write a segment into the log at `tmp_path` and return its path."""

    def write(
        content: bytes | Iterable[Event] = b"",
        *,
        bus_id: str = "b0",
        pid: int = 1,
        start: datetime = START,
        first_seq: int = 1,
        with_header: bool = True,
    ) -> Path:
        events = tmp_path / "events"
        tmp_path.chmod(0o700)
        events.mkdir(mode=0o700, exist_ok=True)
        path = events / f"{start:%Y%m%dT%H%M%S.%fZ}-{pid}-{bus_id}.jsonl"
        if not isinstance(content, bytes):
            content = b"".join(stored(seq, event) for seq, event in enumerate(content, first_seq))
        path.write_bytes((header(bus_id, pid, first_seq) if with_header else b"") + content)
        path.chmod(0o600)
        return path

    return write


_WRITER = """
import sys, time
from eventbus import EventBus, NodeProgress
from eventbus_subscribers import JsonPersister
directory, name, count, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
with EventBus([JsonPersister(directory)]) as bus:
    print("ready", flush=True)
    for number in range(count):
        bus.publish(NodeProgress(workflow_id="w", node_id=name, attempt=number))
        time.sleep(pause)
    sys.stdin.readline()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writers]:
    """Start a process that publishes events onto a bus with a persister, and ends at a line feed."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, count: int = 100, pause: float = 0.0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), name, str(count), str(pause)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
