"""Draw the live view: at most ten frames a second, from a thread of its own, each in one write.

Events are only handed over; the thread folds them before it draws a frame. So a thousand events a second
cost a thousand appends and ten frames, and a terminal that is slow holds up nobody.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.text import Text

from eventbus import Event
from eventbus_subscribers.live_region import LiveRegion
from eventbus_subscribers.live_screen import Look, region_rows, row_lines, summary_rows
from eventbus_subscribers.live_state import LiveState
from eventbus_subscribers.progress_stream import ProgressStream
from eventbus_subscribers.terminal_writer import TerminalWriter

__all__ = ["LiveProgress"]

FRAME_SECONDS = 0.1
GATHER_SECONDS = 0.02
_IDLE_SECONDS = 1.0
"""While something is open, and no node runs, only the time changes."""
_MAX_WAITING = 4_096
_MAX_LOGGED = 100


class LiveProgress:
    """Draws what a state shows.

    Args:
        stream: The terminal.
        state: What is shown.
        clock: Returns the time in seconds, and never runs backwards.
    """

    def __init__(self, stream: ProgressStream, state: LiveState, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._state = state
        self._clock = clock
        self._region = LiveRegion()
        self._writer = TerminalWriter(stream)
        self._waiting: deque[Event] = deque()
        self._logged = _LoggedLines()
        self._next_frame = -math.inf
        self._last_offer = -math.inf
        self._is_busy = False
        self._is_awake = False
        self._error: Exception | None = None
        self._logged.attach()

    def offer(self, events: Sequence[Event]) -> bool:
        """Hand over events; return True if the thread has to be woken to draw them.

        Args:
            events: The events.
        """
        self._waiting.extend(events)
        now = self._clock()
        self._is_busy, self._last_offer = now - self._last_offer < 2 * GATHER_SECONDS, now
        return self._is_busy or not self._is_awake or len(self._waiting) >= _MAX_WAITING

    def draw(self) -> None:
        """Draw a frame, unless the last one was drawn just now.

        Raises:
            Exception: The first error that an event has caused since the last call; all others are shown.
        """
        self._is_awake = True
        self._fold()
        if self._clock() >= self._next_frame:
            self._draw()
        if self._is_busy:
            # So that the next events gather in the mailbox: to be woken for each of a thousand a second
            # costs a tenth of a core. Not the loop's timer, which a test of the program may have stopped.
            time.sleep(GATHER_SECONDS)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def work_when_idle(self) -> float | None:
        """Draw a frame if it is due; return after how many seconds to be called again."""
        seconds = self._next_frame - self._clock()
        if seconds > 0 and self._is_awake:
            return seconds
        self._draw()
        if self._state.running():
            return FRAME_SECONDS
        self._is_awake = False
        if self._waiting:  # they came before it was said that nobody looks
            self._is_awake = True
            return FRAME_SECONDS
        return _IDLE_SECONDS if self._state.is_open() or self._state.rows else None

    def end(self) -> None:
        """Draw the last frame: the region becomes the summary, and the terminal is left as it was found."""
        self._logged.detach()
        self._fold()
        now, look = self._clock(), self._look()
        rows = self._new_rows(now, look)
        rows += summary_rows(self._state, now, look)
        self._writer.finish(self._region.frame(rows, [], look.columns), len(rows))

    def _draw(self) -> None:
        self._fold()
        now, look = self._clock(), self._look()
        self._next_frame = now + FRAME_SECONDS
        before = self._region.drawn
        text = self._region.frame(
            self._new_rows(now, look), region_rows(self._state, now, look), look.columns
        )
        if text and not self._writer.write(text):
            self._region.drawn = before  # the terminal takes nothing now: the rows wait for the next frame
        else:
            self._state.rows.clear()

    def _new_rows(self, now: float, look: Look) -> list[Text]:
        return [line for row in self._state.rows for line in row_lines(row, now, look)]

    def _fold(self) -> None:
        """Fold all events, even if one fails: fields may have wrong types, and the bus reports it."""
        for _ in range(len(self._waiting)):
            try:
                self._state.add(self._waiting.popleft(), self._clock())
            except Exception as error:  # noqa: BLE001 - raised by the next `draw`
                self._error = self._error or error
        for text in self._logged.take():
            self._state.warn(text)

    def _look(self) -> Look:
        return Look(*self._stream.size(), self._stream.has_unicode())


class _LoggedLines(logging.Handler):
    """Keeps what eventbus logs, such as a log file that cannot be written, for a row of its own.

    Only if nothing else handles it: logging would write it to stderr, across the region.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=_MAX_LOGGED)
        self._logger = logging.getLogger("eventbus")

    def attach(self) -> None:
        if not self._logger.hasHandlers():
            self._logger.addHandler(self)

    def detach(self) -> None:
        self._logger.removeHandler(self)

    def take(self) -> list[str]:
        return [self._lines.popleft() for _ in range(len(self._lines))]

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()
        self._lines.append(text if error is None else f"{text}: {type(error).__name__}: {error}")
