"""Find subscribers by entry point: a subscriber is plugged in by installing its package.

    [project.entry-points."eventbus.subscribers"]
    slow_nodes = "my_package.slow_nodes:SlowNodes"

An entry point names a `Subscriber` class, or a function that makes a subscriber. Its table in the settings
becomes its arguments (`plugin_options`). A plugin that cannot be loaded is reported with its reason, and
affects no other plugin: each is loaded in a thread of its own, where it may raise anything, exit, or hang.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from eventbus.contracts import Subscriber
from eventbus.delivery.handlers import check_options, check_subscriber
from eventbus.errors import PluginError, SettingsError
from eventbus.event_classes import event_classes
from eventbus.events.printable import printable
from eventbus.plugin_options import Options, arguments_of, missing_options

__all__ = ["GROUP", "LOAD_SECONDS", "FailedPlugin", "LoadedPlugins", "Plugin", "find_plugins", "load_plugins"]

GROUP = "eventbus.subscribers"
"""The entry-point group in which subscribers are registered."""

LOAD_SECONDS = 5.0
"""A plugin that has not loaded after this many seconds is reported as failed."""

_MAX_PROBLEM = 1_000

_OWN_DISTRIBUTION = "eventbus"
_OWN_PACKAGE = "eventbus_subscribers"
_BUILT_IN = {
    "console_progress": "eventbus_subscribers.console_progress:ConsoleProgress",
    "event_logger": "eventbus_subscribers.event_logger:EventLogger",
    "json_persister": "eventbus_subscribers.json_persister:JsonPersister",
    "live_correlator": "eventbus_subscribers.live_correlator:LiveCorrelator",
}
"""The entry points of pyproject.toml, for a program without the metadata of its distributions."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A subscriber that an installed distribution offers.

    Attributes:
        name: Its name in the group.
        distribution: The name of the distribution.
        target: Its place, as ``module:attribute``.
    """

    name: str
    distribution: str
    target: str

    def load(
        self, *, timeout: float = LOAD_SECONDS, table: Options | None = None, **options: Any
    ) -> Subscriber[Any]:
        """Import the plugin, and make its subscriber, in a daemon thread.

        Args:
            timeout: The most seconds it may take.
            table: The options in its table of the settings; they become arguments.
            **options: The arguments to call it with, which its table cannot replace.

        Raises:
            PluginError: It cannot be loaded; the message is the reason, and its exception the cause.
        """
        outcome: SimpleQueue[Subscriber[Any] | BaseException] = SimpleQueue()
        threading.Thread(
            target=self._load_into,
            args=(outcome, table or {}, options),
            name=f"eventbus-load-{self.name}",
            daemon=True,
        ).start()
        try:
            made = outcome.get(timeout=timeout)
        except Empty:
            raise PluginError(f"it did not load within {timeout:g} s") from None
        if isinstance(made, PluginError):
            raise made
        if isinstance(made, SettingsError):
            raise PluginError(printable(made.problem, _MAX_PROBLEM), made.hint) from made
        if isinstance(made, BaseException):
            raise PluginError(_reason(made)) from made
        return made

    def _load_into(
        self, outcome: SimpleQueue[Subscriber[Any] | BaseException], table: Options, options: dict[str, Any]
    ) -> None:
        try:
            outcome.put(self._make(table, options))
        except BaseException as error:  # noqa: BLE001 - SystemExit is reported, too
            outcome.put(error)

    def _make(self, table: Options, options: dict[str, Any]) -> Subscriber[Any]:
        target = importlib.metadata.EntryPoint(self.name, self.target, GROUP).load()
        if not callable(target):
            raise PluginError(f"{self.target} is {_kind(target)}, neither a Subscriber class nor a function")
        arguments = arguments_of(target, table, options)
        missing = missing_options(target, arguments)
        if missing:
            raise PluginError(
                f"it needs the option {', '.join(missing)}", f"Set it in [tool.eventbus.plugins.{self.name}]"
            )
        made: object = target(**arguments)
        if not isinstance(made, Subscriber):
            raise PluginError(f"{self.target} makes {_kind(made)}, not a Subscriber")
        event_classes(made.events)
        check_options(made.capacity, made.overflow, made.key)
        check_subscriber(made)
        return made


@dataclass(frozen=True, slots=True)
class FailedPlugin:
    """A plugin that could not be loaded.

    Attributes:
        plugin: The plugin.
        reason: The reason, on one line.
    """

    plugin: Plugin
    reason: str


@dataclass(frozen=True, slots=True)
class LoadedPlugins:
    """The result of loading plugins.

    Attributes:
        loaded: The subscribers, by the name of their plugin.
        failed: The plugins that could not be loaded.
    """

    loaded: dict[str, Subscriber[Any]] = field(default_factory=dict[str, Subscriber[Any]])
    failed: list[FailedPlugin] = field(default_factory=list[FailedPlugin])


def find_plugins() -> list[Plugin]:
    """Return the plugins of all installed distributions, without importing them.

    The built-in ones come first, the others are sorted by distribution and name. In a frozen program, a
    zipapp or a bare directory on the path, which have no entry points, the built-in ones are found; pass
    others to `EventBus` yourself.
    """
    found: dict[str, list[Plugin]] = {}
    for distribution in importlib.metadata.distributions():
        plugins = _plugins_of(distribution)
        if plugins:
            # A distribution may be on the path twice; Python imports the first one.
            found.setdefault(plugins[0].distribution, plugins)
    if _OWN_DISTRIBUTION not in found and _is_there(_OWN_PACKAGE):
        found[_OWN_DISTRIBUTION] = [Plugin(name, _OWN_DISTRIBUTION, at) for name, at in _BUILT_IN.items()]
    return sorted((plugin for plugins in found.values() for plugin in plugins), key=_rank)


def load_plugins(
    plugins: Iterable[Plugin] | None = None,
    *,
    disabled: Collection[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    tables: Mapping[str, Options] | None = None,
    timeout: float = LOAD_SECONDS,
) -> LoadedPlugins:
    """Load plugins, one after the other; of several with the same name the first is loaded.

    Args:
        plugins: The plugins; by default all that are installed.
        disabled: The names of plugins to leave out.
        options: The arguments of plugins that take any, by the name of the plugin.
        tables: The options in the settings, by the name of the plugin.
        timeout: The most seconds each may take.
    """
    result = LoadedPlugins()
    owners: dict[str, Plugin] = {}
    for plugin in find_plugins() if plugins is None else plugins:
        if plugin.name in disabled:
            continue
        owner = owners.setdefault(plugin.name, plugin)
        try:
            if owner is not plugin:
                raise PluginError(f"the name is taken by {owner.target} of {owner.distribution}")  # noqa: TRY301
            given, table = (options or {}).get(plugin.name, {}), (tables or {}).get(plugin.name)
            result.loaded[plugin.name] = plugin.load(timeout=timeout, table=table, **given)
        except PluginError as error:
            result.failed.append(FailedPlugin(plugin, str(error)))
    return result


def _plugins_of(distribution: importlib.metadata.Distribution) -> list[Plugin]:
    try:
        points = distribution.entry_points.select(group=GROUP)
        if not points:
            return []
        name = re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()
        return [Plugin(point.name, name, point.value) for point in points]
    except Exception as error:  # noqa: BLE001 - broken metadata affects its own distribution only
        _logger.debug("the metadata of a distribution cannot be read: %s", type(error).__name__)
        return []


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is barred, or was imported by an unusual loader
        return sys.modules.get(package) is not None


def _rank(plugin: Plugin) -> tuple[bool, str, str]:
    # Built-in plugins first: of two with the same name the first is loaded, so no installed package
    # replaces a built-in one.
    return plugin.distribution != _OWN_DISTRIBUTION, plugin.distribution, plugin.name


def _kind(value: object) -> str:
    return f"an instance of {type(value).__name__}"


def _reason(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = printable(str(error))
    except Exception:  # noqa: BLE001 - a hostile __str__
        return name
    return f"{name}: {text}" if text else name
