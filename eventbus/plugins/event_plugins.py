"""Event classes that are plugged in, so that the commands decode the events of other packages.

    [project.entry-points."eventbus.events"]
    shop = "shop.events"

An entry point names a module, or one class of it as ``shop.events:DeployFinished``. Importing is all that
it takes, as a class is known once it is defined. A plugin that cannot be loaded affects no other; its
events stay what they were without it, unknown and whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eventbus.errors import PluginError
from eventbus.events import Event
from eventbus.plugins.event_classes import Owners, named_classes
from eventbus.plugins.finding import PATIENCE_SECONDS, FailedPlugin, Plugin, find_plugins, reason_of
from eventbus.plugins.loading import LOAD_SECONDS, Loading
from eventbus.plugins.quick_look import EVENTS

__all__ = ["find_event_plugins", "load_event_plugins"]


def find_event_plugins() -> list[Plugin]:
    """Return the event plugins of all installed distributions, without importing them."""
    return find_plugins(EVENTS)


def load_event_plugins(plugins: Sequence[Plugin]) -> list[FailedPlugin]:
    """Make the event classes of plugins known.

    Args:
        plugins: The plugins; where two use one wire name the class of the first has it.

    Returns:
        Those that could not be loaded, and those a class of which is refused, each with its reasons.
    """
    owners = Owners()
    started = [(plugin, _begin(plugin)) for plugin in plugins]
    failures = ((plugin, _problem(plugin, loading, owners)) for plugin, loading in started)
    return [FailedPlugin(plugin, problem) for plugin, problem in failures if problem]


def _begin(plugin: Plugin) -> Loading[list[type[Event]]]:
    loading = Loading(plugin.name, partial(named_classes, plugin.target))
    loading.wait(PATIENCE_SECONDS)
    return loading


def _problem(plugin: Plugin, loading: Loading[list[type[Event]]], owners: Owners) -> str:
    try:
        return "; ".join(owners.refusals(loading.result(LOAD_SECONDS)))
    except PluginError as error:
        return reason_of(plugin, error)
