"""A process that persists events in a log, and is killed in the middle of a write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

__all__ = ["RealWriter"]

# One process makes the writers by forking, in a fiftieth of the time that a new one takes to import all.
# A writer uses the streams of the process, which waits for its end meanwhile.
_SERVER = """
import os, signal, sys
from datetime import UTC, datetime
from types import SimpleNamespace
import anyio
from eventbus import NodeProgress
from eventbus_subscribers.json_persister import JsonPersister

really_write = os.write

async def persist(directory, bus_id):
    persister = JsonPersister(directory, keep_days=0, keep_bytes=0, segment_bytes=4_096)
    await persister.start(SimpleNamespace(id=bus_id))
    number = 0
    print("started", flush=True)  # before more is sent: the process that waits must not read it
    for count, cut in (map(int, line.split()) for line in iter(sys.stdin.readline, "")):
        if cut >= 0:
            os.write = lambda fd, data: die(fd, data[:cut])
        batch = [
            NodeProgress(workflow_id="w", node_id=bus_id, session_id=f"s{n % 2}")
            for n in range(number + 1, number + 1 + count)
        ]
        await persister.handle_batch(batch)
        if cut >= 0:
            die(0, b"")  # nothing could be written
        number += count
        print("written", flush=True)

def die(fd, data):
    if data:
        really_write(fd, data)
    os.kill(os.getpid(), signal.SIGKILL)

for line in iter(sys.stdin.readline, ""):
    pid = os.fork()
    if not pid:
        try:
            anyio.run(persist, *line.rstrip().rsplit(" ", 1))
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    print("dead", flush=True)
"""


class RealWriter:
    """Writers that persist events, one at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.is_alive: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self, directory: Path, bus_id: str) -> None:
        """Begin to persist on a bus."""
        assert self._ask(f"{directory} {bus_id}") == "started"
        self.is_alive = True

    def write(self, count: int) -> None:
        """Persist this many events."""
        assert self._ask(f"{count} -1") == "written"

    def be_killed(self, count: int, cut: int) -> None:
        """Persist this many events, and be killed after this many bytes of its next write."""
        assert self._ask(f"{count} {cut}") == "dead"
        self.is_alive = False

    def _ask(self, command: str) -> str:
        streams = self._process.stdin, self._process.stdout
        assert streams[0] is not None
        assert streams[1] is not None
        print(command, file=streams[0], flush=True)
        return streams[1].readline().rstrip()
