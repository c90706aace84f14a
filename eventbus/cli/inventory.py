"""Count what a project's sources define, and how much of it is documented."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

__all__ = ["Inventory", "take_inventory"]

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Inventory(msgspec.Struct):
    """What sources define.

    Attributes:
        modules: Files.
        lines: Lines in them.
        functions: Functions and methods.
        classes: Classes.
        undocumented: Public modules, functions, classes and methods without a docstring.
    """

    modules: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    undocumented: int = 0

    def add(self, source: bytes, name: str) -> None:
        """Count one module.

        Args:
            source: Its text.
            name: Its file's name without the suffix.
        """
        tree = ast.parse(source)
        self.modules += 1
        self.lines += source.count(b"\n")
        for node in ast.walk(tree):
            self.functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            self.classes += isinstance(node, ast.ClassDef)
        # `__init__` is the package itself, which is public.
        if not name.startswith("_") or name == "__init__":
            self.undocumented += _undocumented(tree)


def take_inventory(
    project: Path, sources: Sequence[Path], on_module: Callable[[int, Path], None]
) -> Inventory:
    """Count what the sources of a project define.

    Args:
        project: The project's directory.
        sources: Its sources, relative to it.
        on_module: Called with how many are done and the next one, before each.

    Raises:
        SyntaxError: One of them is not Python.
        OSError: One of them cannot be read.
    """
    inventory = Inventory()
    for done, source in enumerate(sources):
        on_module(done, source)
        inventory.add((project / source).read_bytes(), source.stem)
    return inventory


def _undocumented(node: ast.Module | _Definition) -> int:
    """Count a public name and, within a module or class, the public names in it."""
    missing = int(ast.get_docstring(node, clean=False) is None)
    if isinstance(node, ast.Module | ast.ClassDef):
        missing += sum(
            _undocumented(child)
            for child in node.body
            if isinstance(child, _Definition) and not child.name.startswith("_")
        )
    return missing
