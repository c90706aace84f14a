"""The settings in the environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from eventbus.events.printable import printable
from eventbus.ground.similar_names import nearest_name
from eventbus.ground.warned_once import warn_once
from eventbus.running_node import NODE_VARIABLE
from eventbus.session import SESSION_VARIABLE
from eventbus.settings.tables import KEYS, LOGGER, MAX_PROBLEM, Table

__all__ = ["environment_table", "warn_of_misspelt"]

_OPTION = "EVENTBUS_PLUGINS__"
"""The beginning of ``EVENTBUS_PLUGINS__SLOW_NODES__LIMIT_SECONDS``; two underscores, as names contain one."""

_NATS = "EVENTBUS_NATS_"
"""The beginning of ``EVENTBUS_NATS_URL``."""

_VARIABLES = {key: f"EVENTBUS_{key.upper()}" for key in KEYS} | {
    "directory": "EVENTBUS_DIR",
    "plugins": _OPTION,
    "nats": _NATS,
}
_TABLES = ("plugins", "nats")
_BY_NAME = {key: variable for key, variable in _VARIABLES.items() if key not in _TABLES} | {
    "dir": "EVENTBUS_DIR"
}
_KNOWN = frozenset({*_BY_NAME.values(), NODE_VARIABLE, SESSION_VARIABLE})
_LISTS = ("disabled", "enabled", "follow_up_actions")


def environment_table(environment: Mapping[str, str], keys: Collection[str] = tuple(KEYS)) -> Table:
    """Return the settings that the environment has for some keys; an empty variable counts as unset."""
    texts = {key: environment.get(_VARIABLES[key], "") for key in keys}
    entries = {key: _value(key, text) for key, text in texts.items() if text}
    if "plugins" in keys:
        entries["plugins"] = _options(environment)
    if "nats" in keys:
        entries["nats"] = {
            variable.removeprefix(_NATS).lower(): text
            for variable, text in environment.items()
            if variable.startswith(_NATS) and text
        }
    return Table("the environment", entries, variables=_VARIABLES)


def warn_of_misspelt(environment: Mapping[str, str]) -> None:
    """Log one warning for each variable whose name is nearly that of a setting: it has no effect."""
    for variable in environment:
        prefix, _, name = variable.partition("EVENTBUS_")
        if prefix or variable in _KNOWN or variable.startswith((_OPTION, _NATS)):
            continue
        nearest = nearest_name(name, _BY_NAME)
        if nearest:
            problem = f"the environment: {variable} is ignored; did you mean {_BY_NAME[nearest]!r}?"
            warn_once(LOGGER, printable(problem, MAX_PROBLEM))


def _value(key: str, text: str) -> object:
    if key not in _LISTS:
        return text
    return [name for name in map(str.strip, text.split(",")) if name]


def _options(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = {}
    for variable, text in environment.items():
        plugin, _, key = variable.removeprefix(_OPTION).partition("__")
        if variable.startswith(_OPTION) and text and key:
            options.setdefault(plugin.lower(), {})[key.lower()] = text
    return options
