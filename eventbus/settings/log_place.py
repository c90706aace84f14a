"""Find the directory of the event log, for programs that must go on whatever the settings are."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.ground.warned_once import warn_once
from eventbus.settings.environment import environment_table
from eventbus.settings.files import nearest_file, project_table, user_table
from eventbus.settings.project_trust import is_elsewhere
from eventbus.settings.tables import LOGGER, MAX_PROBLEM, Table
from eventbus.settings.values import DEFAULT_DIRECTORY

__all__ = ["log_directory"]

_KEY = "directory"


def log_directory(directory: str | os.PathLike[str] | None = None) -> Path:
    """Return the directory of the event log: the one that commands use, too.

    That is the given directory, otherwise the environment's ``EVENTBUS_DIR``, otherwise ``directory``
    in the user's file, otherwise in the nearest pyproject.toml, otherwise ``.session-buddy`` beside that
    file, or in the working directory. A file or value that cannot be used is ignored, with one warning.

    Args:
        directory: The directory that a caller was given, if any.
    """
    given = Path(directory) if directory else _directory(partial(environment_table, os.environ, (_KEY,)))
    if given is not None:
        return given
    by_user = _directory(partial(user_table, os.environ))
    try:
        start = Path().absolute()
    except OSError:  # the working directory was deleted
        return by_user or Path(DEFAULT_DIRECTORY)
    file = nearest_file(start)
    project = start if file is None else file.parent
    return project / by_user if by_user else _project_directory(file, project)


def _project_directory(file: Path | None, project: Path) -> Path:
    by_project = None if file is None else _directory(partial(project_table, file))
    directory = project / (by_project or DEFAULT_DIRECTORY)
    origin = f"{file}: [tool.eventbus]: {_KEY}" if by_project else None
    is_elsewhere(directory, project, origin, say_it=True)
    return directory


def _directory(read: Callable[[], Table]) -> Path | None:
    """Return the directory that a table has, whatever else is wrong with it."""
    try:
        table = read()
        entries = {key: value for key, value in table.entries.items() if key == _KEY}
        found = msgspec.structs.replace(table, entries=entries).checked().get(_KEY)
    except SettingsError as error:
        warn_once(LOGGER, printable(f"a setting is ignored: {error.problem}", MAX_PROBLEM))
        return None
    return found if isinstance(found, Path) else None
