"""``eventbus plugins new NAME``: write a project for a plugin, complete with settings, tests and types."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from eventbus import __version__
from eventbus.cli.exit_codes import OK, PROBLEMS, USAGE, CommandError
from eventbus.events.printable import printable
from eventbus.ground.distribution import DISTRIBUTION
from eventbus.plugins.finding import find_plugins

__all__ = ["new"]

_MAX_NAME = 40
"""With a longer one the lines of the project are too long for its own linter."""

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$distribution"
version = "0.1.0"
description = "A subscriber of eventbus"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["$eventbus>=$version"]

[project.entry-points."eventbus.subscribers"]
$package = "$package:$cls"

[dependency-groups]
dev = ["mypy", "pytest", "ruff", "trio"]

[tool.hatch.build.targets.wheel]
packages = ["src/$package"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["src"]
addopts = ["--import-mode=importlib"]
filterwarnings = ["error"]

[tool.mypy]
strict = true
files = ["src", "tests"]
mypy_path = "src"

[tool.pyright]
typeCheckingMode = "strict"
include = ["src", "tests"]
extraPaths = ["src"]

[tool.ruff]
line-length = 110
src = ["src"]

[tool.ruff.lint]
select = ["ANN", "ASYNC", "B", "D", "E", "F", "I", "RUF", "UP"]
ignore = ["D107"]  # __init__ is described by its class
pydocstyle.convention = "google"
"""

_PACKAGE = '''\
"""A subscriber of eventbus."""

from eventbus import EventBus, NodeCompleted, PatternDetected, Subscriber

__all__ = ["$cls"]


class $cls(Subscriber[NodeCompleted]):
    """Publishes a `PatternDetected` for each node that took longer than a limit.

    Args:
        limit_seconds: The limit; users set it in the settings.
    """

    def __init__(self, limit_seconds: float = 10.0) -> None:
        self._limit_seconds = limit_seconds

    async def start(self, bus: EventBus) -> None:
        """Keep the bus, to publish on it."""
        self._bus = bus

    async def handle(self, event: NodeCompleted) -> None:
        """Publish a pattern if a node was slow."""
        if (event.duration_seconds or 0.0) > self._limit_seconds:
            pattern = PatternDetected(
                session_id=event.session_id,
                pattern="$package",
                message=event.node_id,
            )
            self._bus.publish(pattern)
'''

_TESTS = '''\
"""Tests of $cls."""

from eventbus import PatternDetected
from eventbus.testing import Recorder, SettlingBus, conformance_test, quality_session

from $package import $cls

test_conformance = conformance_test($cls)


def test_a_slow_node_is_found() -> None:
    """A node that took longer than the limit is found, and no other."""
    recorder = Recorder()
    with SettlingBus([$cls(limit_seconds=3.0), recorder]) as bus:
        bus.play(quality_session())
    assert recorder.one(PatternDetected).message == "publish"
'''

_README = """\
# $distribution

A subscriber of eventbus: it publishes a `PatternDetected` for each node that took longer than a limit.

```console
$$ pip install -e .                  # then it runs with every eventbus command
$$ eventbus plugins                  # is it there, and ok?
$$ eventbus plugins check $package
$$ pytest && ruff check && mypy      # pip install --group dev
```

Settings, in the pyproject.toml of a project or in your own `~/.config/eventbus/config.toml`:

```toml
[tool.eventbus.plugins.$package]     # [plugins.$package] in config.toml
limit_seconds = 10.0
```

To publish it: `python -m build`, then `twine upload dist/*`.
"""

_IGNORED = "__pycache__/\n.venv/\ndist/\n.session-buddy/\n"


def new(name: str) -> int:
    """Write a project for a plugin into a new directory of its name.

    Raises:
        CommandError: The name cannot be used, or the directory is there.
    """
    package = name.replace("-", "_")
    _check(name, package)
    directory = Path(name)
    if directory.exists():
        raise CommandError(
            f"{directory.absolute()} is there already", "give the plugin another name", PROBLEMS
        )
    words = {
        "cls": "".join(part.capitalize() for part in package.split("_")),
        "eventbus": DISTRIBUTION,
        "distribution": package.replace("_", "-"),
        "package": package,
        "version": __version__,
    }
    for place, text in _files(package).items():
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        (directory / place).write_text(Template(text).substitute(words), encoding="utf-8")
        print(directory / place)
    print(f"next: cd {directory}, pip install -e ., pytest, eventbus plugins check {package}")
    return OK


def _files(package: str) -> dict[str, str]:
    return {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        ".gitignore": _IGNORED,
        f"src/{package}/__init__.py": _PACKAGE,
        f"src/{package}/py.typed": "",
        f"tests/test_{package}.py": _TESTS,
    }


def _check(name: str, package: str) -> None:
    is_name = re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name) is not None
    if not is_name or len(name) > _MAX_NAME or keyword.iskeyword(package):
        hint = f"use small letters, digits and - or _, {_MAX_NAME} at most"
        raise CommandError(f"{printable(name)!r} cannot be the name of a package", hint, USAGE)
    if package in {plugin.name for plugin in find_plugins()} or importlib.util.find_spec(package) is not None:
        raise CommandError(f"the name {package} is taken in this environment", "choose another one", USAGE)
