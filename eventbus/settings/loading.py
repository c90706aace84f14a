"""Load the settings in force: the tables of all places, one on top of the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventbus.errors import SettingsError
from eventbus.ground.option_entry import Option
from eventbus.settings.environment import environment_table, warn_of_misspelt
from eventbus.settings.files import nearest_file, project_table, user_table
from eventbus.settings.project_trust import RETENTION, is_elsewhere
from eventbus.settings.tables import Table
from eventbus.settings.values import DEFAULT_DIRECTORY, Settings

__all__ = ["load_settings"]

_ELSEWHERE = "no limit, as the project's log is outside of it"


def load_settings(
    start: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    ignore_unreadable: bool = False,
) -> Settings:
    """Return the settings in force: arguments, the environment, the user's file, the project's, defaults.

    A relative directory in a file is within the project; one in the environment or in the arguments is
    within the working directory.

    Args:
        start: Where the search for the nearest pyproject.toml begins, going up; by default the
            working directory.
        environment: The environment; by default the process's.
        arguments: Settings that a program was given, by their keys; None counts as not given.
        ignore_unreadable: Ignore a pyproject.toml that cannot be read, or is not TOML; for commands
            whose user sees that problem anyway.

    Raises:
        SettingsError: A file cannot be read, or a value of a setting is wrong.
    """
    start = _absolute(start or Path())
    environment = os.environ if environment is None else environment
    file = nearest_file(start)
    layers = _Layers(start if file is None else file.parent)
    if file is not None:
        layers.add(_table(file, ignore_unreadable=ignore_unreadable))
    layers.add(user_table(environment))
    layers.put_directory_into_project()
    warn_of_misspelt(environment)
    layers.add(environment_table(environment))
    layers.add(Table("the arguments", {k: v for k, v in (arguments or {}).items() if v is not None}))
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

    def __init__(self, project: Path) -> None:
        self._project = project
        self._values: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        self._of_project: set[str] = {"directory"}  # the keys that only the project, or nobody, has set
        self._choices: dict[str, str] = {}  # of each plugin that is named, its list
        self._plugins: dict[str, dict[str, Option]] = {}
        self._nats: dict[str, Option] = {}

    def add(self, table: Table) -> None:
        """Put the settings of a place on top."""
        for key, value in table.checked().items():
            if key in ("disabled", "enabled"):
                self._choices.update(dict.fromkeys(value, key))
                self._origins.update({f"plugins.{name}": table.origin(key) for name in value})
            elif key == "plugins":
                for plugin, options in value.items():
                    self._plugins.setdefault(plugin, {}).update(options)
            elif key == "nats":
                self._nats.update(value)
            else:
                self._values[key] = value
                self._origins[key] = table.origin(key)
                (self._of_project.discard if table.project is None else self._of_project.add)(key)

    def put_directory_into_project(self) -> None:
        """Make a relative directory, the default too, one of the project."""
        self._values["directory"] = self._project / self._values.get("directory", DEFAULT_DIRECTORY)

    def settings(self) -> Settings:
        """Return the settings in force."""
        self._restrict_project()
        return Settings(
            **self._values,
            disabled=self._chosen("disabled"),
            enabled=self._chosen("enabled"),
            plugins=self._plugins,
            nats=self._nats,
            origins=self._origins,
        )

    def _restrict_project(self) -> None:
        """Keep a project from deciding what is removed from a log that is not within it."""
        is_of_project = "directory" in self._of_project
        origin = self._origins.get("directory") if is_of_project else None
        if is_elsewhere(self._values["directory"], self._project, origin, say_it=is_of_project):
            for key in RETENTION:
                if key in self._of_project:
                    del self._values[key]
                    del self._origins[key]
                if is_of_project and key not in self._values:
                    self._values[key], self._origins[key] = 0, _ELSEWHERE

    def _chosen(self, choice: str) -> tuple[str, ...]:
        return tuple(name for name, chosen in self._choices.items() if chosen == choice)
