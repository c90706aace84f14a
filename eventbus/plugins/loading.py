"""Load one plugin in a thread of its own, where it may raise anything, exit, or hang."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from eventbus.contracts import Subscriber
from eventbus.delivery.handlers import check_options, check_subscriber
from eventbus.errors import PluginError, SettingsError
from eventbus.event_classes import event_classes
from eventbus.events.printable import printable
from eventbus.plugins.options import Options, arguments_of, missing_options

__all__ = ["GROUP", "Loading"]

GROUP = "eventbus.subscribers"
"""The entry-point group in which subscribers are registered."""

_MAX_PROBLEM = 1_000


class Loading:
    """A plugin that is being imported and made, in a daemon thread, from the beginning on.

    Args:
        name: The name of the plugin.
        target: Its place, as ``module:attribute``.
        table: The options in its table of the settings.
        given: The arguments that its table cannot replace.
    """

    def __init__(self, name: str, target: str, table: Options, given: Mapping[str, Any]) -> None:
        self._name = name
        self._target = target
        self._table = table
        self._given = given
        self._began = time.monotonic()
        self._outcome: SimpleQueue[Subscriber[Any] | BaseException] = SimpleQueue()
        self._thread = Thread(target=self._run, name=f"eventbus-load-{name}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until the plugin has loaded or failed, and no longer than some seconds."""
        self._thread.join(seconds)

    def result(self, timeout: float) -> Subscriber[Any]:
        """Return the subscriber; to be called once.

        Args:
            timeout: The most seconds that loading may take, from its beginning.

        Raises:
            PluginError: It cannot be loaded; the message is the reason, and its exception the cause.
        """
        try:
            made = self._outcome.get(timeout=max(self._began + timeout - time.monotonic(), 0.0))
        except Empty:
            raise PluginError(f"it did not load within {timeout:g} s") from None
        if isinstance(made, PluginError):
            raise made
        if isinstance(made, SettingsError):
            raise PluginError(printable(made.problem, _MAX_PROBLEM), made.hint) from made
        if isinstance(made, BaseException):
            raise PluginError(_reason(made)) from made
        return made

    def _run(self) -> None:
        try:
            self._outcome.put(self._make())
        except BaseException as error:  # noqa: BLE001 - SystemExit is reported, too
            self._outcome.put(error)

    def _make(self) -> Subscriber[Any]:
        target = importlib.metadata.EntryPoint(self._name, self._target, GROUP).load()
        if not callable(target):
            raise PluginError(f"{self._target} is {_kind(target)}, neither a Subscriber class nor a function")
        made: object = target(**self._arguments(target))
        if not isinstance(made, Subscriber):
            raise PluginError(f"{self._target} makes {_kind(made)}, not a Subscriber")
        event_classes(made.events)
        check_options(made.capacity, made.overflow, made.key)
        check_subscriber(made)
        return made

    def _arguments(self, target: Any) -> dict[str, Any]:
        arguments = arguments_of(target, self._table, self._given)
        missing = missing_options(target, arguments)
        if missing:
            raise PluginError(
                f"it needs the option {', '.join(missing)}",
                f"Set it in [tool.eventbus.plugins.{self._name}]",
            )
        return arguments


def _kind(value: object) -> str:
    return f"an instance of {type(value).__name__}"


def _reason(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = printable(str(error))
    except Exception:  # noqa: BLE001 - a hostile __str__
        return name
    return f"{name}: {text}" if text else name
