"""One table of settings, from a file or the environment: its keys and values are checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from eventbus.errors import SettingsError
from eventbus.settings.values import Settings
from eventbus.similar_names import did_you_mean

__all__ = ["KEYS", "Table"]

KEYS = {
    "directory": "a path",
    "progress": "one of auto, tty, plain, quiet, json",
    "disabled": "a list of plugin names",
    "enabled": "a list of plugin names",
    "sync": "one of never, interval, always",
    "segment_bytes": "a positive number",
    "keep_days": "a number that is not negative",
    "keep_bytes": "a number that is not negative",
    "follow_up_actions": "a list of commands such as 'git commit', each without arguments",
}
"""The keys, and what to give them."""

_TYPES = {field.name: field.type for field in msgspec.structs.fields(Settings)}


@dataclass(frozen=True, slots=True)
class Table:
    """The settings of one place.

    Attributes:
        place: The place, for messages.
        entries: Its keys and values, unchecked.
        variables: For the environment, the variables that its keys are read from. Numbers are looked for in
            their text.
    """

    place: str
    entries: Mapping[str, Any]
    variables: Mapping[str, str] | None = None

    def origin(self, key: str) -> str:
        """Return the place of a key, for messages."""
        return f"{self.place}: {self._shown(key)}"

    def checked(self) -> dict[str, Any]:
        """Return the values by their keys.

        Raises:
            SettingsError: A key is unknown, a value is wrong, or a plugin is both disabled and enabled.
        """
        values = {key: self._value(key, value) for key, value in self.entries.items()}
        for name in values.get("disabled", ()):
            if name in values.get("enabled", ()):
                problem = f"{self.place}: the plugin {name!r} is both disabled and enabled"
                raise SettingsError(problem, "Leave it in one of the lists")
        return values

    def _value(self, key: str, value: object) -> Any:
        if key not in KEYS:
            raise SettingsError(
                f"{self.origin(key)} is not a setting{did_you_mean(key, KEYS)}",
                f"The settings are {', '.join(KEYS)}",
            )
        try:
            return msgspec.convert(value, _TYPES[key], dec_hook=_as_path, strict=self.variables is None)
        except msgspec.ValidationError as error:
            raise SettingsError(
                f"{self.origin(key)}: {error}", f"Give {self._shown(key)} {KEYS[key]}"
            ) from error

    def _shown(self, key: str) -> str:
        return key if self.variables is None else self.variables[key]


def _as_path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # there is no such user
            raise ValueError(str(error)) from error
    raise ValueError(f"Expected a path, got {value!r}")
