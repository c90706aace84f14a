"""The settings in the environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from eventbus.settings.tables import KEYS, Table

__all__ = ["environment_table"]

_VARIABLES = {key: f"EVENTBUS_{key.upper()}" for key in KEYS} | {"directory": "EVENTBUS_DIR"}
_LISTS = ("disabled", "enabled", "follow_up_actions")


def environment_table(environment: Mapping[str, str], keys: Collection[str] = tuple(KEYS)) -> Table:
    """Return the settings that the environment has for some keys; an empty variable counts as unset."""
    texts = {key: environment.get(_VARIABLES[key], "") for key in keys}
    entries = {key: _value(key, text) for key, text in texts.items() if text}
    return Table("the environment", entries, _VARIABLES)


def _value(key: str, text: str) -> object:
    if key not in _LISTS:
        return text
    return [name for name in map(str.strip, text.split(",")) if name]
