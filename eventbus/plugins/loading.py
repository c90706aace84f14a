"""Load one plugin in a thread of its own, where it may raise anything, exit, or hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from eventbus.errors import PluginError, SettingsError
from eventbus.events.printable import printable

__all__ = ["LOAD_SECONDS", "Loading"]

LOAD_SECONDS = 5.0
"""A plugin that has not loaded after this many seconds is reported as failed."""

_MAX_PROBLEM = 1_000

_T = TypeVar("_T")


class Loading(Generic[_T]):
    """A plugin that is being imported and made, in a daemon thread, from the beginning on.

    Args:
        name: The name of the plugin.
        make: Imports it, and returns what it makes.
    """

    def __init__(self, name: str, make: Callable[[], _T]) -> None:
        self._make = make
        self._began = time.monotonic()
        self._outcome: SimpleQueue[tuple[_T, None] | tuple[None, BaseException]] = SimpleQueue()
        self._thread = Thread(target=self._run, name=f"eventbus-load-{name}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until the plugin has loaded or failed, and no longer than some seconds."""
        self._thread.join(seconds)

    def result(self, timeout: float) -> _T:
        """Return what the plugin makes; to be called once.

        Args:
            timeout: The most seconds that loading may take, from its beginning.

        Raises:
            PluginError: It cannot be loaded; the message is the reason, and its exception the cause.
        """
        try:
            outcome = self._outcome.get(timeout=max(self._began + timeout - time.monotonic(), 0.0))
        except Empty:
            raise PluginError(f"it did not load within {timeout:g} s") from None
        if outcome[1] is None:
            return outcome[0]
        if isinstance(outcome[1], PluginError):
            raise outcome[1]
        raise _as_plugin_error(outcome[1]) from outcome[1]

    def _run(self) -> None:
        try:
            self._outcome.put((self._make(), None))
        except BaseException as error:  # noqa: BLE001 - SystemExit is reported, too
            self._outcome.put((None, error))


def _as_plugin_error(error: BaseException) -> PluginError:
    if isinstance(error, SettingsError):
        return PluginError(printable(error.problem, _MAX_PROBLEM), error.hint)
    return PluginError(_reason(error))


def _reason(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = printable(str(error))
    except Exception:  # noqa: BLE001 - a hostile __str__
        return name
    return f"{name}: {text}" if text else name
