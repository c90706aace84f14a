"""The phases of the quality workflow, each by itself, and the order they run in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eventbus import Event, NodeCompleted, NodeStarted, WorkflowCompleted
from eventbus.cli import lint as lint_module
from eventbus.cli.inventory import Inventory, take_inventory
from eventbus.cli.lint import find_ruff, lint
from eventbus.cli.problems import LintError, MetadataError, Problem
from eventbus.cli.project_metadata import ProjectMetadata, read_metadata
from eventbus.cli.quality_workflow import QualityWorkflow
from eventbus.cli.sources import find_sources
from eventbus.trackers import WorkflowEventTracker


class ListSink:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> bool:
        """Keep it."""
        self.events.append(event)
        return True


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize(
    ("files", "name", "version"),
    [
        ({"pyproject.toml": '[project]\nname = "a"\nversion = "1"\n'}, "a", "1"),
        ({"pyproject.toml": '[project]\nname = "a"\ndynamic = ["version"]\n'}, "a", "dynamic version"),
        ({"pyproject.toml": '[tool.poetry]\nname = "a"\nversion = "2"\n'}, "a", "2"),
        ({"setup.cfg": "[metadata]\nname = a\nversion = 3\n"}, "a", "3"),
        ({"setup.cfg": "[metadata]\nname = a\nversion = attr: %(no)s\n"}, "a", "attr: %(no)s"),
        ({"setup.py": "from setuptools import setup\nsetup(name='a', version='4')\n"}, "a", "4"),
        (
            {"setup.py": "import setuptools\nsetuptools.setup(name='a', version=read())\n"},
            "a",
            "dynamic version",
        ),
        ({"setup.py": "setup()\n"}, "checkout", "dynamic version"),
        ({"pyproject.toml": "[build-system]\n", "setup.py": "setup(name='a')\n"}, "a", "dynamic version"),
        (
            {"pyproject.toml": "[build-system]\n", "setup.cfg": "[metadata]\nname = a\n"},
            "a",
            "dynamic version",
        ),
        ({"setup.cfg": "[flake8]\n", "setup.py": "setup(name='a')\n"}, "a", "dynamic version"),
    ],
)
def test_a_project_says_what_it_is_in_any_of_three_files(
    tmp_path: Path, files: dict[str, str], name: str, version: str
) -> None:
    """pyproject.toml goes before setup.cfg, setup.cfg before setup.py, none of which is run."""
    assert read_metadata(write(tmp_path / "checkout", files)) == ProjectMetadata(name, version)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "pyproject.toml: there is none, and no setup.cfg or setup.py names a project"),
        (
            {"pyproject.toml": "[build-system]\n"},
            "pyproject.toml: it has no [project] table with a name, and no setup.cfg or setup.py names",
        ),
        (
            {"pyproject.toml": '[project]\nname = ""\n'},
            "pyproject.toml: the project's name is '', which is none",
        ),
        (
            {"pyproject.toml": "[project]\nname = 3\n"},
            "pyproject.toml: the project's name is 3, which is none",
        ),
        ({"pyproject.toml": "[project]\n\nname =\n", "setup.py": "setup(name='a')\n"}, "pyproject.toml:3: "),
        ({"pyproject.toml": "project = 1\n"}, "pyproject.toml: it has no [project] table with a name"),
        ({"setup.cfg": "name = a\n"}, "setup.cfg:1: "),
        ({"setup.py": "\nsetup(\n"}, "setup.py:2: "),
    ],
)
def test_a_project_that_does_not_say_what_it_is_fails_with_the_place(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    """The reason is clear, on one line, and names the file, and the line where there is one."""
    tmp_path.joinpath("checkout").mkdir()
    with pytest.raises(MetadataError) as caught:
        read_metadata(write(tmp_path / "checkout", files))
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


def test_sources_are_the_projects_own(tmp_path: Path) -> None:
    """Hidden directories, environments under any name, and what was built are left out."""
    own = ["a.py", "pkg/b.py", "tests/test_b.py"]
    others = [
        ".venv/c.py",
        ".hidden/d.py",
        "build/e.py",
        "pkg/__pycache__/f.py",
        "node_modules/g.py",
        "env/h.py",
    ]
    write(tmp_path, dict.fromkeys([*own, *others, "env/pyvenv.cfg", "README.md"], ""))
    assert find_sources(tmp_path) == [Path(name) for name in own]


def test_the_inventory_counts_what_is_defined_and_what_is_not_documented(tmp_path: Path) -> None:
    """Private names, and what is defined inside a function, need no docstring."""
    module = (
        "class A:\n    def m(self): ...\n    def _p(self): ...\n    def d(self):\n        '''D.'''\n"
        "def f():\n    '''F.'''\n    def inner(): ...\nasync def g(): ...\ndef _h(): ...\n"
    )
    write(tmp_path, {"pkg/__init__.py": "", "pkg/m.py": module, "pkg/_private.py": "def f(): ...\n"})
    told: list[tuple[int, str]] = []
    inventory = take_inventory(
        tmp_path, find_sources(tmp_path), lambda done, source: told.append((done, source.name))
    )
    # Undocumented: the modules __init__ and m, and in m A, A.m and g.
    assert inventory == Inventory(modules=3, lines=11, functions=8, classes=1, undocumented=5)
    assert told == [(0, "__init__.py"), (1, "_private.py"), (2, "m.py")]


def fake_ruff(directory: Path, script: str) -> str:
    """Make a program that stands in for ruff: the tests need none, and say what it finds."""
    file = directory / "ruff"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


AMBIGUOUS = "if 1:\n\tx = 1\n        y = 2\n"


@pytest.mark.anyio
async def test_what_ruff_finds_is_told_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings are read from ruff's JSON, with paths relative to the project."""
    found = (
        f'[{{"filename": "{tmp_path}/pkg/a.py", "code": "F821", "message": "Undefined name `x`",'
        ' "location": {"row": 3, "column": 1}, "fix": null}]'
    )
    ruff = fake_ruff(tmp_path, f"cat <<'END'\n{found}\nEND\nexit 1")
    monkeypatch.setattr(lint_module, "find_ruff", lambda: ruff)
    with pytest.raises(LintError) as caught:
        await lint(tmp_path, [])
    assert caught.value.problems == (Problem("pkg/a.py", 3, "F821 Undefined name `x`"),)


