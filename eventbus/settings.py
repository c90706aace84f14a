"""Settings: what a project says in ``[tool.eventbus]`` of its pyproject.toml, and the environment.

    [tool.eventbus]
    directory = ".session-buddy"   # EVENTBUS_DIR
    progress = "plain"             # EVENTBUS_PROGRESS
    disabled = ["event_logger"]
    sync = "interval"              # EVENTBUS_SYNC: never, interval, always
    segment_bytes = 16_777_216     # EVENTBUS_SEGMENT_BYTES
    keep_days = 30                 # EVENTBUS_KEEP_DAYS; 0: for ever
    keep_bytes = 1_073_741_824     # EVENTBUS_KEEP_BYTES; 0: any number

The environment wins; a variable that is empty counts as unset.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from eventbus.errors import SettingsError

__all__ = ["DEFAULT_DIRECTORY", "ProgressMode", "Settings", "load_settings"]

DEFAULT_DIRECTORY = ".session-buddy"
"""Where the event log lives, within the project, unless told otherwise."""

ProgressMode: TypeAlias = Literal["auto", "tty", "plain", "quiet", "json"]
"""How progress is shown; ``auto`` looks at where it goes."""

SyncPolicy: TypeAlias = Literal["never", "interval", "always"]
"""When the event log is made to reach the disk."""

_VARIABLES = {
    "directory": "EVENTBUS_DIR",
    "progress": "EVENTBUS_PROGRESS",
    "sync": "EVENTBUS_SYNC",
    "segment_bytes": "EVENTBUS_SEGMENT_BYTES",
    "keep_days": "EVENTBUS_KEEP_DAYS",
    "keep_bytes": "EVENTBUS_KEEP_BYTES",
}
_HINT = (
    "Give directory a path, progress one of auto, tty, plain, quiet, json, disabled a list of plugin "
    "names, sync one of never, interval, always, segment_bytes a positive number, and keep_days and "
    "keep_bytes one that is not negative"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set.

    Attributes:
        directory: Where the event log lives.
        progress: How progress is shown.
        disabled: The names of plugins not to load. The event logger is one of them unless told
            otherwise: what it logs is what progress shows.
        sync: When the event log is made to survive a power cut.
        segment_bytes: How large a file of the log may grow.
        keep_days: For how many days after its last record such a file is kept; 0: for ever.
        keep_bytes: How many bytes of them are kept in all; 0: any number.
    """

    directory: Path = Path(DEFAULT_DIRECTORY)
    progress: ProgressMode = "auto"
    disabled: tuple[str, ...] = ("event_logger",)
    sync: SyncPolicy = "interval"
    segment_bytes: Annotated[int, msgspec.Meta(gt=0)] = 16 * 1024 * 1024
    keep_days: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    keep_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1024 * 1024 * 1024


def load_settings(
    start: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    ignore_unreadable: bool = False,
) -> Settings:
    """Return the settings in force.

    A relative directory is within the project if the project's file says it or nobody does, and
    within the working directory if the environment says it.

    Args:
        start: Where the search for the nearest pyproject.toml begins, going up; by default the
            working directory.
        environment: The environment; by default the process's.
        ignore_unreadable: Let a file that cannot be read, or is no TOML, set nothing: for whoever
            looks into that file anyway, and tells.

    Raises:
        SettingsError: The file cannot be read, or a setting in it or in the environment be used.
    """
    start = (start or Path()).absolute()
    file = _nearest_file(start)
    try:
        table = {} if file is None else _table(file)
    except SettingsError:
        if not ignore_unreadable:
            raise
        table = {}
    settings = _convert(table, f"{file}: [tool.eventbus]")
    project = start if file is None else file.parent
    settings = msgspec.structs.replace(settings, directory=project / settings.directory)
    given = _given_by(os.environ if environment is None else environment)
    return msgspec.structs.replace(settings, **given)


def _nearest_file(start: Path) -> Path | None:
    candidates = (directory / "pyproject.toml" for directory in (start, *start.parents))
    return next((file for file in candidates if file.is_file()), None)


def _table(file: Path) -> dict[str, Any]:
    """Return the file's own table, empty if it has none."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise SettingsError(f"{file}: {error}", "Make it a TOML file that can be read") from error
    return _as_tables(document, file).tool.eventbus


def _as_tables(document: dict[str, Any], file: Path) -> _Document:
    try:
        return msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file}: {error}", "Make it a table") from error


class _Tool(msgspec.Struct):
    eventbus: dict[str, Any] = {}


class _Document(msgspec.Struct):
    tool: _Tool = msgspec.field(default_factory=_Tool)


def _given_by(environment: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key, variable in _VARIABLES.items():
        value = environment.get(variable)
        if value:
            given[key] = getattr(_convert({key: value}, f"the environment: {variable}", strict=False), key)
    return given


def _convert(table: dict[str, Any], where: str, *, strict: bool = True) -> Settings:
    try:
        return msgspec.convert(table, Settings, dec_hook=_as_path, strict=strict)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}", _HINT) from error


def _as_path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    raise ValueError(f"Expected a path, got {value!r}")
