"""Call a function with a module as soon as the program has imported it, and each time it does.

Importing the module ourselves would be simpler, but would change the order and the cost of the
program's own imports, and some modules cannot be imported first.
"""

from __future__ import annotations

import copy
import importlib
import logging
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeAlias

from eventbus.ground.fork_safety import ForkSafeLock

__all__ = ["is_imported", "when_imported"]

Action: TypeAlias = Callable[[ModuleType], None]

_logger = logging.getLogger("eventbus.integrations")


def is_imported(name: str) -> bool:
    """Return True if a module is imported; False while it is being imported."""
    module = sys.modules.get(name)
    return module is not None and not _is_being_imported(module)


@contextmanager
def when_imported(actions: Mapping[str, Action]) -> Generator[None]:
    """Call actions with their modules: at once if a module is imported already, otherwise on import.

    An action is called again if its module is executed again: reloaded, or imported after it was removed
    from `sys.modules`. If another thread is importing a module, this waits for it. If an action raises,
    that is logged and the import continues.

    Args:
        actions: The actions by the full names of their modules.
    """
    finder = _Finder(actions)
    sys.meta_path.insert(0, finder)
    for name in actions:
        if sys.modules.get(name) is not None:
            with suppress(Exception):  # the program's own import has failed, and raises there
                importlib.import_module(name)
    finder.look()
    try:
        yield
    finally:
        finder.stop()
        with suppress(ValueError):  # the program has removed it
            sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Asks the other finders, and makes the loader call the action after it has loaded the module.

    A finder that the program has inserted before this one may load a module without asking. Therefore
    the import of any other module is an occasion to look for modules that were imported in that way.
    """

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = dict(actions)  # replaced, never changed
        self._done: dict[str, ModuleType] = {}
        self._lock = ForkSafeLock()

    def stop(self) -> None:
        """Call no action any more, also if a module was found already and is loaded later."""
        self._actions = {}

    def look(self) -> None:
        """Call the actions of imported modules for which they have not been called."""
        for name in self._actions:
            module = sys.modules.get(name)
            if module is not None and self._done.get(name) is not module and not _is_being_imported(module):
                self._act(name, module)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._actions:
            self.look()
            return None
        behind = iter(tuple(sys.meta_path))  # only those: two of ours that asked each other would never end
        if not any(finder is self for finder in behind):
            return None  # the program has just removed it
        for finder in behind:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                self._hook_loader(fullname, spec)
                return spec
        return None

    def _hook_loader(self, name: str, spec: ModuleSpec) -> None:
        # Patches the loader once. A loader that wraps it would be visible to code that asks a module
        # for its loader, such as inspect and importlib.resources. A copy, because the modules of a zip
        # file share one loader, which another thread may be using.
        loader: Any = spec.loader
        if isinstance(loader, type):  # that of all frozen or built-in modules
            return
        with suppress(Exception):
            spec.loader = loader = copy.copy(loader)
        execute: Callable[[ModuleType], None] | None = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            with suppress(AttributeError):
                del loader.exec_module
            execute(module)
            self._act(name, module, is_executed=True)

        with suppress(AttributeError):  # some loaders have no attributes
            loader.exec_module = exec_module

    def _act(self, name: str, module: ModuleType, *, is_executed: bool = False) -> None:
        action = self._actions.get(name)
        with self._lock:
            is_new = is_executed or self._done.get(name) is not module
            self._done[name] = module
        if is_new and action is not None:
            _call(action, module)


def _is_being_imported(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _call(action: Action, module: ModuleType) -> None:
    try:
        action(module)
    except Exception as error:  # noqa: BLE001 - the program's import must succeed
        _logger.warning("%s is not observed: %s: %s", module.__name__, type(error).__name__, error)
