"""Fixtures for the tests of the log: segments written byte by byte, and processes that write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from eventbus import Event
from tests.history.log_examples import START, Segments, Writers, header, segment_path, stored


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
        tmp_path.chmod(0o700)
        path = segment_path(tmp_path, bus_id, pid, start)
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
    """Start a process that persists events in the log at `tmp_path`, and ends after a line feed."""
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
