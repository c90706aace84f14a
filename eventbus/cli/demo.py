"""``eventbus demo``: a real quality workflow over a Python project, with a skill around it, watched live."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import msgspec

from eventbus.bus import EventBus
from eventbus.cli.exit_codes import NOT_FOUND, OK, PROBLEMS, USAGE, CommandError
from eventbus.cli.quality_workflow import QualityWorkflow
from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.runtime import build_runtime
from eventbus.session import current_session_id, session_scope
from eventbus.settings import ProgressMode, Settings, load_settings
from eventbus.trackers import SkillTracker, WorkflowEventTracker

__all__ = ["run_demo"]

_SKILL = "project-quality"
_MAX_PROBLEM = 1_000


def run_demo(project: Path, directory: Path | None = None, progress: ProgressMode | None = None) -> int:
    """Run the workflow over a project; return the exit code.

    Args:
        project: The project's directory, in which nothing is changed.
        directory: Where the event log goes; by default what the settings say.
        progress: How progress is shown; by default what the settings say.

    Raises:
        CommandError: There is no such directory, or the settings cannot be used.
    """
    if not project.is_dir():
        raise CommandError(f"{project} is no directory", "name the directory of a Python project", NOT_FOUND)
    runtime = build_runtime(_settings(project, directory, progress))
    for failed in runtime.failed:
        _note(f"plugin {failed.plugin.name} of {failed.plugin.distribution} is left out: {failed.reason}")
    with session_scope(current_session_id()), runtime.bus as bus:
        workflow = _run_with_skill(project, bus)
    _print_outcome(workflow, runtime.correlation_report())
    return PROBLEMS if workflow.failures else OK


def _settings(project: Path, directory: Path | None, progress: ProgressMode | None) -> Settings:
    try:
        # A pyproject.toml that is broken is no reason not to run: the workflow finds it, and tells.
        settings = load_settings(project, ignore_unreadable=True)
    except SettingsError as error:
        raise CommandError(error.problem, error.hint, USAGE) from error
    given = {"directory": directory and directory.absolute(), "progress": progress}
    return msgspec.structs.replace(settings, **{key: value for key, value in given.items() if value})


def _run_with_skill(project: Path, bus: EventBus) -> QualityWorkflow:
    workflow = QualityWorkflow(project, WorkflowEventTracker(bus))
    with SkillTracker(bus).track(_SKILL, "comprehensive") as skill:
        # The bus has a thread of its own: it shows what happens also while a phase blocks this loop.
        anyio.run(workflow.run)
        follow_ups = [f"fix {phase}" for phase in workflow.failures]
        skill.complete(follow_up_actions=follow_ups or ["git commit"])
    return workflow


def _print_outcome(workflow: QualityWorkflow, report: str | None) -> None:
    for phase, problem in workflow.problems:
        _note(f"{problem} [{phase}]")
    summary = workflow.results.get("summary")
    if summary is not None:
        print(printable(summary, _MAX_PROBLEM))
    if report is not None:
        print(report)


def _note(text: str) -> None:
    print(printable(text, _MAX_PROBLEM), file=sys.stderr)
