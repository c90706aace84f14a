"""ConsoleProgress: show progress on a terminal, in a pipe or in the log of a CI run.

On a terminal the running nodes are drawn again and again below what has ended; everywhere else lines are
only appended, each in one write. Blocking work is done in a thread of its own, which also draws, or writes
the heartbeat, while no events arrive or the loop is blocked.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from eventbus import (
    Event,
    EventTypes,
    OwnThread,
    ProgressMode,
    Subscriber,
    __distribution__,
    choose_mode,
    log_directory,
    scrubbed_line,
)
from eventbus_subscribers.live_state import LiveState
from eventbus_subscribers.plain_progress import PlainProgress
from eventbus_subscribers.progress_stream import ProgressStream

if TYPE_CHECKING:
    from eventbus import EventBus
    from eventbus_subscribers.live_progress import LiveProgress

__all__ = ["ConsoleProgress", "choose_mode"]

MAX_LINE = 4_000
"""Longer lines are cut: beyond 4,096 bytes a write may block though the pipe was reported writable."""

_NOT_PRINTABLE_ASCII = re.compile(r"[^ -~]")


class ConsoleProgress(Subscriber[Event]):
    """Shows the progress of skills and workflows.

    Do not show it live (mode ``tty``) on a terminal that somebody else writes to, such as a child process:
    what is written between two frames is overwritten. Warnings of eventbus itself are shown in the view.

    Args:
        stream: The stream to write to. None is `sys.stderr`, looked up for each line, because programs
            replace it.
        mode: The mode; see `choose_mode`.
        heartbeat: Without a live view, a node that has been running for this many seconds without a line
            gets one; 0: never.
        clock: Returns the time in seconds, and never runs backwards.
        directory: The directory of the log that the header names; by default `eventbus.log_directory()`.
        usual: Returns how many seconds a node usually takes, given the names of its workflow and of itself;
            None if that is not known. Called once for each node that runs, in the subscriber's own thread.

    Raises:
        ValueError: `mode` is not a mode.
    """

    events: EventTypes = Event
    max_batch: int = 256
    name: str | None = "console_progress"

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        mode: ProgressMode = "auto",
        heartbeat: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        directory: str | os.PathLike[str] | None = None,
        usual: Callable[[str, str], float | None] | None = None,
    ) -> None:
        choose_mode(None if mode == "tty" else mode, {}, is_terminal=False, columns=0)
        self.usual = usual
        self._given_mode: ProgressMode = mode
        self._given_directory = directory
        self._heartbeat = heartbeat
        self._clock = clock
        self._mode: ProgressMode = mode
        self._stream = ProgressStream(stream)
        self._plain = PlainProgress("")
        self._live: LiveProgress | None = None
        self._thread = OwnThread("eventbus-console-progress", idle=self._work_when_idle)

    @property
    def unwritten(self) -> int:
        """How many lines could not be written, because the stream was closed, broken or stalled."""
        return self._stream.unwritten

    async def start(self, bus: EventBus) -> None:  # noqa: ARG002
        """Choose the mode, and begin a new screen.

        Args:
            bus: The bus.

        Raises:
            ValueError: The mode ``tty`` was asked for by name, and cannot be had.
        """
        self._mode = self._chosen_mode()
        directory = os.fspath(log_directory(self._given_directory))
        if self._mode == "tty":
            await self._thread.run(self._begin_live, directory)
            return
        self._plain = PlainProgress(
            directory,
            quiet=self._mode == "quiet",
            heartbeat=self._heartbeat,
            github=os.environ.get("GITHUB_ACTIONS") == "true",
        )

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Show what they changed.

        Args:
            events: At least one, in the bus's order.
        """
        if self._live is None:
            await self._thread.run(self._show_all, events)
        elif self._live.offer(events):
            await self._thread.run(self._live.draw)

    async def stop(self) -> None:
        """Show the summary, and end the thread."""
        try:
            await self._thread.run(self._end)
        finally:
            self._thread.end()

    def _chosen_mode(self) -> ProgressMode:
        columns, _ = self._stream.size()
        mode = choose_mode(self._given_mode, os.environ, self._stream.is_terminal(), columns)
        if mode != "tty" or importlib.util.find_spec("rich") is not None:
            return mode
        if "tty" in (self._given_mode, os.environ.get("EVENTBUS_PROGRESS")):
            install = f"pip install '{__distribution__}[cli]'"
            raise ValueError(f"progress cannot be shown as tty: rich is not installed. Type: {install}")
        return "plain"

    # In the thread.

    def _begin_live(self, directory: str) -> None:
        # Not imported before: it needs rich, which a program without a terminal need not have.
        from eventbus_subscribers.live_progress import LiveProgress  # noqa: PLC0415

        self._live = LiveProgress(self._stream, LiveState(directory, self.usual), self._clock)

    def _end(self) -> None:
        if self._live is not None:
            self._live.end()
            self._live = None
        elif self._mode != "json":
            for line in self._plain.last_lines(self._clock(), self.unwritten):
                self._stream.write(f"{line}\n", 0)

    def _show_all(self, events: Sequence[Event]) -> None:
        """Show all events, even if one fails, then raise the first error."""
        errors: list[Exception] = []
        for event in events:
            try:
                self._write_lines(self._lines(event))
            except Exception as error:  # noqa: BLE001 - fields of wrong types; the bus reports it
                errors.append(error)
        self._write_heartbeat()
        if errors:
            raise errors[0]

    def _lines(self, event: Event) -> list[str]:
        return [_json_line(event)] if self._mode == "json" else self._plain.lines(event, self._clock())

    def _write_heartbeat(self) -> None:
        self._write_lines(self._plain.heartbeat_lines(self._clock()))  # none in mode "json"

    def _work_when_idle(self) -> float | None:
        """Draw, or write the heartbeat, if it is due; return after how many seconds to be called again."""
        if self._live is not None:
            return self._live.work_when_idle()
        seconds = self._plain.seconds_to_heartbeat(self._clock())
        if seconds is None or seconds > 0.0:  # as after each batch, which writes a due heartbeat itself
            return seconds
        self._write_heartbeat()
        return self._plain.seconds_to_heartbeat(self._clock())

    def _write_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._stream.write((line if self._mode == "json" else line[:MAX_LINE]) + "\n")


def _json_line(event: Event) -> str:
    """Return an event as one line of printable ASCII: JSON leaves some control characters unescaped."""
    return _NOT_PRINTABLE_ASCII.sub(_json_escape, scrubbed_line(event).decode())


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join([f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)])
