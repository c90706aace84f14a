"""Subscribers that are plugged in: found by entry point, loaded one by one, and given their options."""

from eventbus.plugins.finding import (
    GROUP,
    LOAD_SECONDS,
    FailedPlugin,
    LoadedPlugins,
    Plugin,
    find_plugins,
    load_plugins,
)

__all__ = ["GROUP", "LOAD_SECONDS", "FailedPlugin", "LoadedPlugins", "Plugin", "find_plugins", "load_plugins"]
