"""The composition root: settings and plugins become a bus.

    runtime = build_runtime(load_settings())
    with runtime.bus as bus:
        ...

The built-in subscribers are found by their entry points, as any others are. This module knows their
names, and the settings that they take.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from eventbus.bus import EventBus
from eventbus.contracts import Subscriber
from eventbus.errors import PluginError
from eventbus.events.printable import printable
from eventbus.ground.similar_names import did_you_mean, form_of
from eventbus.ground.warned_once import warn_once
from eventbus.plugins.event_plugins import find_event_plugins, load_event_plugins
from eventbus.plugins.finding import FailedPlugin, LoadedPlugins, Plugin, find_plugins, load_plugins
from eventbus.plugins.quick_look import EVENTS
from eventbus.plugins.subscribers import SUBSCRIBERS
from eventbus.settings import Settings, load_settings

__all__ = ["PluginState", "Runtime", "build_runtime", "examine_plugins", "load_plugin", "unknown_plugins"]

_PERSISTER = "json_persister"
_MAX_PLACE = 500


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


@dataclass(frozen=True, slots=True)
class PluginState:
    """The state of an installed plugin.

    Attributes:
        plugin: The plugin.
        state: Whether it is loaded, was left out, or cannot be loaded.
        reason: The reason, on one line, unless it is ok.
        enable: How to load it, if it is disabled.
    """

    plugin: Plugin
    state: Literal["ok", "disabled", "failed"]
    reason: str = ""
    enable: str = ""


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
            Other plugins that cannot be loaded are listed in `Runtime.failed`, and logged once.
    """
    settings = load_settings() if settings is None else settings
    plugins = find_plugins()
    wanted = {_PERSISTER, *(plugin.name for plugin in plugins)} if only is None else set(only)
    for problem in unknown_plugins(settings, plugins):
        warn_once("eventbus.settings", problem)
    wanted -= settings.left_out.union(without)
    loaded = _load(settings, [plugin for plugin in plugins if plugin.name in wanted])
    if _PERSISTER in wanted and _PERSISTER not in loaded.loaded:
        raise _not_stored(loaded.failed)
    for each in loaded.failed:
        origin = printable(f"{each.plugin.name} of {each.plugin.distribution}")
        warn_once("eventbus.plugins", f"plugin {origin} was not loaded: {each.reason}")
    return Runtime(EventBus(loaded.loaded.values()), settings, loaded.loaded, tuple(loaded.failed))


def examine_plugins(settings: Settings, found: Sequence[Plugin]) -> list[PluginState]:
    """Load all plugins that are not disabled, and return the states of all.

    Args:
        settings: The settings.
        found: The installed plugins: subscribers, and those with event classes.
    """
    wanted = [plugin for plugin in found if plugin.name not in settings.left_out]
    subscribers = [plugin for plugin in wanted if plugin.group == SUBSCRIBERS]
    failed = _load(settings, subscribers).failed
    failed += load_event_plugins([plugin for plugin in wanted if plugin.group == EVENTS])
    reasons = {id(each.plugin): each.reason for each in failed}
    return [_state(settings, plugin, reasons.get(id(plugin))) for plugin in found]


def _state(settings: Settings, plugin: Plugin, reason: str | None) -> PluginState:
    if plugin.name not in settings.left_out:
        return PluginState(plugin, "ok") if reason is None else PluginState(plugin, "failed", reason)
    place = settings.origins.get(f"plugins.{plugin.name}")
    if place is None:
        cure = f'enabled = ["{plugin.name}"] in [tool.eventbus], or EVENTBUS_ENABLED={plugin.name}'
        return PluginState(plugin, "disabled", "off by default", cure)
    return PluginState(
        plugin, "disabled", f"disabled by {printable(place, _MAX_PLACE)}", "take it out of that list"
    )


def load_plugin(settings: Settings, plugin: Plugin) -> Subscriber[Any]:
    """Load one plugin with its settings, disabled or not.

    Args:
        settings: The settings.
        plugin: The plugin.

    Raises:
        PluginError: It cannot be loaded.
    """
    loaded = _load(settings, [plugin])
    for failed in loaded.failed:
        raise PluginError(failed.reason)
    return loaded.loaded[plugin.name]


def _load(settings: Settings, plugins: Sequence[Plugin]) -> LoadedPlugins:
    tables = {plugin.name: settings.options_of(plugin.name) for plugin in plugins}
    return load_plugins(plugins, options=_options(settings), tables=tables)


def unknown_plugins(settings: Settings, plugins: Iterable[Plugin]) -> list[str]:
    """Return a line for each name in the settings that no plugin has, with its place and the nearest name.

    Args:
        settings: The settings.
        plugins: The installed subscribers; those with event classes are looked for if a name is not theirs.
    """
    names = {plugin.name for plugin in plugins}
    if not names.issuperset([*settings.plugins, *settings.disabled, *settings.enabled]):
        names |= {plugin.name for plugin in find_event_plugins()}
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
