"""Find subscribers by entry point: a subscriber is plugged in by installing its package.

    [project.entry-points."eventbus.subscribers"]
    slow_nodes = "my_package.slow_nodes:SlowNodes"

An entry point names a `Subscriber` class, or a function that makes a subscriber. Its table in the settings
becomes its arguments (`options`). A plugin that cannot be loaded is reported with its reason, and
affects no other plugin.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from eventbus import __version__
from eventbus.contracts import Subscriber
from eventbus.errors import PluginError
from eventbus.ground.distribution import DISTRIBUTION, without_variants
from eventbus.plugins.loading import LOAD_SECONDS, Loading
from eventbus.plugins.options import Options
from eventbus.plugins.subscribers import SUBSCRIBERS, make_subscriber

__all__ = [
    "PATIENCE_SECONDS",
    "FailedPlugin",
    "LoadedPlugins",
    "Plugin",
    "find_plugins",
    "load_plugins",
    "reason_of",
]

PATIENCE_SECONDS = 0.25
"""The next plugin begins to load after this time at the latest: several that hang cost one deadline."""

_OWN_PACKAGE = "eventbus_subscribers"
_BUILT_IN = {
    "console_progress": "eventbus_subscribers.console_progress:ConsoleProgress",
    "event_logger": "eventbus_subscribers.event_logger:EventLogger",
    "json_persister": "eventbus_subscribers.json_persister:JsonPersister",
    "live_correlator": "eventbus_subscribers.live_correlator:LiveCorrelator",
    "otel_spans": "eventbus_subscribers.otel_spans:OtelSpans",
}
"""The entry points of pyproject.toml, for a program without the metadata of its distributions."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A subscriber, or event classes, that an installed distribution offers.

    Attributes:
        name: Its name in the group.
        distribution: The name of the distribution.
        target: Its place, as ``module:attribute``.
        group: The group of its entry point.
        version: The version of the distribution; empty if it is unknown.
        requires: The versions of eventbus that it asks for, as ``anyio-eventbus>=2``; empty if any.
    """

    name: str
    distribution: str
    target: str
    group: str = SUBSCRIBERS
    version: str = field(default="", compare=False)
    requires: str = field(default="", compare=False)

    def begin_loading(self, table: Options | None = None, **options: Any) -> Loading[Subscriber[Any]]:
        """Begin to import the plugin and to make its subscriber, in a daemon thread.

        Args:
            table: The options in its table of the settings; they become arguments.
            **options: The arguments to call it with, which its table cannot replace.
        """
        return Loading(self.name, partial(make_subscriber, self.name, self.target, table or {}, options))

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
        return self.begin_loading(table, **options).result(timeout)


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


def find_plugins(group: str = SUBSCRIBERS) -> list[Plugin]:
    """Return the plugins of all installed distributions, without importing them.

    The built-in ones come first, the others are sorted by distribution and name. In a frozen program, a
    zipapp or a bare directory on the path, which have no entry points, the built-in ones are found; pass
    others to `EventBus` yourself.

    Args:
        group: The entry-point group.
    """
    found: dict[str, list[Plugin]] = {}
    for distribution in importlib.metadata.distributions():
        plugins = _plugins_of(distribution, group)
        if plugins:
            # A distribution may be on the path twice; Python imports the first one.
            found.setdefault(plugins[0].distribution, plugins)
    if group == SUBSCRIBERS and DISTRIBUTION not in found and _is_there(_OWN_PACKAGE):
        found[DISTRIBUTION] = [Plugin(name, DISTRIBUTION, at) for name, at in _BUILT_IN.items()]
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
    started: dict[str, tuple[Plugin, Loading[Subscriber[Any]]]] = {}
    for plugin in find_plugins() if plugins is None else plugins:
        if plugin.name in disabled:
            continue
        if plugin.name in started:
            owner = started[plugin.name][0]
            reason = f"the name is taken by {owner.target} of {owner.distribution}"
            result.failed.append(FailedPlugin(plugin, reason))
            continue
        given, table = (options or {}).get(plugin.name, {}), (tables or {}).get(plugin.name)
        loading = plugin.begin_loading(table, **given)
        started[plugin.name] = plugin, loading
        loading.wait(min(PATIENCE_SECONDS, timeout))
    for plugin, loading in started.values():
        try:
            result.loaded[plugin.name] = loading.result(timeout)
        except PluginError as error:
            result.failed.append(FailedPlugin(plugin, reason_of(plugin, error)))
    return result


def reason_of(plugin: Plugin, error: PluginError) -> str:
    """Return the reason of a failure, with the version of eventbus that the plugin asks for, if it does."""
    may_be_version = isinstance(error.__cause__, (ImportError, AttributeError, TypeError))
    if not (plugin.requires and may_be_version):
        return str(error)
    return f"{error} (it requires {plugin.requires}; {DISTRIBUTION} {__version__} is installed)"


def _plugins_of(distribution: importlib.metadata.Distribution, group: str) -> list[Plugin]:
    try:
        points = _entry_points(distribution, group)
        if not points:
            return []
        name = without_variants(str(distribution.metadata["Name"]))
        version, requires = str(distribution.metadata["Version"] or ""), _requirement(distribution)
        return [Plugin(point, name, target, group, version, requires) for point, target in points]
    except Exception as error:  # noqa: BLE001 - broken metadata affects its own distribution only
        _logger.debug("the metadata of a distribution cannot be read: %s", type(error).__name__)
        return []


def _entry_points(distribution: importlib.metadata.Distribution, group: str) -> list[tuple[str, str]]:
    """Return the names and targets of a distribution's plugins, malformed targets included."""
    try:
        return [(point.name, point.value) for point in distribution.entry_points.select(group=group)]
    except ValueError:  # since Python 3.15 one malformed target hides all of the distribution
        from configparser import ConfigParser  # noqa: PLC0415 - otherwise it is not needed

        parser = ConfigParser(delimiters=("=",), strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(distribution.read_text("entry_points.txt") or "")
        return parser.items(group) if parser.has_section(group) else []


def _requirement(distribution: importlib.metadata.Distribution) -> str:
    """Return the requirement of a distribution on versions of eventbus, without its other parts."""
    for line in distribution.requires or ():
        requirement = line.partition(";")[0].replace(" ", "").replace("(", "").replace(")", "")
        name = re.split(r"[\[<>=!~]", requirement, maxsplit=1)[0]
        if name != requirement and without_variants(name) == DISTRIBUTION:
            return requirement
    return ""


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is barred, or was imported by an unusual loader
        return sys.modules.get(package) is not None


def _rank(plugin: Plugin) -> tuple[bool, str, str]:
    # Built-in plugins first: of two with the same name the first is loaded, so no installed package
    # replaces a built-in one.
    return plugin.distribution != DISTRIBUTION, plugin.distribution, plugin.name
