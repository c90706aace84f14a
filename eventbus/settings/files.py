"""The files with settings: where they are, and the tables in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from eventbus.errors import SettingsError
from eventbus.settings.tables import Table

__all__ = ["nearest_file", "project_table", "user_table"]


def nearest_file(start: Path) -> Path | None:
    """Return the nearest pyproject.toml, going up from a directory; None if there is none."""
    candidates = (directory / "pyproject.toml" for directory in (start, *start.parents))
    # `Path.is_file` raises PermissionError where a directory above is private.
    return next((file for file in candidates if os.path.isfile(file)), None)  # noqa: PTH113


def project_table(file: Path) -> Table:
    """Return the table ``[tool.eventbus]`` of a file, empty if it has none.

    Raises:
        SettingsError: The file cannot be read, or is not TOML.
    """
    try:
        entries = msgspec.convert(_document(file), _Document).tool.eventbus
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file}: {error}", "Make it a table") from error
    return Table(str(file), entries, "tool.eventbus", project=file.parent)


def user_table(environment: Mapping[str, str]) -> Table:
    """Return the settings in the user's own file, empty if there is none.

    Args:
        environment: The environment, which says where the user's files are.

    Raises:
        SettingsError: The file cannot be read, or is not TOML.
    """
    file = _user_file(environment)
    if file is None or not os.path.isfile(file):  # noqa: PTH113 - as in `nearest_file`
        return Table("", {})
    return Table(str(file), _document(file))


def _user_file(environment: Mapping[str, str]) -> Path | None:
    """Return where the platform keeps the settings of a user; None if the environment does not say it."""
    home = environment.get("HOME") or environment.get("USERPROFILE")
    folders = [environment.get("XDG_CONFIG_HOME")]  # counts on all platforms, for those who set it
    if sys.platform == "win32":
        folders.append(environment.get("APPDATA"))
    elif sys.platform == "darwin":
        folders.append(home and f"{home}/Library/Application Support")
    else:
        folders.append(home and f"{home}/.config")
    # A relative one is to be ignored, says the XDG specification: it would be another in each directory.
    absolute = (folder for folder in folders if folder and os.path.isabs(folder))  # noqa: PTH117 - text
    folder = next(absolute, None)
    return Path(folder, "eventbus", "config.toml") if folder else None


def _document(file: Path) -> dict[str, Any]:
    try:
        state = file.stat()
        return _parse(file, state.st_ino, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise SettingsError(f"{file}: {error}", "Make it a TOML file that can be read") from error


@lru_cache(maxsize=16)  # parsing takes milliseconds, and each `EventLog()` looks for its directory
def _parse(file: Path, *state: int) -> dict[str, Any]:  # noqa: ARG001 - a changed file is parsed again
    import tomllib  # noqa: PLC0415 - only where there is a file

    return tomllib.loads(file.read_text(encoding="utf-8"))


class _Tool(msgspec.Struct):
    eventbus: dict[str, Any] = {}


class _Document(msgspec.Struct):
    tool: _Tool = msgspec.field(default_factory=_Tool)
