"""Distributions that offer plugins, installed in a directory as pip would do it."""

from __future__ import annotations

import importlib
from pathlib import Path

__all__ = ["Distributions"]


class Distributions:
    """Makes distributions in a directory on the path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, distribution: str, points: dict[str, str], *, requires: str = "") -> None:
        """Add a distribution that offers plugins, and requires another one."""
        info = self.directory / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        lines = [f"{name} = {target}\n" for name, target in points.items()]
        (info / "entry_points.txt").write_text("[eventbus.subscribers]\n" + "".join(lines))
        requirement = f"Requires-Dist: {requires}\n" if requires else ""
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n{requirement}"
        (info / "METADATA").write_text(metadata)
        importlib.invalidate_caches()

    def add_module(self, name: str, source: str) -> None:
        """Add a module to the directory."""
        (self.directory / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
