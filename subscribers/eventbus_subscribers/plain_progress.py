"""The lines of a run in a pipe, in a file or in the log of a CI system: one for each change.

Pure: events and times go in, and lines without line feeds come out. For example

    +28.7s FAIL   tests (22.4s) AssertionError

names the seconds since the first event shown, the change, and its subject. One event makes at most
one line; a header precedes the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from eventbus import (
    Event,
    EventsLost,
    SkillCompleted,
    SubscriberFailed,
    Word,
    WorkflowCompleted,
)
from eventbus_subscribers.github_actions import github_lines, github_safe
from eventbus_subscribers.progress_state import ProgressState, header_line
from eventbus_subscribers.run_progress import Change

__all__ = ["PlainProgress"]

MAX_STILL_LINES = 8
"""The number of nodes that one heartbeat names."""


class PlainProgress:
    """Makes the lines.

    Args:
        directory: The directory of the log, for the header.
        quiet: Return lines only for problems and the ends of workflows.
        heartbeat: After this many seconds without a line a running node gets one; 0 or less: never.
        github: Return the lines as GitHub Actions groups and annotates them.
    """

    def __init__(
        self, directory: str, *, quiet: bool = False, heartbeat: float = 10.0, github: bool = False
    ) -> None:
        self._directory = directory
        self._quiet = quiet
        self._heartbeat = heartbeat
        self._github = github
        self._began: float | None = None
        self._state = ProgressState()

    def lines(self, event: Event, now: float) -> list[str]:
        """Fold one event; return its line, if it changed something, and the header before the first.

        Args:
            event: The event.
            now: The time in seconds on a monotonic clock.
        """
        change = self._state.add(event, now)
        if change is None or (self._quiet and not _is_worth_a_quiet_line(event)):
            return []
        header = [] if self._began is not None else [self._header(event)]
        return [*header, *self._change_lines(change, now)]

    def last_lines(self, now: float, unwritten: int = 0) -> list[str]:
        """Return the lines that end a view: of runs whose end was not seen, and of what is missing.

        Args:
            now: The time in seconds.
            unwritten: How many lines could not be written.
        """
        lines = [
            self._line(now, Word.OPEN, f"workflow {run.label}: its end was not seen, {run.counts()}")
            for run in self._state.give_up()
            if run.is_announced
        ]
        if unwritten:
            lines.append(self._line(now, Word.LOST, f"{unwritten} lines of this progress"))
        return lines

    def heartbeat_lines(self, now: float) -> list[str]:
        """Return a line for each node that has been running without one for the heartbeat's time."""
        due = [node for node in self._state.running() if now - node.shown_at >= self._heartbeat > 0]
        for node in due:
            node.shown_at = now
        if self._quiet:
            return []
        shown = [
            self._line(now, Word.GOING, " ".join([node.name, f"({now - node.began:.1f}s)", *node.details()]))
            for node in due[:MAX_STILL_LINES]
        ]
        more = len(due) - MAX_STILL_LINES
        return [*shown, self._line(now, Word.GOING, f"{more} more nodes")] if more > 0 else shown

    def seconds_to_heartbeat(self, now: float) -> float | None:
        """Return after how many seconds a heartbeat is due; None while no node runs."""
        if self._quiet or self._heartbeat <= 0:
            return None
        first = min((node.shown_at for node in self._state.running()), default=None)
        return None if first is None else max(0.0, first + self._heartbeat - now)

    def _change_lines(self, change: Change, now: float) -> list[str]:
        line = self._line(now, change.word, " ".join(_parts(change)))
        return github_lines(change, line) if self._github and not self._quiet else [line]

    def _line(self, now: float, word: str, rest: str) -> str:
        if self._began is None:
            self._began = now
        line = f"{f'+{now - self._began:.1f}s':<6} {word:<6} {rest}"
        return github_safe(line) if self._github else line

    def _header(self, event: Event) -> str:
        """Return the header before the first line, whose session it names."""
        header = header_line(event, self._directory)
        return github_safe(header) if self._github else header


def _parts(change: Change) -> Iterator[str]:
    yield change.name
    if change.seconds is not None:
        yield f"({change.seconds:.1f}s)"
    hooks = change.node.failed_hooks() if change.node and change.outcome == "failed" else []
    if change.error or hooks:
        yield f"{change.error}:" if change.error and hooks else change.error
    if hooks:
        yield ", ".join(map(str, hooks))


def _is_worth_a_quiet_line(event: Event) -> bool:
    if isinstance(event, SkillCompleted):
        return not event.completed
    is_problem = getattr(event, "success", True) is False
    return is_problem or isinstance(event, EventsLost | WorkflowCompleted | SubscriberFailed)
