"""Find the Python sources of a project."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["find_sources", "no_syntax_warnings"]

_NOT_SOURCES = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "venv"})


def find_sources(project: Path) -> list[Path]:
    """Return a project's ``.py`` files, sorted, relative to it.

    Left out is what is not its own: hidden directories, virtual environments, what was built.
    """
    found: list[Path] = []
    for place, names, files in os.walk(project):
        directory = Path(place)
        names[:] = [name for name in names if _is_own(directory / name)]
        found += [(directory / name).relative_to(project) for name in files if name.endswith(".py")]
    return sorted(found)


@contextmanager
def no_syntax_warnings() -> Generator[None]:
    """Keep what the compiler warns of off the screen: it is about the project, and no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_own(directory: Path) -> bool:
    name = directory.name
    is_environment = (directory / "pyvenv.cfg").exists()
    return not (name.startswith(".") or name in _NOT_SOURCES or is_environment)