@pytest.mark.anyio
async def test_a_ruff_that_finds_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result tells which tool has looked."""
    ruff = fake_ruff(tmp_path, "echo '[]'")
    monkeypatch.setattr(lint_module, "find_ruff", lambda: ruff)
    assert await lint(tmp_path, []) == "ruff"


@pytest.mark.anyio
async def test_a_ruff_that_cannot_work_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it complains of is one problem: a project that could not be linted has not passed."""
    ruff = fake_ruff(tmp_path, "echo 'ruff failed' >&2; echo '  Cause: bad configuration' >&2; exit 2")
    monkeypatch.setattr(lint_module, "find_ruff", lambda: ruff)
    with pytest.raises(LintError) as caught:
        await lint(tmp_path, [])
    assert caught.value.problems == (Problem("ruff", None, "ruff failed Cause: bad configuration"),)


@pytest.mark.anyio
@pytest.mark.parametrize("there_is", ["nothing", "a shim", "a directory"])
async def test_without_ruff_tabnanny_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_is: str
) -> None:
    """No ruff, a shim with none behind it, and what cannot be run, all mean: Python's own tool."""
    shim = fake_ruff(tmp_path, "echo 'ruff: not found' >&2; exit 127")
    ruff = {"nothing": None, "a shim": shim, "a directory": str(tmp_path)}[there_is]
    monkeypatch.setattr(lint_module, "find_ruff", lambda: ruff)
    write(tmp_path, {"good.py": "x = 1\n", "two words.py": AMBIGUOUS})
    assert await lint(tmp_path, [Path("good.py")]) == "tabnanny"
    with pytest.raises(LintError) as caught:
        await lint(tmp_path, [Path("good.py"), Path("two words.py")])
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("two words.py", 3)


@pytest.mark.anyio
async def test_a_module_of_the_project_does_not_stand_in_for_pythons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project may well have a tokenize.py, and linting it must not run it."""
    monkeypatch.setattr(lint_module, "find_ruff", lambda: None)
    write(tmp_path, {"tokenize.py": "raise SystemExit('run')\n", "tabnanny.py": "raise SystemExit('run')\n"})
    assert await lint(tmp_path, find_sources(tmp_path)) == "tabnanny"


def test_ruff_beside_this_python_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment its own ruff is used, though the environment is not activated."""
    beside, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
    for directory in (beside, elsewhere):
        directory.mkdir()
        fake_ruff(directory, "")
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", str(elsewhere))
    assert find_ruff() == str(beside / "ruff")
    (beside / "ruff").unlink()
    assert find_ruff() == str(elsewhere / "ruff")
    (elsewhere / "ruff").unlink()
    assert find_ruff() is None


@pytest.mark.anyio
async def test_lint_and_inventory_run_at_the_same_time_and_the_others_in_turn(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have started before either has ended; every other phase ends before the next one starts."""
    monkeypatch.setattr(lint_module, "find_ruff", lambda: None)
    sink = ListSink()
    assert await QualityWorkflow(project, WorkflowEventTracker(sink)).run()
    steps = [
        (event.node_id, isinstance(event, NodeStarted))
        for event in sink.events
        if isinstance(event, NodeStarted | NodeCompleted)
    ]
    assert steps[:4] == [("metadata", True), ("metadata", False), ("compile", True), ("compile", False)]
    assert {steps[4], steps[5]} == {("lint", True), ("inventory", True)}
    assert {steps[6], steps[7]} == {("lint", False), ("inventory", False)}
    assert steps[8:] == [("summary", True), ("summary", False)]


@pytest.mark.anyio
async def test_a_phase_that_breaks_is_a_failure_like_any_other(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception nobody foresaw fails its phase, with its text, and the other phases go on."""

    def breaks(*_: object) -> Inventory:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("eventbus.cli.quality_workflow.take_inventory", breaks)
    sink = ListSink()
    workflow = QualityWorkflow(project, WorkflowEventTracker(sink))
    assert not await workflow.run()
    assert workflow.problems == [("inventory", Problem("inventory", None, "ZeroDivisionError: unforeseen"))]
    assert set(workflow.results) == {"metadata", "compile", "lint"}
    assert [event.status for event in sink.events if isinstance(event, WorkflowCompleted)] == ["failed"]
