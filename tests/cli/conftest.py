"""The program, in this process and as a process of its own, and a small project to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from eventbus.cli import main
from tests.cli.live_writer import Writer

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"

PYPROJECT = '[project]\nname = "sample"\nversion = "1.2"\n'


@pytest.fixture
def somewhere(tmp_path: Path) -> Path:
    """Return an empty directory to run the program in."""
    directory = tmp_path / "somewhere"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return variables with which processes keep what Python compiles, as they do outside of tests."""
    return {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("compiled")),
    }


@pytest.fixture
def cli(somewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Program:
    """Run a command in this process, 10 times faster than in a new one, and return how it ended."""
    monkeypatch.chdir(somewhere)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [str(each) for each in arguments]
        capfd.readouterr()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main(words)
        out, err = capfd.readouterr()
        assert "error: unexpected " not in err, err  # an exception that no command expects
        return subprocess.CompletedProcess(words, code, out, err)

    return run


@pytest.fixture
def program(somewhere: Path) -> Program:
    """Run ``python -m eventbus`` in a process of its own, and return how it ended."""

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
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Return a process that publishes into a log."""
    made = Writer(tmp_path / "log")
    yield made
    made.kill()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project without problems."""
    directory = tmp_path / "sample"
    (directory / "sample").mkdir(parents=True)
    (directory / "pyproject.toml").write_text(PYPROJECT)
    (directory / "sample" / "__init__.py").write_text('"""A sample."""\n')
    (directory / "sample" / "shapes.py").write_text(
        '"""Shapes."""\n\n\nclass Square:\n    """A square."""\n\n    def area(self):\n        return 1\n'
    )
    return directory
