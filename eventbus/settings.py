"""Settings: the table ``[tool.eventbus]`` of a project's pyproject.toml, and the environment.

    [tool.eventbus]
    directory = ".session-buddy"   # EVENTBUS_DIR
    progress = "plain"             # EVENTBUS_PROGRESS
    disabled = ["event_logger"]
    sync = "interval"              # EVENTBUS_SYNC: never, interval, always
    segment_bytes = 16_777_216     # EVENTBUS_SEGMENT_BYTES
    keep_days = 30                 # EVENTBUS_KEEP_DAYS; 0: no limit
    keep_bytes = 1_073_741_824     # EVENTBUS_KEEP_BYTES; 0: no limit
    follow_up_actions = ["git commit", "git push", "make"]

The environment wins; an empty variable counts as unset. Commands report a wrong setting as an error.
`log_directory` is for programs that are observed: it never raises.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from eventbus.errors import SettingsError
from eventbus.events.printable import printable

__all__ = [
    "DEFAULT_DIRECTORY",
    "DEFAULT_KEEP_BYTES",
    "DEFAULT_KEEP_DAYS",
    "DEFAULT_SEGMENT_BYTES",
    "ProgressMode",
    "Settings",
    "SyncPolicy",
    "load_settings",
    "log_directory",
]

DEFAULT_DIRECTORY = ".session-buddy"
"""The directory of the event log, within the project."""

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024
"""The size in bytes beyond which another segment is begun."""

DEFAULT_KEEP_DAYS = 30.0
"""The number of days after which segments are removed."""

DEFAULT_KEEP_BYTES = 1024 * 1024 * 1024
"""The size in bytes of all segments beyond which the oldest are removed."""

DEFAULT_FOLLOW_UP_ACTIONS = (
    "crackerjack",
    "crackerjack run",
    "eventbus crackerjack",
    "gh pr",
    "gh release",
    "git commit",
    "git merge",
    "git push",
    "git tag",
    "twine upload",
    "uv publish",
)
"""The commands that count as follow-up actions of an agent's skill."""

ProgressMode: TypeAlias = Literal["auto", "tty", "plain", "quiet", "json"]
"""How progress is shown: `plain` lines, `quiet` (problems and ends of workflows only), `json` (one object
per event), `tty` (as `plain`; there is no live region yet), or whichever fits the stream (`auto`)."""

SyncPolicy: TypeAlias = Literal["never", "interval", "always"]
"""When written events are made to reach the disk."""

_VARIABLES = {
    "directory": "EVENTBUS_DIR",
    "progress": "EVENTBUS_PROGRESS",
    "sync": "EVENTBUS_SYNC",
    "segment_bytes": "EVENTBUS_SEGMENT_BYTES",
    "keep_days": "EVENTBUS_KEEP_DAYS",
    "keep_bytes": "EVENTBUS_KEEP_BYTES",
}
_HINTS = {
    "directory": "a path",
    "progress": "one of auto, tty, plain, quiet, json",
    "disabled": "a list of plugin names",
    "sync": "one of never, interval, always",
    "segment_bytes": "a positive number",
    "keep_days": "a number that is not negative",
    "keep_bytes": "a number that is not negative",
    "follow_up_actions": "a list of commands such as 'git commit', each without arguments",
}

