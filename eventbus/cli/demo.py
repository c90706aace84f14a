"""``eventbus demo``: run a small, real workflow over a Python project, with a skill around it, shown live."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import anyio

from eventbus.bus import EventBus
from eventbus.cli.arguments import Argument
from eventbus.cli.exit_codes import NOT_FOUND, OK, PROBLEMS, USAGE, CommandError
from eventbus.cli.free_descriptors import check_free_descriptors
from eventbus.cli.gitignore import create_ignored_directory
from eventbus.cli.options import LogDirectory, Progress, settings_with
from eventbus.cli.quality_workflow import QualityWorkflow
from eventbus.cli.run_ending import print_next_step
from eventbus.cli.terminal import terminal_size
from eventbus.events.printable import printable
from eventbus.runtime import build_runtime
from eventbus.session import current_session_id, session_scope
from eventbus.settings import ProgressMode, Settings
from eventbus.settings.progress_mode import choose_mode
from eventbus.trackers import SkillTracker, WorkflowEventTracker

__all__ = ["demo"]

_SKILL = "project-quality"
_MAX_LINE = 1_000


def demo(
    project: Annotated[Path, Argument(type=Path, metavar="DIR", help="Directory of the project.")] = Path(),
    directory: LogDirectory = None,
    progress: Progress = None,
) -> int:
    """Check a Python project with a small workflow, shown live.

    Progress goes to stderr, the correlation report to stdout, unless it would stand below the live view on
    the same terminal. Exit code 1: the workflow found problems.
    """
    if not project.is_dir():
        raise CommandError(
            f"{project} is not a directory", "name the directory of a Python project", NOT_FOUND
        )
    check_free_descriptors()
    settings = settings_with(directory, progress, project)
    is_live = _mode(settings) == "tty"
    create_ignored_directory(settings.directory)
    runtime = build_runtime(settings)
    with session_scope(current_session_id()) as session, runtime.bus as bus:
        workflow = _run_with_skill(project, bus)
    for problem in workflow.problems:
        print(printable(problem, _MAX_LINE), file=sys.stderr)
    if "summary" in workflow.results:
        print(printable(workflow.results["summary"], _MAX_LINE))
    report = None if is_live and sys.stdout.isatty() else runtime.correlation_report()
    if report is not None:
        print(report)
    sys.stdout.flush()
    print_next_step(settings, session)
    return PROBLEMS if workflow.failures else OK


def _mode(settings: Settings) -> ProgressMode:
    """Return the mode in which progress is shown.

    Raises:
        CommandError: A live view was asked for by name, and cannot be had.
    """
    columns, _ = terminal_size(sys.stderr)
    try:
        return choose_mode(settings.progress, os.environ, sys.stderr.isatty(), columns)
    except ValueError as error:
        raise CommandError(str(error), "leave --progress out, and EVENTBUS_PROGRESS unset", USAGE) from error


def _run_with_skill(project: Path, bus: EventBus) -> QualityWorkflow:
    workflow = QualityWorkflow(project, WorkflowEventTracker(bus))
    with SkillTracker(bus).track(_SKILL, "comprehensive") as skill:
        # The bus runs in a thread of its own, so progress is shown while a phase blocks this loop.
        anyio.run(workflow.run)
        follow_ups = [f"fix {phase}" for phase in workflow.failures]
        skill.complete(follow_up_actions=follow_ups or ["git commit"])
    return workflow
