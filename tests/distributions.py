"""Distributions that offer plugins, installed in a directory as pip would do it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Distributions", "on_the_path"]


class Distributions:
    """Makes distributions in a directory on the path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(
        self, distribution: str, points: dict[str, str], *, requires: str = "", group: str = "subscribers"
    ) -> None:
        """Add a distribution that offers plugins of a group of eventbus, and requires another one."""
        info = self.directory / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        lines = [f"{name} = {target}\n" for name, target in points.items()]
        (info / "entry_points.txt").write_text(f"[eventbus.{group}]\n" + "".join(lines))
        requirement = f"Requires-Dist: {requires}\n" if requires else ""
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n{requirement}"
        (info / "METADATA").write_text(metadata)
        importlib.invalidate_caches()

    def add_module(self, name: str, source: str) -> None:
        """Add a module to the directory."""
        (self.directory / f"{name}.py").write_text(source)
        importlib.invalidate_caches()


@contextmanager
def on_the_path(directory: Path) -> Generator[Distributions]:
    """Put a directory on the path for distributions; at the end, forget the modules that are in it."""
    path = sys.path  # the list itself: a test may put another one in its place for a while
    path.insert(0, str(directory))
    try:
        yield Distributions(directory)
    finally:
        path.remove(str(directory))
        for name in [path.stem for path in directory.glob("*.py")]:
            sys.modules.pop(name, None)
