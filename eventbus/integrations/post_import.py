"""Do something to a module as soon as it has been imported, whoever imports it, and when.

Importing it oneself would be simpler, and would change the order in which a program's own imports
run, and what they cost.
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
    """Call actions with their modules: at once for those that are imported, then as others are.

    Each is called once in the block. What it raises is logged, and the import goes on.

    Args:
        actions: What to do, by the full name of the module.
    """
    waiting = dict(actions)
    for name in [name for name in waiting if name in sys.modules]:
        _do(waiting.pop(name), sys.modules[name])
    finder = _Finder(waiting)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with suppress(ValueError):  # somebody else removed it
            sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds nothing itself: asks the other finders, and has the loader tell when it is done."""

    def __init__(self, waiting: dict[str, Action]) -> None:
        self._waiting = waiting

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._waiting:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                self._listen(fullname, spec.loader)
                return spec
        return None

    def _listen(self, name: str, loader: Any) -> None:
        # In the loader itself, for this one time: a loader around it would be seen by whatever asks
        # a module for its loader, such as inspect and importlib.resources.
        execute: Callable[[ModuleType], None] | None = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            with suppress(AttributeError):
                del loader.exec_module
            execute(module)
            action = self._waiting.pop(name, None)
            if action is not None:
                _do(action, module)

        with suppress(AttributeError):  # one that takes no attributes: a frozen or built-in module's
            loader.exec_module = exec_module


def _do(action: Action, module: ModuleType) -> None:
    try:
        action(module)
    except Exception as error:  # noqa: BLE001 - the import is somebody else's
        _logger.warning("%s is not observed: %s: %s", module.__name__, type(error).__name__, error)
