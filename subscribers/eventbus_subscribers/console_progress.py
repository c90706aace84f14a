"""ConsoleProgress: tell on the terminal, or in the log of a CI run, how work gets on.

Append-only: each line is written whole, in one call, and stays. What blocks is done in a thread of
its own, which also keeps the heartbeat while nothing happens, or while the loop is blocked.
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
"""The environment variable that says how, unless the program does."""

MAX_LINE = 4_000
"""Longer lines are cut: a pipe takes up to 4,096 bytes at once, or says beforehand that it would block."""

_MIN_COLUMNS = 20
_STALL_SECONDS = 0.5
_NOT_PRINTABLE_ASCII = re.compile(r"[^ -~]")


def choose_mode(
    flag: str | None, environ: Mapping[str, str], is_terminal: bool, columns: int
) -> ProgressMode:
    """Return how to show progress; pure.

    Args:
        flag: What the program or its user asked for; None or ``"auto"`` if nothing.
        environ: The environment: ``EVENTBUS_PROGRESS``, ``CI`` and ``TERM`` matter, in this order. A
            value of the first that is no mode counts as unset.
        is_terminal: Whether the stream is a terminal.
        columns: How wide it is.

    Returns:
        Any mode but ``"auto"``.

    Raises:
        ValueError: `flag` is no mode.
    """
    modes: dict[str, ProgressMode] = {mode: mode for mode in get_args(ProgressMode)}
    if flag is not None and flag not in modes:
        raise ValueError(f"mode={flag!r} is none of {', '.join(modes)}")
    for asked in (flag, environ.get(MODE_VARIABLE)):
        if asked is not None and modes.get(asked, "auto") != "auto":
            return modes[asked]
    is_dumb = bool(environ.get("CI")) or environ.get("TERM") == "dumb"
    return "plain" if is_dumb or not is_terminal or columns < _MIN_COLUMNS else "tty"


class ConsoleProgress(Subscriber[Event]):
    """Shows the progress of skills and workflows, one line per change.

    Args:
        stream: Where to. None is `sys.stderr`, looked up for each line: a program that replaces it
            meanwhile keeps its screen.
        mode: How; see `choose_mode`.
        heartbeat: A node that has been running for so many seconds without a line gets one; 0 for
            never.
        clock: Tells the time in seconds, and never runs backwards.
        directory: The directory of the log that the header shows; by default `eventbus.log_directory()`.

    Attributes:
        unwritten: Lines that could not be written, because the stream was closed, broken or stalled.

    Raises:
        ValueError: `mode` is none.
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
        self._thread = OwnThread("eventbus-console-progress", idle=self._beat)
        self._is_broken = False
        self._is_stalled = False
        self.unwritten: int = 0

    async def start(self, bus: EventBus) -> None:  # noqa: ARG002
        """Look at the surroundings.

        Args:
            bus: The bus.
        """
        stream = self._stream()
        is_terminal = bool(stream is not None and _asked(stream.isatty))
        self._mode = choose_mode(
            self._given_mode, os.environ, is_terminal, shutil.get_terminal_size().columns
        )
        directory = os.fspath(log_directory(self._given_directory))
        self._progress = PlainProgress(directory, quiet=self._mode == "quiet", heartbeat=self._heartbeat)

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Show what events change.

        Args:
            events: At least one, in the bus's order.
        """
        await self._thread.run(self._show_all, events)

    async def stop(self) -> None:
        """Let the heartbeat end."""
        self._thread.end()

    # In the thread.

    def _show_all(self, events: Sequence[Event]) -> None:
        """Show each event, whatever becomes of the others, and then raise the first error."""
        errors: list[Exception] = []
        for event in events:
            try:
                self._write_lines(self._lines(event))
            except Exception as error:  # noqa: BLE001 - an event with fields of wrong types; the bus reports it
                errors.append(error)
        self._write_lines(self._still())
        if errors:
            raise errors[0]

    def _lines(self, event: Event) -> list[str]:
        return [_json_line(event)] if self._mode == "json" else self._progress.lines(event, self._clock())

    def _still(self) -> list[str]:
        return [] if self._mode == "json" else self._progress.still(self._clock())

    def _beat(self) -> float | None:
        self._write_lines(self._still())
        return self._progress.next_still(self._clock())

    def _write_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            stream = self._stream()
            if stream is None or self._is_broken or not self._is_writable(stream):
                self.unwritten += 1
            else:
                self._write(
                    stream, line if self._mode == "json" or len(line) <= MAX_LINE else line[:MAX_LINE]
                )

    def _write(self, stream: TextIO, line: str) -> None:
        try:
            try:
                stream.write(line + "\n")
            except UnicodeEncodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
            stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self.unwritten += 1
            # A stream that was replaced since may be fine.
            self._is_broken = self._given_stream is not None

    def _stream(self) -> TextIO | None:
        return sys.stderr if self._given_stream is None else self._given_stream

    def _is_writable(self, stream: TextIO) -> bool:
        """Whether a line can be written without blocking, now or soon.

        A thread that hangs in a write holds the stream's lock, and the interpreter, which flushes
        at exit, would abort for want of it. So a pipe that nobody reads gets no line.
        """
        descriptor = _asked(stream.fileno)
        if descriptor is None or not hasattr(select, "poll"):
            return True
        poll = select.poll()
        try:
            poll.register(descriptor, select.POLLOUT)
            ready = poll.poll(0 if self._is_stalled else _STALL_SECONDS * 1_000)
        except (OSError, ValueError, OverflowError, TypeError):
            return True  # not one to be polled: writing will tell
        self._is_stalled = not ready
        return bool(ready)


def _asked(method: Callable[[], int]) -> int | None:
    try:
        return method()
    except (AttributeError, OSError, ValueError):  # no file beneath it, or closed
        return None


def _json_line(event: Event) -> str:
    """Return an event as one line of JSON, in ASCII: what is not printable would go out raw."""
    return _NOT_PRINTABLE_ASCII.sub(_json_escape, scrubbed_line(event).decode())


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join([f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)])
