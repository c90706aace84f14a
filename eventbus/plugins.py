"""Find subscribers by entry point, so that installing a package is all it takes to plug one in.

    [project.entry-points."eventbus.subscribers"]
    slow_nodes = "my_package.slow_nodes:SlowNodes"

What an entry point names is a `Subscriber` class, or a function that makes one; it is called
without arguments. A plugin that cannot be used is reported with its reason, and never fatal: each
is loaded in a thread of its own, where it may raise anything, exit, or hang.
"""

from __future__ import annotations

import importlib.metadata
import logging
import re
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from eventbus.contracts import Subscriber
from eventbus.delivery.handlers import check_options, event_classes
from eventbus.errors import PluginError
from eventbus.events.printable import printable

__all__ = ["GROUP", "LOAD_SECONDS", "FailedPlugin", "LoadedPlugins", "Plugin", "find_plugins", "load_plugins"]

GROUP = "eventbus.subscribers"
"""The entry-point group in which subscribers are registered."""

LOAD_SECONDS = 5.0
"""A plugin that has not loaded after so long is reported as failed."""

_OWN_DISTRIBUTION = "eventbus"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A subscriber that some installed distribution offers.

    Attributes:
        name: Its name in the group.
        distribution: What it came with.
        target: Where it is, as ``module:attribute``.
    """

    name: str
    distribution: str
    target: str

    def load(self, *, timeout: float = LOAD_SECONDS, **options: Any) -> Subscriber[Any]:
        """Import the plugin, and make its subscriber.

        It happens in a daemon thread: one that hangs is left behind.

        Args:
            timeout: The most seconds it may take.
            **options: What to call it with; third-party plugins take nothing.

        Raises:
            PluginError: It cannot be used; the message is the reason, the cause is what it raised.
        """
        outcome: SimpleQueue[Subscriber[Any] | BaseException] = SimpleQueue()
        threading.Thread(
            target=self._load_into, args=(outcome, options), name=f"eventbus-load-{self.name}", daemon=True
        ).start()
        try:
            made = outcome.get(timeout=timeout)
        except Empty:
            raise PluginError(f"it did not load within {timeout:g} s") from None
        if isinstance(made, PluginError):
            raise made
        if isinstance(made, BaseException):
            raise PluginError(_reason(made)) from made
        return made

    def _load_into(
        self, outcome: SimpleQueue[Subscriber[Any] | BaseException], options: dict[str, Any]
    ) -> None:
        try:
            outcome.put(self._make(options))
        except BaseException as error:  # noqa: BLE001 - SystemExit, too: it is reported, never fatal
            outcome.put(error)

    def _make(self, options: dict[str, Any]) -> Subscriber[Any]:
        target = importlib.metadata.EntryPoint(self.name, self.target, GROUP).load()
        if not callable(target):
            raise PluginError(f"{self.target} is {_kind(target)}, neither a Subscriber class nor a function")
        made: object = target(**options)
        if not isinstance(made, Subscriber):
            raise PluginError(f"{self.target} makes {_kind(made)}, not a Subscriber")
        event_classes(made.events)
        check_options(made.capacity, made.overflow, made.key)
        return made


@dataclass(frozen=True, slots=True)
class FailedPlugin:
    """A plugin that cannot be used.

    Attributes:
        plugin: Which one.
        reason: Why, on one line.
    """

    plugin: Plugin
    reason: str


@dataclass(frozen=True, slots=True)
class LoadedPlugins:
    """What came of loading plugins.

    Attributes:
        loaded: The subscribers that can be used, by the name of their plugin.
        failed: The plugins that cannot.
    """

    loaded: dict[str, Subscriber[Any]] = field(default_factory=dict[str, Subscriber[Any]])
    failed: list[FailedPlugin] = field(default_factory=list[FailedPlugin])


def find_plugins() -> list[Plugin]:
    """Return the plugins of all installed distributions, without importing any.

    The built-in ones come first, then the others by distribution, each distribution's by name.
    """
    found: dict[str, list[Plugin]] = {}
    for distribution in importlib.metadata.distributions():
        plugins = _plugins_of(distribution)
        if plugins:
            # One distribution may be on the path twice; what comes first is what gets imported.
            found.setdefault(plugins[0].distribution, plugins)
    return sorted((plugin for plugins in found.values() for plugin in plugins), key=_rank)


def load_plugins(
    plugins: Iterable[Plugin] | None = None,
    *,
    disabled: Collection[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    timeout: float = LOAD_SECONDS,
) -> LoadedPlugins:
    """Load plugins, one after the other; of several with one name the first is loaded.

    Args:
        plugins: Which ones; by default all there are.
        disabled: The names of those to leave out.
        options: What to call the plugin of a name with, where it takes anything.
        timeout: The most seconds each may take.
    """
    outcome = LoadedPlugins()
    owners: dict[str, Plugin] = {}
    for plugin in find_plugins() if plugins is None else plugins:
        if plugin.name in disabled:
            continue
        owner = owners.setdefault(plugin.name, plugin)
        try:
            if owner is not plugin:
                raise PluginError(f"the name is taken by {owner.target} of {owner.distribution}")  # noqa: TRY301
            outcome.loaded[plugin.name] = plugin.load(timeout=timeout, **(options or {}).get(plugin.name, {}))
        except PluginError as error:
            outcome.failed.append(FailedPlugin(plugin, str(error)))
    return outcome


def _plugins_of(distribution: importlib.metadata.Distribution) -> list[Plugin]:
    try:
        points = distribution.entry_points.select(group=GROUP)
        if not points:
            return []
        name = re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()
        return [Plugin(point.name, name, point.value) for point in points]
    except Exception as error:  # noqa: BLE001 - its metadata is broken, and nobody else's
        _logger.debug("a distribution's metadata cannot be read: %s", type(error).__name__)
        return []


def _rank(plugin: Plugin) -> tuple[bool, str, str]:
    # Ours first: of two plugins with one name the first is loaded, and no package that happens to be
    # installed takes the place of a built-in one.
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
