"""One table of settings, from a file or the environment: its keys and values are checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.ground.option_entry import Option, as_path
from eventbus.ground.similar_names import did_you_mean
from eventbus.ground.warned_once import warn_once
from eventbus.settings.values import Settings

__all__ = ["KEYS", "LOGGER", "MAX_PROBLEM", "Table"]

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
    "plugins": "a table for each plugin",
    "nats": "a table",
}
"""The keys, and what to give them."""

LOGGER = "eventbus.settings"
MAX_PROBLEM = 1_000

_TYPES = {field.name: field.type for field in msgspec.structs.fields(Settings)} | {
    "plugins": dict[str, Any],
    "nats": dict[str, Any],
}


class Table(msgspec.Struct, frozen=True):
    """The settings of one place.

    Attributes:
        place: The place, for messages.
        entries: Its keys and values, unchecked.
        header: The name of the table in its file.
        variables: For the environment, the variables that its keys are read from. Numbers are looked for in
            their text.
        project: The project whose pyproject.toml it is from.
    """

    place: str
    entries: Mapping[str, Any]
    header: str = ""
    variables: Mapping[str, str] | None = None
    project: Path | None = None

    def origin(self, key: str) -> str:
        """Return the place of a key, for messages."""
        header = f"[{self.header}]" if self.header else ""
        return ": ".join(filter(None, (self.place, header, self._shown(key))))

    def checked(self) -> dict[str, Any]:
        """Return the values by their keys; an unknown key is left out, with one warning.

        Raises:
            SettingsError: A value is wrong, or a plugin is both disabled and enabled.
        """
        values = {key: self._value(key, value) for key, value in self.entries.items() if self._is_known(key)}
        for name in values.get("disabled", ()):
            if name in values.get("enabled", ()):
                problem = f"{self.place}: the plugin {name!r} is both disabled and enabled"
                raise SettingsError(problem, "Leave it in one of the lists")
        return values

    def _is_known(self, key: str) -> bool:
        if key in KEYS:
            return True
        # No error: a file that is written for a newer version must not stop an older one.
        problem = f"{self.origin(key)} is ignored: there is no such setting{did_you_mean(key, KEYS)}"
        warn_once(LOGGER, printable(problem, MAX_PROBLEM))
        return False

    def _value(self, key: str, value: object) -> Any:
        try:
            found = msgspec.convert(value, _TYPES[key], dec_hook=as_path, strict=self.variables is None)
        except msgspec.ValidationError as error:
            raise SettingsError(
                f"{self.origin(key)}: {error}", f"Give {self._shown(key)} {KEYS[key]}"
            ) from error
        if key == "plugins":
            return {plugin: self._options(table, key, str(plugin)) for plugin, table in found.items()}
        return self._options(found, key) if key == "nats" else found

    def _options(self, table: object, *names: str) -> dict[str, Option]:
        if not isinstance(table, dict):
            raise SettingsError(
                f"{self.origin(names[0])}.{'.'.join(names[1:])} is not a table", "Make it a table"
            )
        is_text = self.variables is not None
        return {
            str(key): Option(value, self._origin_of_option(names, str(key)), is_text, self.project)
            for key, value in table.items()
        }

    def _origin_of_option(self, names: tuple[str, ...], key: str) -> str:
        if self.variables is not None:
            prefix = self.variables[names[0]]
            return f"{self.place}: {prefix}{'__'.join((*names[1:], key)).upper()}"
        header = ".".join(filter(None, (self.header, *names)))
        return f"{self.place}: [{header}]: {key}"

    def _shown(self, key: str) -> str:
        return key if self.variables is None else self.variables[key]
