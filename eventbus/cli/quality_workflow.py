"""A real quality workflow over a Python project: a small DAG of phases, tracked.

    metadata    what is this project?                     in the loop
    compile     byte-compile every source                 in the loop, and blocks it
    lint        run ruff, or tabnanny                     a subprocess   | at the
    inventory   count definitions and docstrings          a thread       | same time
    summary     put it into words                         in the loop

A phase that fails does not stop the others; what needs it is skipped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.to_thread

from eventbus.cli.inventory import Inventory, take_inventory
from eventbus.cli.lint import lint
from eventbus.cli.problems import CompileError, PhaseError, Problem
from eventbus.cli.project_metadata import ProjectMetadata, read_metadata
from eventbus.cli.sources import find_sources, no_syntax_warnings
from eventbus.trackers import PhaseTask, WorkflowEventTracker

__all__ = ["QualityWorkflow"]

WORKFLOW_ID = "quality"


@dataclass(frozen=True, slots=True)
class _Phase:
    name: str
    runner: Callable[[], Any | Awaitable[Any]]
    needs: tuple[str, ...] = ()


class QualityWorkflow:
    """One run of the workflow.

    Args:
        project: The project's directory.
        tracker: Where to tell what happens.

    Attributes:
        results: What the phases that succeeded gave, by name.
        failures: What the phases that failed raised, by name.
    """

    def __init__(self, project: Path, tracker: WorkflowEventTracker) -> None:
        self.results: dict[str, Any] = {}
        self.failures: dict[str, Exception] = {}
        self._project = project
        self._tracker = tracker
        self._sources: list[Path] = []
        self._task: anyio.TaskInfo | None = None
        # What stands on one line runs at the same time; the lines one after the other.
        self._generations = (
            (_Phase("metadata", self._read_metadata),),
            (_Phase("compile", self._compile),),
            (
                _Phase("lint", self._lint, ("compile",)),
                _Phase("inventory", self._take_inventory, ("compile",)),
            ),
            (_Phase("summary", self._summarize, ("metadata", "lint", "inventory")),),
        )

    @property
    def problems(self) -> list[tuple[str, Problem]]:
        """Everything that is wrong, each with the phase that found it."""
        return [
            (phase, problem)
            for phase, error in self.failures.items()
            for problem in _problems_of(phase, error)
        ]

    async def run(self) -> bool:
        """Run all phases; answer whether none failed."""
        nodes = [phase.name for generation in self._generations for phase in generation]
        run_id = self._tracker.workflow_started(WORKFLOW_ID, nodes=nodes)
        self._task = anyio.get_current_task()
        try:
            with no_syntax_warnings():
                for generation in self._generations:
                    await self._run_generation(generation)
        except BaseException:
            self._tracker.workflow_completed(False, run_id=run_id, status="cancelled")
            raise
        self._tracker.workflow_completed(not self.failures, run_id=run_id)
        return not self.failures

    async def _run_generation(self, generation: tuple[_Phase, ...]) -> None:
        async with anyio.create_task_group() as tasks:
            for phase in generation:
                tasks.start_soon(self._run_phase, phase)

    async def _run_phase(self, phase: _Phase) -> None:
        missing = [name for name in phase.needs if name not in self.results]
        if missing:
            self._tracker.node_skipped(phase.name, {"needs": missing})
            return
        try:
            self.results[phase.name] = await PhaseTask(phase.name, phase.runner, self._tracker).run()
        except Exception as error:  # noqa: BLE001 - a phase that fails, however, does not stop the others
            self.failures[phase.name] = error

    def _read_metadata(self) -> ProjectMetadata:
        return read_metadata(self._project)

    def _compile(self) -> int:
        """Byte-compile in memory, as a phase of a real workflow does: without ever yielding to the loop."""
        self._sources = find_sources(self._project)
        problems: list[Problem] = []
        for done, source in enumerate(self._sources):
            self._check_interrupted()
            self._tracker.node_progress("compile", done, len(self._sources), str(source))
            problem = _compile_one(self._project, source)
            problems += [problem] if problem else []
        if problems:
            raise CompileError(problems)
        return len(self._sources)

    def _check_interrupted(self) -> None:
        """Raise if Ctrl-C has cancelled the run: a loop that is blocked cannot tell."""
        if self._task is not None and self._task.has_pending_cancellation():
            raise anyio.get_cancelled_exc_class()

    async def _lint(self) -> str:
        return await lint(self._project, self._sources)

    async def _take_inventory(self) -> Inventory:
        return await anyio.to_thread.run_sync(take_inventory, self._project, self._sources, self._tell_module)

    def _tell_module(self, done: int, source: Path) -> None:
        anyio.from_thread.check_cancelled()
        self._tracker.node_progress("inventory", done, len(self._sources), str(source))

    def _summarize(self) -> str:
        metadata = cast("ProjectMetadata", self.results["metadata"])
        inventory = cast("Inventory", self.results["inventory"])
        return (
            f"{metadata.name} {metadata.version}: {inventory.modules} modules, {inventory.lines} lines, "
            f"{inventory.functions} functions, {inventory.classes} classes, "
            f"{inventory.undocumented} public names without a docstring; "
            f"{self.results['lint']} found nothing"
        )


def _compile_one(project: Path, source: Path) -> Problem | None:
    try:
        compile((project / source).read_bytes(), str(source), "exec", dont_inherit=True)
    except SyntaxError as error:
        return Problem(str(source), error.lineno, f"{type(error).__name__}: {error.msg}")
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return Problem(str(source), None, f"{type(error).__name__}: {error}")
    return None


def _problems_of(phase: str, error: Exception) -> tuple[Problem, ...]:
    if isinstance(error, PhaseError):
        return error.problems
    return (Problem(phase, None, f"{type(error).__name__}: {error}"),)
