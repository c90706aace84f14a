"""Find the directory of the event log, for programs that must go on whatever the settings are."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.settings.environment import environment_table
from eventbus.settings.files import nearest_file, project_table
from eventbus.settings.tables import Table
from eventbus.settings.values import DEFAULT_DIRECTORY

__all__ = ["log_directory"]

_KEY = "directory"

_logger = logging.getLogger("eventbus.settings")


def log_directory(directory: str | os.PathLike[str] | None = None) -> Path:
    """Return the directory of the event log: the one that commands use, too.

    That is the given directory, otherwise the environment's ``EVENTBUS_DIR``, otherwise ``directory``
    in the nearest pyproject.toml, otherwise ``.session-buddy`` beside that file, or in the working
    directory. A file or value that cannot be used is ignored, with one warning.

    Args:
        directory: The directory that a caller was given, if any.
    """
    given = Path(directory) if directory else _environment_directory()
    if given is not None:
        return given
    try:
        return _project_directory(Path().absolute())
    except OSError:  # the working directory was deleted
        return Path(DEFAULT_DIRECTORY)


def _environment_directory() -> Path | None:
    try:
        return _directory(environment_table(os.environ, (_KEY,)))
    except SettingsError as error:
        _warn_once(printable(error.problem))
        return None


def _project_directory(start: Path) -> Path:
    file = nearest_file(start)
    if file is None:
        return start / DEFAULT_DIRECTORY
    try:
        return file.parent / (_directory(project_table(file)) or DEFAULT_DIRECTORY)
    except SettingsError as error:
        _warn_once(printable(error.problem))
        return file.parent / DEFAULT_DIRECTORY


def _directory(table: Table) -> Path | None:
    """Return the directory that a table has, whatever else is wrong with it."""
    entries = {key: value for key, value in table.entries.items() if key == _KEY}
    found = replace(table, entries=entries).checked().get(_KEY)
    return found if isinstance(found, Path) else None


@lru_cache(maxsize=64)
def _warn_once(problem: str) -> None:
    _logger.warning("a setting is ignored: %s", problem)