_logger = logging.getLogger("eventbus.settings")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings.

    Attributes:
        directory: The directory of the event log.
        progress: How progress is shown.
        disabled: The names of plugins not to load. By default the event logger: progress shows the
            same events.
        sync: When written events are made to reach the disk.
        segment_bytes: The size in bytes beyond which another segment of the log is begun.
        keep_days: For how many days after its last event a segment is kept; 0: no limit.
        keep_bytes: How many bytes of segments are kept in all; 0: no limit.
        follow_up_actions: The commands of an agent, by their first words, that are recorded as follow-up
            actions of its skills. Nothing else of a command is.
    """

    directory: Path = Path(DEFAULT_DIRECTORY)
    progress: ProgressMode = "auto"
    disabled: tuple[str, ...] = ("event_logger",)
    sync: SyncPolicy = "interval"
    segment_bytes: Annotated[int, msgspec.Meta(gt=0)] = DEFAULT_SEGMENT_BYTES
    keep_days: Annotated[float, msgspec.Meta(ge=0)] = DEFAULT_KEEP_DAYS
    keep_bytes: Annotated[int, msgspec.Meta(ge=0)] = DEFAULT_KEEP_BYTES
    follow_up_actions: tuple[str, ...] = DEFAULT_FOLLOW_UP_ACTIONS


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
    file = _nearest_file(start)
    try:
        table = {} if file is None else _read_table(file)
    except SettingsError:
        if not ignore_unreadable:
            raise
        table = {}
    settings = _convert(table, f"{file}: [tool.eventbus]")
    project = start if file is None else file.parent
    settings = msgspec.structs.replace(settings, directory=project / settings.directory)
    found = _from_environment(os.environ if environment is None else environment)
    return msgspec.structs.replace(settings, **found)


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


def _absolute(start: Path) -> Path:
    try:
        return start.absolute()
    except OSError:  # the working directory was deleted: there is no project
        return start


def _environment_directory() -> Path | None:
    variable = _VARIABLES["directory"]
    try:
        return _from_environment({variable: os.environ.get(variable, "")}).get("directory")
    except SettingsError as error:
        _warn_once(printable(error.problem))
        return None


def _project_directory(start: Path) -> Path:
    file = _nearest_file(start)
    if file is None:
        return start / DEFAULT_DIRECTORY
    try:
        table = {key: value for key, value in _read_table(file).items() if key == "directory"}
        return file.parent / _convert(table, f"{file}: [tool.eventbus]").directory
    except SettingsError as error:
        _warn_once(printable(error.problem))
        return file.parent / DEFAULT_DIRECTORY


@lru_cache(maxsize=64)
def _warn_once(problem: str) -> None:
    _logger.warning("a setting is ignored: %s", problem)


def _nearest_file(start: Path) -> Path | None:
    candidates = (directory / "pyproject.toml" for directory in (start, *start.parents))
    # `Path.is_file` raises PermissionError where a directory above is private.
    return next((file for file in candidates if os.path.isfile(file)), None)  # noqa: PTH113


def _read_table(file: Path) -> dict[str, Any]:
    """Return the table of a file, empty if it has none."""
    try:
        state = file.stat()
        document = _parse(file, state.st_ino, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise SettingsError(f"{file}: {error}", "Make it a TOML file that can be read") from error
    try:
        return msgspec.convert(document, _Document).tool.eventbus
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file}: {error}", "Make it a table") from error


@lru_cache(maxsize=16)  # parsing takes milliseconds, and each `EventLog()` looks for its directory
def _parse(file: Path, *state: int) -> dict[str, Any]:  # noqa: ARG001 - a changed file is parsed again
    import tomllib  # noqa: PLC0415 - only where there is a file

    return tomllib.loads(file.read_text(encoding="utf-8"))


class _Tool(msgspec.Struct):
    eventbus: dict[str, Any] = {}


class _Document(msgspec.Struct):
    tool: _Tool = msgspec.field(default_factory=_Tool)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, variable in _VARIABLES.items():
        value = environment.get(variable)
        if value:
            settings = _convert({key: value}, f"the environment: {variable}", strict=False)
            found[key] = getattr(settings, key)
    return found


def _convert(table: dict[str, Any], where: str, *, strict: bool = True) -> Settings:
    try:
        return msgspec.convert(table, Settings, dec_hook=_as_path, strict=strict)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}", _hint(table, strict=strict)) from error


def _hint(table: dict[str, Any], *, strict: bool) -> str:
    """Return what the first wrong setting must be."""
    for key, value in table.items():
        if key not in _HINTS:
            return f"The settings are {', '.join(_HINTS)}"
        try:
            msgspec.convert({key: value}, Settings, dec_hook=_as_path, strict=strict)
        except msgspec.ValidationError:
            return f"Give {key} {_HINTS[key]}"
    return "Make it a table"


def _as_path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # there is no such user
            raise ValueError(str(error)) from error
    raise ValueError(f"Expected a path, got {value!r}")
