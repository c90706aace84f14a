"""Make the subscriber of a plugin: import its target, call it with its options, check the result."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from eventbus.contracts import Subscriber
from eventbus.delivery.handlers import check_options, check_subscriber
from eventbus.errors import PluginError
from eventbus.event_classes import event_classes
from eventbus.plugins.options import Options, arguments_of, missing_options

__all__ = ["SUBSCRIBERS", "make_subscriber"]

SUBSCRIBERS = "eventbus.subscribers"
"""The entry-point group in which subscribers are registered."""


def make_subscriber(name: str, target: str, table: Options, given: Mapping[str, Any]) -> Subscriber[Any]:
    """Import a plugin, and make its subscriber.

    Args:
        name: The name of the plugin.
        target: Its place, as ``module:attribute``.
        table: The options in its table of the settings.
        given: The arguments that its table cannot replace.

    Raises:
        PluginError: It is not a subscriber, or an option is missing. Its own code may raise anything.
    """
    maker = importlib.metadata.EntryPoint(name, target, SUBSCRIBERS).load()
    if not callable(maker):
        raise PluginError(f"{target} is {_kind(maker)}, neither a Subscriber class nor a function")
    made: object = maker(**_arguments(name, maker, table, given))
    if not isinstance(made, Subscriber):
        raise PluginError(f"{target} makes {_kind(made)}, not a Subscriber")
    event_classes(made.events)
    check_options(made.capacity, made.overflow, made.key)
    check_subscriber(made)
    return made


def _arguments(name: str, maker: Any, table: Options, given: Mapping[str, Any]) -> dict[str, Any]:
    arguments = arguments_of(maker, table, given)
    missing = missing_options(maker, arguments)
    if missing:
        raise PluginError(
            f"it needs the option {', '.join(missing)}", f"Set it in [tool.eventbus.plugins.{name}]"
        )
    return arguments


def _kind(value: object) -> str:
    return f"an instance of {type(value).__name__}"
