"""The phases of the demo's workflow, and the order in which they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus import Event, NodeCompleted, NodeProgress, NodeStarted, WorkflowCompleted
from eventbus.cli.quality_workflow import QualityWorkflow
from eventbus.trackers import WorkflowEventTracker

pytestmark = pytest.mark.anyio


class ListSink:
    """Keeps the published events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> bool:
        """Keep the event."""
        self.events.append(event)
        return True


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


async def run(project: Path) -> tuple[QualityWorkflow, list[Event]]:
    sink = ListSink()
    workflow = QualityWorkflow(project, WorkflowEventTracker(sink))
    await workflow.run()
    return workflow, sink.events


@pytest.mark.parametrize(
    ("pyproject", "summary"),
    [
        ('[project]\nname = "a"\nversion = "1"\n', "a 1: "),
        ('[project]\nname = "a"\ndynamic = ["version"]\n', "a dynamic version: "),
    ],
)
async def test_a_project_has_the_name_and_version_of_its_pyproject(
    tmp_path: Path, pyproject: str, summary: str
) -> None:
    """The summary begins with the name and the version in pyproject.toml."""
    workflow, _ = await run(write(tmp_path / "checkout", {"pyproject.toml": pyproject}))
    assert workflow.results["summary"].startswith(summary)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"README.md": ""}, "pyproject.toml: FileNotFoundError: No such file or directory"),
        ({"pyproject.toml": "[build-system]\n"}, "pyproject.toml: ValidationError: Object missing required"),
        ({"pyproject.toml": "[project]\nname = 3\n"}, "pyproject.toml: ValidationError: Expected `str`, got"),
        (
            {"pyproject.toml": "project = 1\n"},
            "pyproject.toml: ValidationError: Expected `object`, got `int`",
        ),
        ({"pyproject.toml": "[project]\n\nname =\n"}, "pyproject.toml:3: TOMLDecodeError: "),
    ],
)
async def test_a_project_without_a_name_fails_with_the_place(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    """The problem is one line, and names the file, the line if there is one, and the reason."""
    workflow, _ = await run(write(tmp_path / "checkout", files))
    (found,) = workflow.problems
    assert found.startswith(problem)
    assert found.endswith(" [metadata]")
    assert "\n" not in found


async def test_sources_are_the_projects_own(tmp_path: Path) -> None:
    """Hidden directories, virtual environments of any name and built directories are left out."""
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
    _, events = await run(tmp_path)
    for phase in ("compile", "lint", "inventory"):
        progress = [each for each in events if isinstance(each, NodeProgress) and each.node_id == phase]
        assert [(each.completed, each.message) for each in progress] == list(enumerate(own))


async def test_the_inventory_counts_definitions(project: Path) -> None:
    """Modules, functions, methods and classes are counted, nested and private ones included."""
    write(project, {"more.py": "class A:\n    def _m(self): ...\nasync def g():\n    def inner(): ...\n"})
    workflow, _ = await run(project)
    assert workflow.results["summary"] == "sample 1.2: 3 modules, 4 functions, 2 classes; no problems"


async def test_mistakes_that_the_compiler_accepts_are_listed_by_place(project: Path) -> None:
    """An assertion on a tuple and a text compared with `is` are problems of the phase lint."""
    source = (
        "x = 'a'\nassert (x, 'said')\nassert x is not None\nif x is 'a':\n    assert (x == 'b'), 'said'\n"
    )
    workflow, events = await run(write(project, {"mistakes.py": source}))
    assert workflow.problems == [
        "mistakes.py:2: an assertion on a tuple never fails [lint]",
        "mistakes.py:4: `is` compares identities: use == for texts [lint]",
    ]
    (skipped,) = (each for each in events if isinstance(each, NodeCompleted) and each.status == "skipped")
    assert (skipped.node_id, skipped.metadata) == ("summary", {"needs": ["lint"]})


async def test_lint_and_inventory_run_at_the_same_time_and_the_others_in_turn(project: Path) -> None:
    """Both start before either ends; every other phase ends before the next one starts."""
    workflow, events = await run(project)
    assert not workflow.failures
    steps = [
        (event.node_id, isinstance(event, NodeStarted))
        for event in events
        if isinstance(event, NodeStarted | NodeCompleted)
    ]
    assert steps[:4] == [("metadata", True), ("metadata", False), ("compile", True), ("compile", False)]
    assert {steps[4], steps[5]} == {("lint", True), ("inventory", True)}
    assert {steps[6], steps[7]} == {("lint", False), ("inventory", False)}
    assert steps[8:] == [("summary", True), ("summary", False)]


async def test_an_unforeseen_exception_fails_its_phase_only(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception becomes a problem with its type and text, and the other phases run."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(QualityWorkflow, "_take_inventory", fail)
    workflow, events = await run(project)
    assert workflow.problems == ["ZeroDivisionError: unforeseen [inventory]"]
    assert set(workflow.results) == {"metadata", "compile", "lint"}
    assert [event.status for event in events if isinstance(event, WorkflowCompleted)] == ["failed"]
