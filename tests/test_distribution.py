"""The distribution has one name, which differs from the package's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from eventbus import __version__
from eventbus.cli import main
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
    assert spelt == ["eventbus/__init__.py"]
    assert how_to_install("mcp") == "pip install 'anyio-eventbus[mcp]'"


def test_one_version_and_date_of_the_release() -> None:
    """The code, the changelog and CITATION.cff name one version, and the latter two one date."""
    released = re.search(
        r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert released is not None
    citation = (ROOT / "CITATION.cff").read_text()
    assert released[1] == __version__
    assert f"version: {released[1]}\n" in citation
    assert f'date-released: "{released[2]}"\n' in citation


SHADOWS = {
    "a file of the project": {"eventbus.py": "raise RuntimeError('hands off')"},
    "a package of the project": {"eventbus/__init__.py": "__version__ = '9'"},
    "a folder": {"eventbus/notes.txt": ""},
    "another distribution": {
        "eventbus/__init__.py": "class EventBus: ...",
        "eventbus_lite-1.0.0.dist-info/METADATA": "Name: eventbus-lite\nVersion: 1.0.0\n",
        "eventbus_lite-1.0.0.dist-info/RECORD": "eventbus/__init__.py,,\n",
        "eventbus_lite-1.0.0.dist-info/top_level.txt": "eventbus\n",
    },
}
RUN = "import sys; from eventbus_subscribers.program import main; sys.exit(main())"


@pytest.mark.parametrize("shadow", SHADOWS)
def test_a_namesake_in_front_of_the_package_is_one_line(tmp_path: Path, shadow: str) -> None:
    """Where `eventbus` is another's file or package, the program ends with one line that says so."""
    _write(tmp_path, SHADOWS[shadow])
    path = f"{tmp_path}{os.pathsep}{ROOT / 'subscribers'}"
    ended = subprocess.run(
        [sys.executable, "-S", "-c", RUN, "doctor"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("error: `eventbus` is imported from ")
    assert ("pip uninstall eventbus-lite" in ended.stderr) == (shadow == "another distribution")


def test_doctor_reports_another_distribution_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`doctor` names the other distribution that installs `eventbus`, with exit code 1, and no one else's."""
    (tmp_path / "log" / "events").mkdir(0o700, parents=True)
    (tmp_path / "log").chmod(0o700)
    assert main(["doctor", "--dir", str(tmp_path / "log")]) == 0
    _write(tmp_path / "site", SHADOWS["another distribution"])
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    capsys.readouterr()
    assert main(["doctor", "--dir", str(tmp_path / "log")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("package ")
    assert "eventbus-lite installs a package `eventbus`, too: pip uninstall eventbus-lite, then: " in line


def test_the_program_runs_in_a_folder_of_namesakes(tmp_path: Path) -> None:
    """A project's own `subscribers`, `eventbus.py` and `eventbus_demo.py` are not in the program's way."""
    names = ("eventbus.py", "eventbus_demo.py", "subscribers/__init__.py", "cli.py", "history.py")
    _write(tmp_path, dict.fromkeys(names, "raise RuntimeError('hands off')"))
    script = Path(sys.executable).with_name("eventbus")
    if not script.exists():
        pytest.skip(f"SKIPPED: {script} is not installed")
    ended = subprocess.run([script, "plugins"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def _write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
