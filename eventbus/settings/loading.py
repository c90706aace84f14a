"""Load the settings in force: the tables of all places, one on top of the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventbus.errors import SettingsError
from eventbus.settings.environment import environment_table
from eventbus.settings.files import nearest_file, project_table
from eventbus.settings.tables import Table
from eventbus.settings.values import DEFAULT_DIRECTORY, Settings

__all__ = ["load_settings"]


def load_settings(
    start: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    ignore_unreadable: bool = False,
) -> Settings:
    """Return the settings in force.

    A relative directory is within the project if pyproject.toml or nothing sets it, and within the
    working directory if the environment sets it.

    Args:
        start: Where the search for the nearest pyproject.toml begins, going up; by default the
            working directory.
        environment: The environment; by default the process's.
        ignore_unreadable: Ignore a pyproject.toml that cannot be read, or is not TOML; for commands
            whose user sees that problem anyway.

    Raises:
        SettingsError: The file cannot be read, or a setting in it or in the environment is wrong.
    """
    start = _absolute(start or Path())
    file = nearest_file(start)
    layers = _Layers()
    if file is not None:
        layers.add(_table(file, ignore_unreadable=ignore_unreadable))
    project = start if file is None else file.parent
    layers.values["directory"] = project / layers.values.get("directory", DEFAULT_DIRECTORY)
    layers.add(environment_table(os.environ if environment is None else environment))
    return layers.settings()


def _absolute(start: Path) -> Path:
    try:
        return start.absolute()
    except OSError:  # the working directory was deleted: there is no project
        return start


def _table(file: Path, *, ignore_unreadable: bool) -> Table:
    try:
        return project_table(file)
    except SettingsError:
        if not ignore_unreadable:
            raise
        return Table(str(file), {})


class _Layers:
    """The settings of several places: a value replaces the one below, a list of names changes it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        self._choices: dict[str, str] = {}  # of each plugin that is named, its list

    def add(self, table: Table) -> None:
        """Put the settings of a place on top."""
        for key, value in table.checked().items():
            if key in ("disabled", "enabled"):
                self._choices.update(dict.fromkeys(value, key))
                self._origins.update({name: table.origin(key) for name in value})
            else:
                self.values[key] = value
                self._origins[key] = table.origin(key)

    def settings(self) -> Settings:
        """Return the settings in force."""
        return Settings(
            **self.values,
            disabled=self._chosen("disabled"),
            enabled=self._chosen("enabled"),
            origins=self._origins,
        )

    def _chosen(self, choice: str) -> tuple[str, ...]:
        return tuple(name for name, chosen in self._choices.items() if chosen == choice)
