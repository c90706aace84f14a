"""What a real terminal shows: a command that writes beside eventbus, and a window that becomes narrower."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="SKIPPED: tmux is not installed"),
    pytest.mark.alone,
]

PATIENCE_SECONDS = 20

LIVE = """
import sys, time
from eventbus import EventBus, NodeCompleted, NodeProgress, NodeStarted, WorkflowCompleted, WorkflowStarted
from eventbus_subscribers import ConsoleProgress
nodes = ["comprehensive_hooks", "unit_tests_of_everything", "publishing_to_the_index"]
run = {"workflow_id": "a_workflow_with_a_long_name", "run_id": "r", "session_id": "s"}
with EventBus([ConsoleProgress(directory="d")]) as bus:
    bus.publish(WorkflowStarted(nodes=("configuration", *nodes), **run))
    bus.publish(NodeCompleted(node_id="configuration", duration_seconds=0.1, **run))
    for node in nodes:
        bus.publish(NodeStarted(node_id=node, **run))
        bus.publish(NodeProgress(node_id=node, completed=3, total=10, message="a step of it " * 3, **run))
    open(sys.argv[1]).readline()  # a named pipe
    for node in nodes:
        bus.publish(NodeCompleted(node_id=node, duration_seconds=2.0, **run))
    bus.publish(WorkflowCompleted(duration_seconds=2.5, **run))
"""


class Tmux:
    """A terminal of its own tmux server."""

    def __init__(self, directory: Path, columns: int, rows: int) -> None:
        self._socket = str(directory / "tmux")
        self._directory = directory
        shell = ["sh", "-c", "PS1='$ ' exec sh"]
        self._do("new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(directory), *shell)

    def run(self, *words: str) -> None:
        """Type a command."""
        self._do("send-keys", "-l", shlex.join(words))
        self._do("send-keys", "Enter")

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal."""
        self._do("resize-window", "-x", str(columns), "-y", str(rows))

    def lines(self) -> list[str]:
        """Return the rows of the scrollback and of the screen."""
        shown = self._do("capture-pane", "-p", "-S", "-").splitlines()
        return [line.rstrip() for line in shown if line.strip()]

    def wait_for(self, text: str, count: int = 1) -> list[str]:
        """Wait until a text is on the screen some times; return the rows."""
        end = time.monotonic() + PATIENCE_SECONDS
        while "\n".join(lines := self.lines()).count(text) < count:
            assert time.monotonic() < end, "\n".join(lines)
            time.sleep(0.02)  # no event reports it
        return lines

    def close(self) -> None:
        """End the server, and all that runs in it."""
        self._do("kill-server")

    def _do(self, *words: str) -> str:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
        for name in ("CI", "EVENTBUS_PROGRESS", "COLUMNS", "LINES", "TMUX"):
            environment.pop(name, None)
        command = ["tmux", "-u", "-S", self._socket, "-f", os.devnull, *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        ).stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Tmux]:
    """Return a terminal of 78 columns."""
    made = Tmux(tmp_path, 78, 24)
    yield made
    made.close()


def test_all_that_a_child_writes_stays_on_the_terminal(terminal: Tmux) -> None:
    """Each line that a command under `eventbus run` writes is on the terminal, and the block follows."""
    script = "for n in 1 2 3 4; do echo line-$((n * 111)); sleep 0.05; done; exit 3"
    terminal.run(sys.executable, "-m", "eventbus", "run", "--", "sh", "-c", script)
    lines = terminal.wait_for("next:")
    assert [line for line in lines if line.startswith("line-")] == [f"line-{n}" for n in (111, 222, 333, 444)]
    assert any(line.startswith("✗ sh failed after") for line in lines)


def test_narrowing_leaves_no_torn_rows(terminal: Tmux, tmp_path: Path) -> None:
    """From 78 columns to 40 while nodes run: no row of the region is left over, and what has ended stays."""
    program = tmp_path / "live.py"
    program.write_text(LIVE)
    go = tmp_path / "go"
    os.mkfifo(go)
    pipe = os.open(go, os.O_RDWR)  # which waits for no reader
    terminal.run(sys.executable, str(program), str(go))
    terminal.wait_for("a step of it", 3)
    terminal.resize(40, 24)
    terminal.wait_for("▸ a_workflow")
    time.sleep(0.3)  # for some frames at the new width
    os.write(pipe, b"\n")
    lines = terminal.wait_for("succeeded in")
    os.close(pipe)
    after = lines[next(i for i, line in enumerate(lines) if "✓ configuration" in line) :]
    assert [line for line in after if "⠋" in line or "▸" in line or "a step" in line] == []
    assert [line.strip() for line in after[:4]] == [
        "0.1s  ✓ configuration",
        "2.0s  ✓ comprehensive_hooks",
        "2.0s  ✓ unit_tests_of_everything",
        "2.0s  ✓ publishing_to_the_index",
    ]
