"""``eventbus crackerjack``: the installed crackerjack, in this process, unmodified, and observed.

Its standard output and error are its own, to the byte: nothing of ours is shown there unless
``--progress`` asks for it. Everything is in the event log, for another terminal to follow.
"""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from eventbus.bus import EventBus
from eventbus.cli.exit_codes import NOT_FOUND, OK, USAGE, CommandError
from eventbus.cli.gitignore import keep_out_of_git
from eventbus.cli.on_termination import last_words
from eventbus.errors import SettingsError
from eventbus.integrations.crackerjack import end_executing, observe_crackerjack
from eventbus.runtime import build_runtime
from eventbus.session import SESSION_VARIABLE
from eventbus.settings import ProgressMode, load_settings

__all__ = ["run_crackerjack"]

_CLOSE_SECONDS = 1.0


def run_crackerjack(
    arguments: Sequence[str],
    session_id: str | None = None,
    directory: Path | None = None,
    progress: ProgressMode | None = None,
) -> int:
    """Run crackerjack; it ends the process with its own exit code.

    Args:
        arguments: Crackerjack's own.
        session_id: The session of its runs. None: the environment's, else crackerjack's own.
        directory: Where the event log goes; by default what the settings say.
        progress: How progress is shown, on stderr; by default it is not.

    Raises:
        CommandError: Crackerjack is not installed, or the settings cannot be used.
        SystemExit: Crackerjack has ended.
    """
    program = _program()
    if session_id:
        os.environ[SESSION_VARIABLE] = session_id
    try:
        # A pyproject.toml that is broken is crackerjack's to find.
        settings = load_settings(ignore_unreadable=True)
    except SettingsError as error:
        raise CommandError(error.problem, error.hint, USAGE) from error
    if directory is not None:
        settings = msgspec.structs.replace(settings, directory=directory.absolute())
    if progress is not None:
        settings = msgspec.structs.replace(settings, progress=progress)
    keep_out_of_git(settings.directory)
    runtime = build_runtime(settings, without=() if progress else ("console_progress",))
    with runtime.bus as bus, observe_crackerjack(bus), last_words(lambda: _close(bus)):
        program(arguments)
    return OK


def _program() -> Callable[[Sequence[str]], None]:
    """Return what runs crackerjack; nothing of it is imported yet, for its imports are observed."""
    for entry in importlib.metadata.entry_points(group="console_scripts", name="crackerjack"):
        return partial(_run, entry)
    raise CommandError(
        "crackerjack is not installed in this environment",
        f"install it with: {sys.executable} -m pip install crackerjack (it needs Python 3.13)",
        NOT_FOUND,
    )


def _run(entry: importlib.metadata.EntryPoint, arguments: Sequence[str]) -> None:
    script = Path(sys.executable).with_name("crackerjack")
    if script.exists():
        # The installed script itself, as `__main__`: what the program calls itself goes by that.
        sys.argv = [str(script), *arguments]
        runpy.run_path(str(script), run_name="__main__")
    else:
        sys.argv = ["crackerjack", *arguments]
        sys.exit(entry.load()())


def _close(bus: EventBus) -> None:
    end_executing(KeyboardInterrupt())
    bus.close(_CLOSE_SECONDS)
