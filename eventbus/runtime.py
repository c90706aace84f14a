"""The composition root: settings and plugins become a bus.

    runtime = build_runtime(load_settings())
    with runtime.bus as bus:
        ...

The built-in subscribers are found by their entry points, as any others are. This module knows their
names, and the settings that they take.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from eventbus.bus import EventBus
from eventbus.contracts import Subscriber
from eventbus.errors import PluginError
from eventbus.events.printable import printable
from eventbus.plugins import FailedPlugin, Plugin, find_plugins, load_plugins
from eventbus.settings import Settings, load_settings
from eventbus.similar_names import did_you_mean, form_of
from eventbus.warned_once import warn_once

__all__ = ["Runtime", "build_runtime", "unknown_plugins"]

_PERSISTER = "json_persister"


@dataclass(frozen=True, slots=True)
class Runtime:
    """A bus with the installed subscribers.

    Attributes:
        bus: The bus, not entered yet.
        settings: The settings it was built from.
        subscribers: Its subscribers, by the name of their plugin.
        failed: The plugins that could not be loaded.
    """

    bus: EventBus
    settings: Settings
    subscribers: Mapping[str, Subscriber[Any]]
    failed: tuple[FailedPlugin, ...]

    def correlation_report(self) -> str | None:
        """Return the report of the live correlator as text; None without one."""
        correlator: object = self.subscribers.get("live_correlator")
        return correlator.report() if isinstance(correlator, _Reports) else None


@runtime_checkable
class _Reports(Protocol):
    def report(self) -> str: ...


def build_runtime(
    settings: Settings | None = None, *, only: Collection[str] | None = None, without: Collection[str] = ()
) -> Runtime:
    """Make a bus, and subscribe every plugin that is not disabled.

    Args:
        settings: By default those in force in the working directory.
        only: The names of the plugins to subscribe; None for all.
        without: The names of plugins not to subscribe.

    Raises:
        SettingsError: `settings` is None, and a setting in force is wrong.
        PluginError: The persister is wanted and cannot be loaded, so that no event would be stored.
            Other plugins that cannot be loaded are listed in `Runtime.failed`.
    """
    settings = load_settings() if settings is None else settings
    plugins = find_plugins()
    wanted = {_PERSISTER, *(plugin.name for plugin in plugins)} if only is None else set(only)
    for problem in unknown_plugins(settings, plugins):
        warn_once("eventbus.settings", problem)
    wanted -= settings.left_out.union(without)
    loaded = load_plugins(
        [plugin for plugin in plugins if plugin.name in wanted],
        options=_options(settings),
        tables={name: settings.options_of(name) for name in wanted},
    )
    if _PERSISTER in wanted and _PERSISTER not in loaded.loaded:
        raise _not_stored(loaded.failed)
    return Runtime(EventBus(loaded.loaded.values()), settings, loaded.loaded, tuple(loaded.failed))


def unknown_plugins(settings: Settings, plugins: Iterable[Plugin]) -> list[str]:
    """Return a line for each name in the settings that no plugin has, with its place and the nearest name.

    Args:
        settings: The settings.
        plugins: The installed plugins.
    """
    names = {plugin.name for plugin in plugins}
    forms = {form_of(name) for name in names}
    places = {
        name: next((option.place for option in options.values()), "the settings")
        for name, options in settings.plugins.items()
        if form_of(name) not in forms
    }
    listed = {*settings.disabled, *settings.enabled} - names
    places |= {name: settings.origins.get(f"plugins.{name}", "the settings") for name in sorted(listed)}
    return [
        f"{place}: no plugin {printable(name)!r} is installed{did_you_mean(name, names)}"
        for name, place in places.items()
    ]


def _options(settings: Settings) -> dict[str, dict[str, Any]]:
    return {
        "console_progress": {"mode": settings.progress, "directory": settings.directory},
        _PERSISTER: {
            "directory": settings.directory,
            "sync": settings.sync,
            "segment_bytes": settings.segment_bytes,
            "keep_days": settings.keep_days,
            "keep_bytes": settings.keep_bytes,
        },
    }


def _not_stored(failed: Collection[FailedPlugin]) -> PluginError:
    found = next((each for each in failed if each.plugin.name == _PERSISTER), None)
    if found is None:
        problem, cure = "it is not installed", "Install eventbus with pip"
    else:
        problem, cure = found.reason, f"Check {_origin(found.plugin)}"
    return PluginError(
        f"events cannot be stored, because the plugin {_PERSISTER} was not loaded: {problem}",
        f'{cure}, or run without storing: disabled = ["{_PERSISTER}"] in [tool.eventbus] of pyproject.toml',
    )


def _origin(plugin: Plugin) -> str:
    """Return the file from which the package of a plugin is imported; it may hide the installed one."""
    package = plugin.target.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    return (spec and spec.origin) or f"the package {package}"
