"""What a command that ran something ends with, on stderr: the block of ``eventbus show``, and a next step.

What it ran writes to the same terminal, so its progress is appended only, and never drawn again and again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from eventbus.cli.exit_codes import USAGE, CommandError
from eventbus.cli.notes import note
from eventbus.correlation import CorrelatedFigures
from eventbus.errors import EventBusError
from eventbus.events import Event
from eventbus.ground.session_names import spell
from eventbus.history.segment_files import segment_at
from eventbus.history.unfinished import LiveWriters, all_unfinished
from eventbus.settings import ProgressMode, Settings, load_settings
from eventbus.views import SessionView

__all__ = ["Ending", "append_only", "print_next_step"]

_MAX_EVENTS = 200_000


def append_only(settings: Settings, asked: ProgressMode | None) -> Settings:
    """Return the settings for a command whose terminal another program writes to.

    Args:
        settings: The settings in force.
        asked: What ``--progress`` was given.

    Raises:
        CommandError: A live view was asked for by name.
    """
    if asked == "tty":
        raise CommandError(
            "what the command writes would be overwritten by a live view",
            "run it with --progress plain, and watch it from another terminal with: eventbus watch",
            USAGE,
        )
    plain = settings.progress in ("auto", "tty")
    return msgspec.structs.replace(settings, progress="plain") if plain else settings


class Ending:
    """Folds the events of a session as they come, for the block at the end.

    Args:
        settings: The settings of the command.

    Attributes:
        paths: The segments of other processes whose events were added.
    """

    def __init__(self, settings: Settings) -> None:
        self.paths: set[Path] = set()
        self._settings = settings
        self._view = SessionView()
        self._correlation = CorrelatedFigures()

    def add(self, event: Event) -> None:
        """Fold an event; from some number on the log has to be asked."""
        if self._view.events < _MAX_EVENTS:
            self._view.add(event)
            self._correlation.add(event)

    def print(self) -> None:
        """Print the block and a next step, unless the progress is quiet or JSON. Never raises."""
        if self._settings.progress in ("json", "quiet"):
            return
        try:
            with suppress(OSError, ValueError):  # the terminal went away
                self._print()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the command's
            note(f"the end of the run cannot be shown: {str(error) or type(error).__name__}")

    def _print(self) -> None:
        # Imported now: what is run must not wait for it.
        from eventbus.cli.screen_output import print_lines, stream_look  # noqa: PLC0415
        from eventbus.cli.session_screen import session_lines  # noqa: PLC0415

        name = self._view.session_id
        figures = None if name is None else self._correlation.figures(name)
        if figures is None or name is None:
            return
        if figures.is_open and not self._is_written():
            figures = all_unfinished(figures)
            self._view.give_up(figures)
        print(file=sys.stderr)
        print_lines(session_lines(self._view, figures, stream_look(sys.stderr)), stream=sys.stderr)
        print_next_step(self._settings, name)

    def _is_written(self) -> bool:
        """Return True if one of the other processes is still there."""
        segments = [segment for segment in map(segment_at, map(str, self.paths)) if segment is not None]
        writers = LiveWriters(segments)
        return any(writers.is_there(each.writer) for each in segments)


def print_next_step(settings: Settings, session_id: str) -> None:
    """Print what to do next to stderr, dim on a terminal: a command that works as typed, here.

    Args:
        settings: The settings of the command that ended.
        session_id: The session to look at.
    """
    name = spell(session_id)
    is_stored = "json_persister" not in settings.left_out
    if not (is_stored and name.isprintable()) or settings.progress in ("json", "quiet"):
        return
    place = _place(settings)
    words = ["--events", *place, "--", name] if name.startswith("-") else [name, "--events", *place]
    step = shlex.join([*_program(), "show", *words])
    is_terminal = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    with suppress(OSError, ValueError):
        print(f"\x1b[2mnext: {step}\x1b[0m" if is_terminal else f"next: {step}", file=sys.stderr)


def _program() -> list[str]:
    return ["eventbus"] if shutil.which("eventbus") else [sys.executable, "-m", "eventbus"]


def _place(settings: Settings) -> list[str]:
    """Return the option that names the log, if a command here would look into another one."""
    try:
        if load_settings(ignore_unreadable=True).directory.absolute() == settings.directory.absolute():
            return []
    except (EventBusError, OSError):
        pass
    return ["--dir", str(settings.directory.absolute())]
