"""The package is installed whole, and a project's own `subscribers` package is not in its way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT_IN = {"console_progress", "event_logger", "json_persister", "live_correlator", "otel_spans"}


def check_run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command that must succeed; return its output."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build_tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with the build backend. Without one, what has to be built cannot be tested."""
    directory = str(tmp_path_factory.mktemp("tools"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", directory]
    done = subprocess.run(
        [*command, "hatchling", "editables"], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        pytest.skip(f"hatchling cannot be installed, so nothing was built: {done.stderr.strip()[-200:]}")
    return directory


@pytest.fixture(scope="module")
def wheel(build_tools: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this project."""
    directory = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", directory]
    check_run(sys.executable, "-m", "pip", "wheel", *options, ROOT, PYTHONPATH=build_tools)
    (path,) = directory.iterdir()
    return path


def installed(directory: Path, *what: object, build_tools: str) -> Path:
    """Return the Python of a new environment with this project; its dependencies are those of this one."""
    venv.create(directory)
    python = directory / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "--python", python]
    check_run(*pip, "install", *options, *what, PYTHONPATH=build_tools)
    purelib = check_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(purelib) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


PROBE = f"""
import json
from importlib.metadata import entry_points

import eventbus, eventbus_subscribers, subscribers

plugins = entry_points(group="eventbus.subscribers")
built_in = {{each.name: each.load().__module__ for each in plugins if each.name in {BUILT_IN}}}
print(json.dumps([built_in, subscribers.OWNER, eventbus.__file__, eventbus_subscribers.__file__]))
"""


def check_beside_own_subscribers(python: Path, project: Path) -> list[Path]:
    """Check imports and `run` in a project with a package `subscribers`; return where ours are."""
    own = project / "subscribers"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("OWNER = 'the project'")
    (own / "json_persister.py").write_text("raise ImportError('not the built-in one')")
    built_in, owner, *files = json.loads(check_run(python, "-c", PROBE, cwd=project))
    assert built_in == {name: f"eventbus_subscribers.{name}" for name in BUILT_IN}
    assert owner == "the project"
    command = [python, "-m", "eventbus", "run", "--dir", "log", "--", "true"]
    check_run(*command, cwd=project)
    (segment,) = (project / "log" / "events").iterdir()
    assert b'"event_type":"workflow_completed"' in segment.read_bytes()
    return [Path(file) for file in files]


def test_beside_a_projects_own_subscribers(tmp_path: Path) -> None:
    """In a project with its own `subscribers` package, both are imported, and `run` stores its events."""
    check_beside_own_subscribers(Path(sys.executable), tmp_path / "project")


@pytest.mark.nightly
def test_the_wheel_is_complete(wheel: Path) -> None:
    """The wheel holds the modules of both packages, and marks both as typed."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "eventbus",
        "eventbus_subscribers",
    }
    for top, package in ((ROOT, "eventbus"), (ROOT / "subscribers", "eventbus_subscribers")):
        sources = [*(top / package).rglob("*.py"), top / package / "py.typed"]
        assert {path.relative_to(top).as_posix() for path in sources} <= names


@pytest.mark.nightly
def test_from_a_wheel(wheel: Path, build_tools: str, tmp_path: Path) -> None:
    """Installed from a wheel, the package works beside a project's own `subscribers`."""
    python = installed(tmp_path / "environment", wheel, build_tools=build_tools)
    files = check_beside_own_subscribers(python, tmp_path / "project")
    assert all(file.is_relative_to(tmp_path / "environment") for file in files)


@pytest.mark.nightly
def test_from_an_editable_install(build_tools: str, tmp_path: Path) -> None:
    """Installed from the sources in place, the package works beside a project's own `subscribers`."""
    python = installed(tmp_path / "environment", "--editable", ROOT, build_tools=build_tools)
    files = check_beside_own_subscribers(python, tmp_path / "project")
    assert all(file.is_relative_to(ROOT) for file in files)
