"""``eventbus watch``: show a session while it runs, from another terminal or of another process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Annotated

import anyio
import anyio.to_thread
from rich.text import Text

from eventbus.cli.arguments import Argument, Option
from eventbus.cli.exit_codes import OK, PROBLEMS
from eventbus.cli.free_descriptors import check_free_descriptors
from eventbus.cli.full_screen import FullScreen, full_screen
from eventbus.cli.log_access import DamageNotes, note, open_log
from eventbus.cli.options import LogDirectory, Remote
from eventbus.cli.output_reader import while_output_is_read
from eventbus.cli.plugin_events import load_plugin_events
from eventbus.cli.remote_log import log_to_read
from eventbus.cli.screen_output import print_lines, stdout_look
from eventbus.cli.session_access import find_session
from eventbus.cli.session_screen import Look, session_lines
from eventbus.cli.timeline import EventLines
from eventbus.cli.watched_session import WatchedSession
from eventbus.correlation import CorrelatedSession
from eventbus.events import Event, SkillStarted, WorkflowStarted
from eventbus.ground.session_names import name_of_argument
from eventbus.history import EventLog, Record
from eventbus.history.session_history import SessionHistory
from eventbus.history.tail import Tail

__all__ = ["watch"]

_FRAME_SECONDS = 0.1
_FRAMES_A_SECOND = 10
_QUIET_FRAMES = 5
"""A session is over when nothing of it is open, and no event came during these: the next run may follow."""
_MAX_RECENT = 200
_MANY = 200
"""After this many new records there may be more."""
_INTERRUPTED = 130
_EXIT_CODES = {
    "succeeded": OK,
    "skipped": OK,
    "open": OK,
    "failed": PROBLEMS,
    "unfinished": PROBLEMS,
    "cancelled": _INTERRUPTED,
}


def watch(
    session: Annotated[
        str | None,
        Argument(
            type=name_of_argument,
            metavar="SESSION",
            help="A session id, or its beginning. Default: what runs now.",
        ),
    ] = None,
    *,
    directory: LogDirectory = None,
    remote: Remote = False,
    wait: Annotated[
        bool, Option("--wait", help="Wait for a session to begin: the next one, or SESSION.")
    ] = False,
    fail_fast: Annotated[bool, Option("--fail-fast", help="End at the first failure.")] = False,
    compact: Annotated[
        bool, Option("--compact", help="Show only the nodes that run, or did not succeed.")
    ] = False,
    once: Annotated[bool, Option("--once", help="Show the state once, and end.")] = False,
) -> int:
    """Watch a session until it ends.

    For example: eventbus watch && deploy. Without SESSION the one that runs now is shown, otherwise the
    next one. The exit code is the session's outcome: 0 if it succeeded, 1 if it failed or its process is
    gone, 130 if it was cancelled, or if you left with q or Ctrl-C, which changes nothing for the session.
    """
    check_free_descriptors()
    load_plugin_events()
    with log_to_read(directory, remote=remote, session=session, is_exact=wait, is_live=not once) as place:
        log = open_log(place, DamageNotes(), must_exist=once)
        found = session if wait else _find(log, session, or_latest=once)
        watching = _Watching(log, found, fail_fast=fail_fast, compact=compact)
        if once:
            watching.load()
        else:
            watching.until_it_ends()
        return watching.conclude()


def _find(log: EventLog, name: str | None, *, or_latest: bool) -> str | None:
    """Return the named session, or the latest that is open; None if there is none yet."""
    with SessionHistory(log) as history:
        if name is not None:
            return find_session(history, name)
        recent = list(islice(history.figures(), _MAX_RECENT))
    found = [each for each in recent if each.is_open] or (recent if or_latest else [])
    return found[0].session_id if found else None


class _Watching:
    """One use of the command.

    Args:
        log: The log.
        name: The session; None to wait for the next one that begins.
        fail_fast: End at the first failure.
        compact: Show only the nodes that run, or did not succeed.
    """

    def __init__(self, log: EventLog, name: str | None, *, fail_fast: bool, compact: bool) -> None:
        self._log = log
        self._fail_fast = fail_fast
        self._compact = compact
        self._session = None if name is None else WatchedSession(log, name)
        self._figures: CorrelatedSession | None = None
        self._frames = self._last_event_frame = 0
        self._lines = EventLines()
        self._look = stdout_look()
        self._size: tuple[int, int] | None = None
        self._has_left = False

    def load(self, on_event: Callable[[Event], None] | None = None) -> None:
        """Fold what the log holds of the session."""
        if self._session is None:
            return
        for record in self._session.load():
            if on_event is not None:
                on_event(record.event)
        self._figures = self._session.figures_without_writers() or self._session.figures()

    def until_it_ends(self) -> None:
        """Show the session until it ends, or until you leave."""
        try:
            if sys.stdout.isatty():
                with full_screen() as screen:
                    anyio.run(self._follow, partial(self._draw, screen), None)
            else:
                anyio.run(while_output_is_read, partial(self._follow, _continue, self._print_event))
        except KeyboardInterrupt:
            self._print_state()
            raise

    def conclude(self) -> int:
        """Print the state of the session, and return its outcome as an exit code."""
        self._print_state()
        if self._has_left:
            return _INTERRUPTED
        if self._figures is None:
            return OK
        return PROBLEMS if _has_failed(self._figures) else _EXIT_CODES[self._figures.outcome]

    def _print_state(self) -> None:
        print_lines(self._state(stdout_look()))

    def _state(self, look: Look) -> list[Text]:
        if self._session is None or self._figures is None:
            return []
        look = look._replace(is_compact=self._compact)
        return list(session_lines(self._session.view, self._figures, look))

    async def _follow(self, frame: Callable[[], bool], on_event: Callable[[Event], None] | None) -> None:
        """Fold records as they come, and ask for a frame ten times a second, until one is the last."""
        async with self._log.follow("now", include_own=True) as records:
            # Followed first: what is appended while the log is read comes twice, and is folded once.
            await anyio.to_thread.run_sync(self.load, on_event)
            if self._session is None and on_event is not None:
                note(f"waiting for a session in {self._log.directory}")
            while True:
                next_frame = anyio.current_time() + _FRAME_SECONDS
                await self._add_new(records, on_event)
                self._frames += 1
                if self._session is not None and self._last_event_frame == self._frames:
                    self._figures = self._session.figures()
                if not frame() or self._is_over():
                    return
                await anyio.sleep_until(next_frame)

    async def _add_new(self, records: Tail, on_event: Callable[[Event], None] | None) -> None:
        # A look for each frame, and no more: waiting for each record with a timeout took three times as long.
        found = _MANY
        while found >= _MANY:
            batch = await records.poll()
            found = len(batch)
            for record in batch:
                self._add(record, on_event)

    def _add(self, record: Record, on_event: Callable[[Event], None] | None) -> None:
        event = record.event
        if self._session is None and event.session_id and isinstance(event, SkillStarted | WorkflowStarted):
            self._session = WatchedSession(self._log, event.session_id)
        for new in self._session.add(record) if self._session is not None else ():
            self._last_event_frame = self._frames + 1
            if on_event is not None:
                on_event(new.event)

    def _is_over(self) -> bool:
        figures = self._figures
        if figures is None or self._session is None:
            return False
        if self._fail_fast and _has_failed(figures):
            return True
        quiet = self._frames - self._last_event_frame
        if figures.is_open and quiet and not quiet % _FRAMES_A_SECOND:
            self._figures = figures = self._session.figures_without_writers() or figures
        return not figures.is_open and quiet >= _QUIET_FRAMES

    def _draw(self, screen: FullScreen) -> bool:
        """Draw the state if it has changed, and each second; return False if you want to leave."""
        quiet = self._frames - self._last_event_frame
        if quiet < 2 or not quiet % _FRAMES_A_SECOND or screen.size() != self._size:  # noqa: PLR2004
            self._size = screen.size()
            look = self._look._replace(columns=self._size[0], now=datetime.now().astimezone())
            waiting = Text(f"waiting for a session in {self._log.directory}", "dim")
            screen.draw(self._state(look) or [waiting], Text("q leaves; the session goes on", "dim"))
        self._has_left = screen.wants_to_leave()
        return not self._has_left

    def _print_event(self, event: Event) -> None:
        line = self._lines.line(event)
        if line is not None:
            print(line, flush=True)


def _has_failed(figures: CorrelatedSession) -> bool:
    return bool(figures.workflow_nodes_failed or figures.workflows_failed or figures.skills_failed)


def _continue() -> bool:
    return True
