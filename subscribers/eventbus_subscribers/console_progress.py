"""ConsoleProgress: show progress on a terminal or in the log of a CI run.

Lines are only appended, each in one write. Blocking work is done in a thread of its own, which also
writes the heartbeat while no events arrive or the loop is blocked.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, get_args

from eventbus import Event, EventTypes, OwnThread, ProgressMode, Subscriber, log_directory, scrubbed_line
from eventbus_subscribers.plain_progress import PlainProgress

if TYPE_CHECKING:
    from eventbus import EventBus

__all__ = ["ConsoleProgress", "choose_mode"]

MODE_VARIABLE = "EVENTBUS_PROGRESS"
"""The environment variable that sets the mode, unless the program sets it."""

MAX_LINE = 4_000
"""Longer lines are cut: beyond 4,096 bytes a write may block though the pipe was reported writable."""

_MIN_COLUMNS = 20
_STALL_SECONDS = 0.5
_NOT_PRINTABLE_ASCII = re.compile(r"[^ -~]")


def choose_mode(
    flag: str | None, environ: Mapping[str, str], is_terminal: bool, columns: int
) -> ProgressMode:
    """Return the mode in which to show progress; pure.

    Args:
        flag: The mode the program or its user asked for; None or ``"auto"`` for the default.
        environ: The environment: ``EVENTBUS_PROGRESS``, ``CI`` and ``TERM`` matter, in this order. An
            unknown mode in the first counts as unset.
        is_terminal: Whether the stream is a terminal.
        columns: The width of the terminal.

    Returns:
        Any mode except ``"auto"``.

    Raises:
        ValueError: `flag` is not a mode.
    """
    modes: dict[str, ProgressMode] = {mode: mode for mode in get_args(ProgressMode)}
    if flag is not None and flag not in modes:
        raise ValueError(f"mode={flag!r} is not a mode. Pass one of {', '.join(modes)}")
    for asked in (flag, environ.get(MODE_VARIABLE)):
        if asked is not None and modes.get(asked, "auto") != "auto":
            return modes[asked]
    is_dumb = bool(environ.get("CI")) or environ.get("TERM") == "dumb"
    return "plain" if is_dumb or not is_terminal or columns < _MIN_COLUMNS else "tty"


class ConsoleProgress(Subscriber[Event]):
    """Shows the progress of skills and workflows, one line per change.

    Args:
        stream: The stream to write to. None is `sys.stderr`, looked up for each line, because programs
            replace it.
        mode: The mode; see `choose_mode`.
        heartbeat: A node that has been running for this many seconds without a line gets one; 0: never.
        clock: Returns the time in seconds, and never runs backwards.
        directory: The directory of the log that the header names; by default `eventbus.log_directory()`.

    Attributes:
        unwritten: Lines that could not be written, because the stream was closed, broken or stalled.

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
    ) -> None:
        choose_mode(mode, {}, is_terminal=False, columns=0)
        self._given_stream = stream
        self._given_mode: ProgressMode = mode
        self._given_directory = directory
        self._heartbeat = heartbeat
        self._clock = clock
        self._mode: ProgressMode = mode
        self._progress = PlainProgress("")
        self._thread = OwnThread("eventbus-console-progress", idle=self._work_when_idle)
        self._is_broken = False
        self._is_stalled = False
        self.unwritten: int = 0

    async def start(self, bus: EventBus) -> None:  # noqa: ARG002
        """Choose the mode, and begin a new screen.

        Args:
            bus: The bus.
        """
        stream = self._stream()
        is_terminal = bool(stream is not None and _or_none(stream.isatty))
        self._mode = choose_mode(
            self._given_mode, os.environ, is_terminal, shutil.get_terminal_size().columns
        )
        directory = os.fspath(log_directory(self._given_directory))
        self._progress = PlainProgress(directory, quiet=self._mode == "quiet", heartbeat=self._heartbeat)

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Show a line for each change.

        Args:
            events: At least one, in the bus's order.
        """
        await self._thread.run(self._show_all, events)

    async def stop(self) -> None:
        """End the thread, and with it the heartbeat."""
        self._thread.end()

    # In the thread.

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
        return [_json_line(event)] if self._mode == "json" else self._progress.lines(event, self._clock())

    def _write_heartbeat(self) -> None:
        self._write_lines(self._progress.heartbeat_lines(self._clock()))  # none in mode "json"

    def _work_when_idle(self) -> float | None:
        """Write the heartbeat if it is due; return after how many seconds to be called again."""
        seconds = self._progress.seconds_to_heartbeat(self._clock())
        if seconds is None or seconds > 0.0:  # as after each batch, which writes a due heartbeat itself
            return seconds
        self._write_heartbeat()
        return self._progress.seconds_to_heartbeat(self._clock())

    def _write_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            stream = self._stream()
            if stream is None or self._is_broken or not self._is_writable(stream):
                self.unwritten += 1
            else:
                self._write(stream, line if self._mode == "json" else line[:MAX_LINE])

    def _write(self, stream: TextIO, line: str) -> None:
        try:
            try:
                stream.write(line + "\n")
            except UnicodeEncodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
            stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self.unwritten += 1
            # `sys.stderr` may be replaced by a stream that works.
            self._is_broken = self._given_stream is not None

    def _stream(self) -> TextIO | None:
        return sys.stderr if self._given_stream is None else self._given_stream

    def _is_writable(self, stream: TextIO) -> bool:
        """Return True if a line can be written without blocking, now or soon.

        A thread that hangs in a write holds the stream's lock, which the interpreter needs at exit: it
        would abort. So nothing is written to a full pipe.
        """
        descriptor = _or_none(stream.fileno)
        if descriptor is None or not hasattr(select, "poll"):
            return True
        poll = select.poll()
        try:
            poll.register(descriptor, select.POLLOUT)
            ready = poll.poll(0 if self._is_stalled else _STALL_SECONDS * 1_000)
        except (OSError, ValueError, OverflowError, TypeError):
            return True  # it cannot be polled; writing shows whether it works
        self._is_stalled = not ready
        return bool(ready)


def _or_none(method: Callable[[], int]) -> int | None:
    try:
        return method()
    except (AttributeError, OSError, ValueError):  # the stream has no file, or is closed
        return None


def _json_line(event: Event) -> str:
    """Return an event as one line of printable ASCII: JSON leaves some control characters unescaped."""
    return _NOT_PRINTABLE_ASCII.sub(_json_escape, scrubbed_line(event).decode())


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join([f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)])
