"""What a project says about itself: its name and version, read without running any of its code."""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventbus.cli.problems import MetadataError, Problem

__all__ = ["ProjectMetadata", "read_metadata"]

_DYNAMIC = "dynamic version"


@dataclass(frozen=True, slots=True)
class ProjectMetadata:
    """A project's name and version."""

    name: str
    version: str


def read_metadata(project: Path) -> ProjectMetadata:
    """Read a project's pyproject.toml, or what older projects have: setup.cfg, setup.py.

    Args:
        project: The project's directory.

    Raises:
        MetadataError: There is none of them, it cannot be read, or it names no project.
    """
    pyproject, cfg, script = (project / name for name in ("pyproject.toml", "setup.cfg", "setup.py"))
    found = _from_pyproject(pyproject) if pyproject.exists() else None
    if found is None and cfg.exists():
        found = _from_cfg(cfg)
    if found is None and script.exists():
        found = _from_script(script)
    if found is not None:
        return found
    missing = "it has no [project] table with a name" if pyproject.exists() else "there is none"
    raise _error("pyproject.toml", None, f"{missing}, and no setup.cfg or setup.py names a project")


def _from_pyproject(file: Path) -> ProjectMetadata | None:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        line = re.search(r"at line (\d+)", str(error))
        raise _error(file.name, int(line[1]) if line else None, error) from error
    project = _table(document, "project") or _table(_table(document, "tool"), "poetry")
    name = project.get("name")
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip():
        raise _error(file.name, None, f"the project's name is {name!r}, which is none")
    return ProjectMetadata(name, str(project.get("version", _DYNAMIC)))


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _from_cfg(file: Path) -> ProjectMetadata | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error) as error:
        raise _error(file.name, getattr(error, "lineno", None), error) from error
    name = parser.get("metadata", "name", fallback="")
    version = parser.get("metadata", "version", fallback=_DYNAMIC)
    return ProjectMetadata(name, version) if name else None


def _from_script(file: Path) -> ProjectMetadata:
    """Read the arguments of ``setup()``; a name that is worked out is taken to be the directory's."""
    try:
        tree = ast.parse(file.read_bytes(), file.name)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _error(file.name, getattr(error, "lineno", None), error) from error
    said: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) == "setup":
            said = {
                keyword.arg: keyword.value.value
                for keyword in node.keywords
                if keyword.arg
                and isinstance(keyword.value, ast.Constant)
                and isinstance(keyword.value.value, str)
            }
    return ProjectMetadata(said.get("name", file.absolute().parent.name), said.get("version", _DYNAMIC))


def _error(file: str, line: int | None, what: object) -> MetadataError:
    return MetadataError([Problem(file, line, " ".join(str(what).split()))])


def _called(function: ast.expr) -> str | None:
    return getattr(function, "id", None) or getattr(function, "attr", None)
