"""What watching costs beside a busy run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_watch import Terminal
from tests.vocabulary import TooSlowError, attempts

BUSY = """
import sys, time
from eventbus import EventBus
from eventbus.events import NodeProgress, NodeStarted, WorkflowStarted
from eventbus_subscribers import JsonPersister

run = {"session_id": "s1", "workflow_id": "ci", "run_id": "r"}
with EventBus([JsonPersister(sys.argv[1])]) as bus:
    bus.publish(WorkflowStarted(**run))
    for node in "abcd":
        bus.publish(NodeStarted(**run, node_id=node))
    began, n = time.monotonic(), 0
    while True:
        while n < (time.monotonic() - began) * 1_000:
            bus.publish(NodeProgress(**run, node_id="abcd"[n % 4], completed=n // 4, total=1e6))
            n += 1
        time.sleep(0.01)
"""


def processor_seconds(pid: int) -> float:
    """Return the processor time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@pytest.mark.nightly
@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="SKIPPED: only Linux has schedstat")
def test_watching_a_thousand_events_a_second_is_cheap(tmp_path: Path) -> None:
    """Watching 1,000 events a second on a terminal takes 2 % of a core; twice that on a busy machine."""
    writer = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)])
    try:
        while not list(tmp_path.glob("events/*.jsonl")):
            time.sleep(0.05)
        terminal = Terminal("watch", "--dir", tmp_path, "s1", columns=120, rows=40)
        terminal.until("▸")
        for attempt in attempts():
            with attempt:
                before, began = processor_seconds(terminal.pid), time.monotonic()
                while time.monotonic() < began + 3:
                    terminal.read()
                share = (processor_seconds(terminal.pid) - before) / (time.monotonic() - began)
                if share > 0.04:
                    raise TooSlowError(f"watching took {share:.1%} of a core")
        terminal.write(b"q")
        assert terminal.ended() == 130
    finally:
        writer.kill()
        writer.wait()
