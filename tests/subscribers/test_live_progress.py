"""ConsoleProgress on a terminal: it draws in time, costs little, and leaves the terminal as it found it."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eventbus_subscribers.console_progress import ConsoleProgress

from eventbus import (
    Event,
    EventBus,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from tests.subscribers.terminals import Screen, TerminalStream, open_terminal
from tests.vocabulary import TooSlowError, attempts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")

START: list[Event] = [
    WorkflowStarted(workflow_id="w", run_id="r", nodes=("a", "b")),
    NodeStarted(workflow_id="w", run_id="r", node_id="a"),
]
FAILED = NodeCompleted(workflow_id="w", run_id="r", node_id="a", success=False, error_type="ValueError")
END = WorkflowCompleted(workflow_id="w", run_id="r", success=False, duration_seconds=2.0)


@pytest.fixture(autouse=True)
def _a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "EVENTBUS_PROGRESS", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


class Terminal:
    """A real pseudo terminal, whose output is emulated as it comes."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.leader, self.stream = open_terminal(columns, rows)
        self.screen = Screen(columns, rows)
        self.times: list[tuple[float, str]] = []
        self._has_changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                text = os.read(self.leader, 65_536).decode()
            except OSError:  # the other side is closed
                return
            with self._has_changed:
                self.times.append((time.perf_counter(), text))
                self.screen.feed(text)
                self._has_changed.notify_all()

    def wait_for(self, text: str) -> float:
        """Wait until a text is on the screen; return when it came."""
        with self._has_changed:
            assert self._has_changed.wait_for(lambda: text in "\n".join(self.screen.lines()), 10), text
            return next(when for when, part in reversed(self.times) if text in part)

    def close(self) -> list[str]:
        """Close it; return what was on it."""
        self.stream.close()
        self._thread.join(10)
        os.close(self.leader)
        return self.screen.lines()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Return a terminal that is closed after the test."""
    made = Terminal()
    yield made
    if not made.stream.closed:
        made.close()


@pytest.mark.alone
def test_the_first_row_is_on_the_screen_within_200_ms() -> None:
    """The first row is on the screen within 200 ms of the first event, and each other within 150 ms."""
    for attempt in attempts():
        terminal = Terminal()
        with EventBus([ConsoleProgress(terminal.stream)]) as bus:
            took: list[float] = []
            for number, event in enumerate([START[0], *(_started(f"node-{i}") for i in range(5))]):
                began = time.perf_counter()
                bus.publish(event)
                text = "▸ w" if number == 0 else f"node-{number - 1}"
                took.append(terminal.wait_for(text) - began)
        terminal.close()
        with attempt:
            if took[0] > 0.2 or max(took[1:]) > 0.15:
                raise TooSlowError(f"rows took {took}")


def _started(name: str) -> NodeStarted:
    return NodeStarted(workflow_id="w", run_id="r", node_id=name)


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="needs the time of a thread")
def test_a_thousand_events_a_second_cost_little(terminal: Terminal) -> None:
    """Its thread takes about a fiftieth of a core for 1,000 events a second; 5 % here."""
    with EventBus([ConsoleProgress(terminal.stream)]) as bus:
        for event in START:
            bus.publish(event)
        terminal.wait_for("a")
        *_, thread = [each for each in threading.enumerate() if each.name == "eventbus-console-progress"]
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        before, began = time.clock_gettime(clock), time.perf_counter()
        for number in range(500):
            bus.publish(NodeProgress(workflow_id="w", run_id="r", node_id="a", completed=number, total=500))
            time.sleep(max(0.0, began + number / 1_000 - time.perf_counter()))
        share = (time.clock_gettime(clock) - before) / (time.perf_counter() - began)
        bus.publish(END)
    terminal.close()
    assert share < 0.05


def _interrupt() -> None:
    raise KeyboardInterrupt


def _fail() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("leave", [None, _interrupt, _fail], ids=["well", "Ctrl-C", "an exception"])
def test_the_terminal_is_left_as_it_was_found(terminal: Terminal, leave: Callable[[], None] | None) -> None:
    """However the program ends: the cursor is shown, no row is half, the summary is last, losses are told."""
    try:
        with EventBus([ConsoleProgress(terminal.stream, directory="d")]) as bus:
            for event in (*START, FAILED):
                bus.publish(event)
            if leave is not None:
                leave()
            bus.publish(END)
    except (KeyboardInterrupt, ZeroDivisionError):
        pass
    lines = terminal.close()
    assert terminal.screen.is_as_found()
    verdict = "▸ w open after" if leave is not None else "✗ w failed after 2.0s"
    assert lines[-2].startswith(verdict)
    assert lines[-2].endswith("0 lost")
    assert [line.strip() for line in (lines[1], lines[-1])] == ["✗ a  ValueError"] * 2
    assert not [line for line in lines if "⠋" in line]


def test_a_terminal_that_went_away_harms_nothing() -> None:
    """Where the terminal is closed while it is drawn, the bus goes on, closes in time, counting rows."""
    leader, stream = open_terminal(80, 24)
    received: list[Event] = []
    console = ConsoleProgress(stream)
    with EventBus([console]) as bus:
        bus.subscribe(received.append)
        bus.publish(START[0])
        os.read(leader, 1)
        os.close(leader)
        for event in (*START[1:], FAILED, END):
            bus.publish(event)
        report = bus.close(2)
    assert report.complete
    assert report.subscriptions["console_progress"].failed == 0
    assert [event for event in received if isinstance(event, NodeCompleted | WorkflowCompleted)] == [
        FAILED,
        END,
    ]
    assert console.unwritten > 0
    stream.close()


def test_a_terminal_that_takes_nothing_blocks_nobody() -> None:
    """A terminal stopped with Ctrl-S holds up no publisher, nor the close."""
    leader, stream = open_terminal(80, 24)
    console = ConsoleProgress(stream)
    with EventBus([console]) as bus:
        for number in range(2_000):
            bus.publish(NodeCompleted(workflow_id="w", run_id="r", node_id=f"{number}-{'x' * 60}"))
        report = bus.close(4)
    assert report.complete
    assert console.unwritten > 0
    stream.close()
    os.close(leader)


def test_each_frame_is_one_write(terminal: Terminal) -> None:
    """A frame is one write, which shows the cursor again, and there are at most ten in a second."""
    stream = TerminalStream()
    times = iter(range(1_000_000))
    with EventBus([ConsoleProgress(stream, mode="tty", clock=lambda: next(times) / 1_000)]) as bus:
        for event in START:
            bus.publish(event)
        for number in range(200):
            bus.publish(NodeProgress(workflow_id="w", run_id="r", node_id="a", completed=number))
        bus.publish(END)
    assert all(frame.startswith("\x1b[?25l\x1b[?7l") for frame in stream.frames)
    assert all(frame.endswith("\x1b[?7h\x1b[?25h") for frame in stream.frames)
    assert len(stream.frames) < next(times) / 100 + 3


def test_what_eventbus_logs_is_a_row(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that cannot be written is shown as a row and again at the end, and not across the region."""
    monkeypatch.setattr(logging.getLogger("eventbus"), "propagate", False)  # pytest handles what is logged
    with EventBus([ConsoleProgress(terminal.stream)]) as bus:
        for event in START:
            bus.publish(event)
        terminal.wait_for("▸ w")
        logging.getLogger("eventbus.persister").warning(
            "the event log in %s cannot be written: disk full", "/x"
        )
        terminal.wait_for("warn   the event log in /x cannot be written: disk full")
        bus.publish(END)
    lines = terminal.close()
    assert lines[-1].strip() == "warn   the event log in /x cannot be written: disk full"
    assert not logging.getLogger("eventbus").handlers


def test_what_a_program_handles_itself_is_left_to_it(terminal: Terminal) -> None:
    """Where a program has logging of its own, warnings go there and nowhere else."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("eventbus")
    logger.addHandler(handler)
    try:
        with EventBus([ConsoleProgress(terminal.stream)]) as bus:
            bus.publish(START[0])
            terminal.wait_for("▸ w")
            logger.warning("mine")
    finally:
        logger.removeHandler(handler)
    assert "mine" in stream.getvalue()
    assert "mine" not in "\n".join(terminal.close())


def test_an_event_with_wrong_fields_does_not_stop_the_drawing(terminal: Terminal) -> None:
    """An event that cannot be folded is reported as a failure of the subscriber; the others are shown."""
    bad: Any = 3
    with EventBus([ConsoleProgress(terminal.stream)]) as bus:
        bus.publish(WorkflowStarted(workflow_id="w", run_id="bad", nodes=bad))
        for event in (*START, FAILED, END):
            bus.publish(event)
        bus.publish(EventsLost(count=bad, first_seq=1, last_seq=2))
    assert "failed after 2.0s" in "\n".join(terminal.close())
