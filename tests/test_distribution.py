"""The distribution has one name, which differs from the package's."""

from __future__ import annotations

import tomllib
from pathlib import Path

from eventbus.ground.distribution import DISTRIBUTION, how_to_install

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_name_in_the_code_is_that_of_the_project() -> None:
    """The code, the project and its extras use one name of the distribution."""
    assert PROJECT["name"] == DISTRIBUTION
    extras = {each for wanted in PROJECT["optional-dependencies"].values() for each in wanted}
    assert f"{DISTRIBUTION}[cli]" in extras
    assert not [each for each in extras if each.startswith("eventbus")]


def test_the_name_is_written_in_one_module() -> None:
    """No other module spells the name out, and no command spells out how to install an extra."""
    spelt = [
        path.relative_to(ROOT).as_posix()
        for package in (ROOT / "eventbus", ROOT / "subscribers")
        for path in sorted(package.rglob("*.py"))
        if '"anyio-eventbus' in (text := path.read_text()) or "pip install 'eventbus" in text
    ]
    assert spelt == ["eventbus/ground/distribution.py"]
    assert how_to_install("mcp") == "pip install 'anyio-eventbus[mcp]'"
