"""A fresh environment, into which wheels of this project and of the examples are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ("eventbus-sqlite", "pytest-eventbus-progress")
TOOLS = ("mypy", "pytest", "pytest-xdist", "ruff", "trio")


class Environment:
    """A virtual environment; nothing of this checkout can be imported in it.

    Args:
        directory: A directory for it.
    """

    def __init__(self, directory: Path) -> None:
        venv.create(directory, with_pip=True)
        self.directory = directory
        self.bin = directory / ("Scripts" if os.name == "nt" else "bin")
        self.install("pip>=25.1")  # which reads dependency groups

    def install(self, *words: str | Path) -> None:
        """Install with pip."""
        self.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)

    def run(
        self, program: str, *words: str | Path, cwd: Path | None = None, fails: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; it has to succeed, unless `fails`."""
        outer = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EVENTBUS_", "PYTHON", "PYTEST_", "COLUMNS"))
        }
        path = f"{self.bin}{os.pathsep}{outer.get('PATH', '')}"
        done = subprocess.run(
            [shutil.which(program, path=path) or program, *words],
            cwd=cwd or self.directory,
            env={**outer, "PATH": path, "NO_COLOR": "1", **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert fails or done.returncode == 0, f"{program} {words}: {done.stdout}{done.stderr}"
        return done


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Build the wheels of this project and of the examples."""
    directory = tmp_path_factory.mktemp("wheels")
    projects = [ROOT, *(ROOT / "examples" / name for name in EXAMPLES)]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory)]
    subprocess.run([*command, *map(str, projects)], check=True, timeout=300)
    return sorted(directory.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheels: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheels, and the tools that the projects ask for."""
    environment = Environment(tmp_path_factory.mktemp("environment"))
    environment.install(*wheels, "rich", *TOOLS)
    return environment
