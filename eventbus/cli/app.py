"""The commands and their options: what was typed becomes an action, which is done elsewhere."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast, get_args

import typer
import typer.main

from eventbus.cli.cat import cat
from eventbus.cli.correlation_report import report
from eventbus.cli.crackerjack_command import run_crackerjack
from eventbus.cli.demo import run_demo
from eventbus.cli.doctor import doctor
from eventbus.cli.exit_codes import OK, USAGE, CommandError
from eventbus.cli.export import export
from eventbus.cli.log_statistics import stats
from eventbus.cli.plugin_list import list_plugins
from eventbus.cli.prune import prune
from eventbus.cli.run_command import run_command
from eventbus.cli.session_list import sessions
from eventbus.cli.timeline import show
from eventbus.settings import ProgressMode

__all__ = ["parse"]

Action: TypeAlias = "Callable[[], int]"
"""Does what was asked for, and returns the exit code. Typer only parses: around what it calls, it
has ideas of its own about interrupts and broken pipes."""

_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def parse(arguments: Sequence[str]) -> Action:
    """Return what the arguments ask for.

    Args:
        arguments: What follows the program's name.

    Raises:
        CommandError: They make no sense.
    """
    command = typer.main.get_command(_app)
    try:
        action: Action | int | None = command.main(
            args=list(arguments), prog_name="eventbus", standalone_mode=False
        )
    except Exception as error:
        # Typer brings its own click, or uses the real one: what it raises has no name that can be imported.
        if not hasattr(error, "format_message"):
            raise
        raise _usage_error(error) from error
    return action if callable(action) else partial(int, action or OK)


def _usage_error(error: Any) -> CommandError:
    context = getattr(error, "ctx", None)
    path = "eventbus" if context is None else context.command_path
    return CommandError(error.format_message(), f"see {path} --help", USAGE)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eventbus {importlib.metadata.version('eventbus')}")
        raise typer.Exit(OK)


def _check_progress(mode: str | None) -> str | None:
    modes = get_args(ProgressMode)
    if mode is not None and mode not in modes:
        raise typer.BadParameter(f"{mode!r} is none of {', '.join(modes)}")
    return mode


@_app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Watch skills and workflows as they run, and join them by session."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


@_app.command("demo")
def _demo(
    project: Annotated[Path, typer.Argument(metavar="[DIR]", help="The project's directory.")] = Path(),
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="PATH", help="Where the event log goes; default .session-buddy in DIR."
        ),
    ] = None,
    progress: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(get_args(ProgressMode)), callback=_check_progress, help="How progress is shown."
        ),
    ] = None,
) -> Action:
    """Run a real quality workflow over a Python project, watched live.

    Progress goes to stderr, the correlation report to stdout. Exit code 1: it found problems.
    """
    return partial(run_demo, project, directory, cast("ProgressMode | None", progress))


_Session: TypeAlias = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="The session; default EVENTBUS_SESSION_ID.")
]
_Directory: TypeAlias = Annotated[
    Path | None, typer.Option("--dir", metavar="PATH", help="Where the event log goes; default EVENTBUS_DIR.")
]
_Progress: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--progress",
        metavar="|".join(get_args(ProgressMode)),
        callback=_check_progress,
        help="How progress is shown, on stderr.",
    ),
]


@_app.command("run", context_settings={"allow_interspersed_args": False})
def _run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    session_id: _Session = None,
    directory: _Directory = None,
    progress: _Progress = None,
) -> Action:
    """Run any command as a run, shown with the events of those of its processes that publish some.

    The exit code is the command's own, 128 + n where signal n ended it, 127 where it was not found.
    """
    return partial(run_command, command, session_id, directory, cast("ProgressMode | None", progress))


# Everything that is not an option of ours before its first word is crackerjack's, --help included.
_ITS_OWN = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}


@_app.command("crackerjack", context_settings=_ITS_OWN)
def _crackerjack(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS...")] = None,
    session_id: _Session = None,
    directory: _Directory = None,
    progress: _Progress = None,
) -> Action:
    """Run crackerjack, unmodified, and observe it: eventbus crackerjack [--dir PATH] run --fast.

    What it shows is its own, to the byte; progress is shown only where --progress asks for it.
    """
    return partial(
        run_crackerjack, arguments or [], session_id, directory, cast("ProgressMode | None", progress)
    )


@_app.command("plugins")
def _plugins() -> Action:
    """List the subscribers that are installed. Exit code 1: some cannot be used."""
    return list_plugins


_app.command("cat")(cat)
_app.command("doctor")(doctor)
_app.command("export")(export)
_app.command("prune")(prune)
_app.command("report")(report)
_app.command("sessions")(sessions)
_app.command("show")(show)
_app.command("stats")(stats)
