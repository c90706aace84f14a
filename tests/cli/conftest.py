"""The real program, as a subprocess, and small projects to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"

PYPROJECT = '[project]\nname = "sample"\nversion = "1.2"\n'


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run ``python -m eventbus`` in an empty directory and return how it ended."""
    somewhere = tmp_path / "somewhere"
    somewhere.mkdir()

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "eventbus", *map(str, arguments)],
            cwd=somewhere,
            env={**os.environ, "NO_COLOR": "1", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project in which nothing is wrong."""
    directory = tmp_path / "sample"
    (directory / "sample").mkdir(parents=True)
    (directory / "pyproject.toml").write_text(PYPROJECT)
    (directory / "sample" / "__init__.py").write_text('"""A sample."""\n')
    (directory / "sample" / "shapes.py").write_text(
        '"""Shapes."""\n\n\nclass Square:\n    """A square."""\n\n    def area(self):\n        return 1\n'
    )
    return directory
