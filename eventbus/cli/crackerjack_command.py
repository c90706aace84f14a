"""``eventbus crackerjack``: run the installed crackerjack in this process, unmodified, and observe it.

Standard output and error belong to crackerjack, to the byte: progress is shown only with
``--progress``. At the end, on a terminal or with ``--progress``, the block of ``eventbus show`` follows on
stderr. Every event is in the event log, which another terminal can follow.
"""

from __future__ import annotations

import importlib.metadata
import runpy
import signal
import sys
from argparse import REMAINDER
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from eventbus.bus import EventBus
from eventbus.cli.arguments import Argument
from eventbus.cli.exit_codes import NOT_FOUND, OK, PROBLEMS, CommandError
from eventbus.cli.gitignore import create_ignored_directory
from eventbus.cli.on_termination import on_termination
from eventbus.cli.options import LogDirectory, Progress, SessionId, settings_with
from eventbus.cli.run_ending import Ending, append_only
from eventbus.detached_skills.skills import session_of_terminal
from eventbus.events import Event
from eventbus.integrations.crackerjack import end_executing, observe_crackerjack
from eventbus.runtime import build_runtime
from eventbus.session import current_session_id, set_session_of_process

__all__ = ["crackerjack"]

_CLOSE_SECONDS = 1.0


def crackerjack(
    arguments: Annotated[list[str] | None, Argument(nargs=REMAINDER, metavar="ARGS...")] = None,
    session_id: SessionId = None,
    directory: LogDirectory = None,
    progress: Progress = None,
) -> int:
    """Run crackerjack, unmodified, and record what it does.

    Options come before crackerjack's own arguments: eventbus crackerjack [--dir PATH] run --fast.
    """
    # Crackerjack ends the process with its own exit code: SystemExit comes out of `program()`.
    program = _program()
    settings = append_only(settings_with(directory, progress), progress)
    session_id = session_id or current_session_id() or session_of_terminal(settings)
    if session_id:
        set_session_of_process(session_id)
    create_ignored_directory(settings.directory)
    runtime = build_runtime(settings, without=() if progress else ("console_progress",))
    ending = Ending(settings) if progress or sys.stderr.isatty() else None
    if ending is not None:
        runtime.bus.subscribe(ending.add, Event, name="ending")
    is_running = False
    try:
        with _entered(runtime.bus) as bus, observe_crackerjack(bus), on_termination(lambda: _close(bus)):
            is_running = True
            program(arguments or [])
    except Exception as error:
        if not is_running:
            raise
        sys.excepthook(type(error), error, error.__traceback__)  # crackerjack's own, shown as without us
        return PROBLEMS
    finally:
        if is_running and ending is not None:
            ending.print()
    return OK


@contextmanager
def _entered(bus: EventBus) -> Generator[EventBus]:
    """Enter the bus, and ignore SIGPIPE while it closes: crackerjack lets that signal end the process.

    A loop that closes has for a moment a pipe without a reader, and a ring would be the process's end.
    """
    theirs: Any = None
    is_known = hasattr(signal, "SIGPIPE")  # not on Windows
    try:
        with bus:
            try:
                yield bus
            finally:
                theirs = signal.signal(signal.SIGPIPE, signal.SIG_IGN) if is_known else None
    finally:
        if theirs is not None:
            signal.signal(signal.SIGPIPE, theirs)


def _program() -> Callable[[Sequence[str]], None]:
    """Return the function that imports and runs crackerjack, once its imports are observed."""
    for entry in importlib.metadata.entry_points(group="console_scripts", name="crackerjack"):
        return partial(_run, entry)
    raise CommandError(
        "crackerjack is not installed in this environment",
        f"install it with: {sys.executable} -m pip install crackerjack (it needs Python 3.13 or newer)",
        NOT_FOUND,
    )


def _run(entry: importlib.metadata.EntryPoint, arguments: Sequence[str]) -> None:
    script = Path(sys.executable).with_name("crackerjack")
    if script.exists():
        # Run the installed script as `__main__`: crackerjack derives its program name from that.
        sys.argv = [str(script), *arguments]
        runpy.run_path(str(script), run_name="__main__")
    else:
        sys.argv = ["crackerjack", *arguments]
        sys.exit(entry.load()())


def _close(bus: EventBus) -> None:
    end_executing(KeyboardInterrupt())
    bus.close(_CLOSE_SECONDS)
