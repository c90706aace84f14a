"""The wheel of `make package`, installed by its name from a local index, does the main job on each Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus.ground.distribution import DISTRIBUTION

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.13", "3.14")
DIST = Path(os.environ.get("EVENTBUS_DIST", "/no distribution"))
NAMESAKES = (
    "eventbus.py",
    "eventbus_demo.py",
    "cli.py",
    "subscribers/__init__.py",
    "subscribers/json_persister.py",
)

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        not DIST.is_dir(), reason="SKIPPED: no distribution was built: make package, or set EVENTBUS_DIST"
    ),
]


def run(*command: object, cwd: Path, expected: int = 0) -> str:
    """Run a command, without the settings of this process; return what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EVENTBUS"))
    }
    words = [str(each) for each in command]
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == expected, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def find_python(version: str) -> str:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    if shutil.which("make") is None:
        pytest.skip("SKIPPED: there is no make to look for other Pythons")
    found = run("make", "--silent", f"print-python-{version}", cwd=ROOT).strip()
    found = os.environ.get(f"PYTHON_{version.replace('.', '_')}") or found
    if not found:
        pytest.skip(f"SKIPPED: there is no Python {version}: set PYTHON_{version.replace('.', '_')}")
    return found


class Environment:
    """A new environment, with a pip of another one."""

    def __init__(self, directory: Path, python: str) -> None:
        run(python, "-m", "venv", "--without-pip", directory, cwd=directory.parent)
        self.directory = directory
        self.python = directory / "bin" / "python"

    def pip(self, *words: object) -> str:
        """Run pip in it."""
        options = ("--quiet", "--disable-pip-version-check", "--python", self.python)
        return run(sys.executable, "-m", "pip", *options, *words, cwd=self.directory)


@pytest.fixture(scope="module", params=PYTHONS)
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """An environment with nothing but the wheel and what it needs, in which it was installed by its name."""
    made = Environment(tmp_path_factory.mktemp("fresh") / "environment", find_python(request.param))
    made.pip("install", "--no-index", "--find-links", DIST, "--no-deps", f"{DISTRIBUTION}[cli]")
    made.pip("install", f"{DISTRIBUTION}[cli]")  # ours is there; its dependencies come from the index
    yield made
    made.pip("uninstall", "--yes", DISTRIBUTION)
    left = [each for each in made.directory.rglob("*") if "eventbus" in each.name]
    assert not left, "uninstalling leaves these behind"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project, with files whose names are also those of the package's modules."""
    for name in NAMESAKES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('"""A file of the project."""\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "small"\nversion = "1"\n')
    return tmp_path


def test_it_imports(environment: Environment, tmp_path: Path) -> None:
    """Both packages import, from the environment, and so does every public name that needs no other extra."""
    script = (
        "import eventbus, eventbus_subscribers\n"
        "for module in (eventbus, eventbus_subscribers):\n"
        "    print(module.__file__)\n"
        "    [getattr(module, name) for name in module.__all__ if name != 'OtelSpans']\n"
    )
    places = run(environment.python, "-c", script, cwd=tmp_path).split()
    assert all(Path(each).is_relative_to(environment.directory) for each in places)


def test_it_runs_the_demo_and_reads_its_log(environment: Environment, project: Path) -> None:
    """`eventbus demo` checks a project, also one of namesakes; `show`, `report` and `doctor` read it."""
    program = environment.directory / "bin" / "eventbus"
    run(program, "demo", ".", cwd=project)
    assert "quality" in run(program, "show", cwd=project)
    assert run(program, "report", cwd=project)
    assert run(program, "doctor", cwd=project).startswith("ok: ")


def test_its_plugins_are_ok(environment: Environment, project: Path) -> None:
    """`eventbus plugins` lists the built-in subscribers under the name of the distribution, none failed."""
    lines = run(environment.directory / "bin" / "eventbus", "plugins", cwd=project).splitlines()
    assert len(lines) >= 4
    assert {line.split()[2] for line in lines} == {DISTRIBUTION}
    assert {line.split()[0] for line in lines} <= {"ok", "disabled"}
