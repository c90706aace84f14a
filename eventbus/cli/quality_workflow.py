"""The workflow of the demo: a few real phases over a Python project.

    metadata    read the project's name and version         in the loop
    compile     compile every source in memory              in the loop, which it blocks
    lint        find mistakes that the compiler accepts     in a thread  | at the
    inventory   count definitions                           in a thread  | same time
    summary     describe the project                        in the loop

A failed phase does not stop the others; a phase that needs its result is skipped.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from eventbus.trackers import PhaseTask, WorkflowEventTracker

__all__ = ["QualityWorkflow"]

_NOT_SOURCES = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "venv"})


class CheckError(Exception):
    """A phase found problems; the arguments are their texts."""


class _Phase(NamedTuple):
    name: str
    runner: Callable[[], Any]
    needs: tuple[str, ...] = ()


class _Project(msgspec.Struct):
    name: str
    version: str = "dynamic version"


class _Pyproject(msgspec.Struct):
    project: _Project


class QualityWorkflow:
    """One run of the workflow.

    Args:
        project: The project's directory; nothing in it is changed.
        tracker: Publishes the events of the run.

    Attributes:
        failures: The exceptions of the phases that failed, by name.
        results: The results of the phases that succeeded, by name.
    """

    def __init__(self, project: Path, tracker: WorkflowEventTracker) -> None:
        self.failures: dict[str, Exception] = {}
        self.results: dict[str, Any] = {}
        self._project = project
        self._tracker = tracker
        self._sources: list[Path] = []

    @property
    def problems(self) -> list[str]:
        """All problems, one line each, with the phase that found it."""
        return [
            f"{problem} [{phase}]"
            for phase, error in self.failures.items()
            for problem in (error.args if isinstance(error, CheckError) else (_describe(error),))
        ]

    async def run(self) -> None:
        """Run all phases: those of one row at the same time, the rows one after the other."""
        in_thread = anyio.to_thread.run_sync
        rows = (
            [_Phase("metadata", self._read_metadata)],
            [_Phase("compile", partial(self._compile, anyio.get_current_task()))],
            [
                _Phase("lint", partial(in_thread, self._lint), ("compile",)),
                _Phase("inventory", partial(in_thread, self._take_inventory), ("compile",)),
            ],
            [_Phase("summary", self._summarize, ("metadata", "lint", "inventory"))],
        )
        run_id = self._tracker.workflow_started("quality", nodes=[each.name for row in rows for each in row])
        try:
            with warnings.catch_warnings(action="ignore"):  # the compiler warns about the project's sources
                for row in rows:
                    async with anyio.create_task_group() as tasks:
                        for phase in row:
                            tasks.start_soon(self._run_phase, phase)
        except BaseException:
            self._tracker.workflow_completed(False, run_id=run_id, status="cancelled")
            raise
        self._tracker.workflow_completed(not self.failures, run_id=run_id)

    async def _run_phase(self, phase: _Phase) -> None:
        missing = [name for name in phase.needs if name not in self.results]
        if missing:
            self._tracker.node_skipped(phase.name, {"needs": missing})
            return
        try:
            self.results[phase.name] = await PhaseTask(phase.name, phase.runner, self._tracker).run()
        except Exception as error:  # noqa: BLE001 - no failure of a phase stops the others
            self.failures[phase.name] = error

    def _read_metadata(self) -> _Project:
        try:
            document = tomllib.loads((self._project / "pyproject.toml").read_text("utf-8"))
            return msgspec.convert(document, _Pyproject).project
        except (OSError, ValueError) as error:
            line = re.search(r"at line (\d+)", str(error))
            raise CheckError(_problem("pyproject.toml", line and line[1], _describe(error))) from error

    def _compile(self, run: anyio.TaskInfo) -> None:
        self._sources = _find_sources(self._project)
        problems: list[str] = []
        for source in self._each_source("compile", partial(_raise_if_cancelled, run)):
            try:
                compile((self._project / source).read_bytes(), str(source), "exec", dont_inherit=True)
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                problems.append(_problem(source, getattr(error, "lineno", None), _describe(error)))
        _fail_with(problems)

    def _lint(self) -> None:
        _fail_with(
            _problem(source, line, mistake)
            for source, tree in self._each_tree("lint")
            for line, mistake in _mistakes(tree)
        )

    def _take_inventory(self) -> Counter[type[ast.AST]]:
        counts = Counter[type[ast.AST]]()
        for _, tree in self._each_tree("inventory"):
            counts.update(map(type, ast.walk(tree)))
        return counts

    def _summarize(self) -> str:
        project, counts = self.results["metadata"], self.results["inventory"]
        functions = counts[ast.FunctionDef] + counts[ast.AsyncFunctionDef]
        counted = f"{counts[ast.Module]} modules, {functions} functions, {counts[ast.ClassDef]} classes"
        return f"{project.name} {project.version}: {counted}; no problems"

    def _each_source(self, phase: str, check: Callable[[], None]) -> Iterator[Path]:
        """Yield every source, and report progress; check for cancellation before each."""
        for done, source in enumerate(self._sources):
            check()
            self._tracker.node_progress(phase, done, len(self._sources), str(source))
            yield source

    def _each_tree(self, phase: str) -> Iterator[tuple[Path, ast.Module]]:
        for source in self._each_source(phase, anyio.from_thread.check_cancelled):
            yield source, ast.parse((self._project / source).read_bytes())


def _raise_if_cancelled(task: anyio.TaskInfo) -> None:
    """Raise if Ctrl-C has cancelled a task whose loop is blocked, and cannot deliver the cancellation."""
    if task.has_pending_cancellation():
        raise anyio.get_cancelled_exc_class()


def _find_sources(project: Path) -> list[Path]:
    """Return the project's own ``.py`` files: not those of hidden, virtual or built directories."""
    found: list[Path] = []
    for place, names, files in os.walk(project):
        directory = Path(place)
        names[:] = [name for name in names if _is_own(directory / name)]
        found += [(directory / name).relative_to(project) for name in files if name.endswith(".py")]
    return sorted(found)


def _is_own(directory: Path) -> bool:
    is_environment = (directory / "pyvenv.cfg").exists()
    return not (directory.name.startswith(".") or directory.name in _NOT_SOURCES or is_environment)


def _mistakes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Assert(test=ast.Tuple(elts=[_, *_])):
                yield node.lineno, "an assertion on a tuple never fails"
            case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=str() | bytes())]):
                yield node.lineno, "`is` compares identities: use == for texts"
            case _:
                pass


def _fail_with(problems: Iterable[str]) -> None:
    if texts := tuple(problems):
        raise CheckError(*texts)


def _problem(file: Path | str, line: object, message: str) -> str:
    return f"{file}: {message}" if line is None else f"{file}:{line}: {message}"


def _describe(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or getattr(error, "msg", None) or error
    return f"{type(error).__name__}: {reason}"
