"""Call a function with a module as soon as the program imports it.

Importing the module ourselves would be simpler, but would change the order and the cost of the
program's own imports.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeAlias

__all__ = ["when_imported"]

Action: TypeAlias = Callable[[ModuleType], None]

_logger = logging.getLogger("eventbus.integrations")


@contextmanager
def when_imported(actions: Mapping[str, Action]) -> Generator[None]:
    """Call actions with their modules: at once if a module is imported already, otherwise on import.

    Each action is called at most once in the block. If it raises, that is logged and the import
    continues.

    Args:
        actions: The actions by the full names of their modules.
    """
    waiting = dict(actions)
    for name in [name for name in waiting if name in sys.modules]:
        _call(waiting.pop(name), sys.modules[name])
    finder = _Finder(waiting)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the program has removed it
            sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Asks the other finders, and makes the loader call the action after it has loaded the module."""

    def __init__(self, waiting: dict[str, Action]) -> None:
        self._waiting = waiting

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._waiting:
            return None
        behind = iter(tuple(sys.meta_path))  # only those: two of ours that asked each other would never end
        if not any(finder is self for finder in behind):
            return None  # the program has just removed it
        for finder in behind:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                self._hook_loader(fullname, spec.loader)
                return spec
        return None

    def _hook_loader(self, name: str, loader: Any) -> None:
        # Patches the loader once. A loader that wraps it would be visible to code that asks a module
        # for its loader, such as inspect and importlib.resources.
        execute: Callable[[ModuleType], None] | None = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            with suppress(AttributeError):
                del loader.exec_module
            execute(module)
            action = self._waiting.pop(name, None)
            if action is not None:
                _call(action, module)

        with suppress(AttributeError):  # the loader of a frozen or built-in module has no attributes
            loader.exec_module = exec_module


def _call(action: Action, module: ModuleType) -> None:
    try:
        action(module)
    except Exception as error:  # noqa: BLE001 - the program's import must succeed
        _logger.warning("%s is not observed: %s: %s", module.__name__, type(error).__name__, error)
