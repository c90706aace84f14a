"""The program: its commands, and how it runs one of them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.main

from eventbus.cli.cat import cat
from eventbus.cli.correlation_report import report
from eventbus.cli.crackerjack_command import crackerjack
from eventbus.cli.demo import demo
from eventbus.cli.doctor import doctor
from eventbus.cli.exit_codes import OK, USAGE, CommandError
from eventbus.cli.export import export
from eventbus.cli.log_statistics import stats
from eventbus.cli.mcp_command import mcp
from eventbus.cli.plugin_list import plugins
from eventbus.cli.prune import prune
from eventbus.cli.run_command import run as run_command
from eventbus.cli.session_list import sessions
from eventbus.cli.show import show
from eventbus.cli.watch import watch

__all__ = ["run"]

_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: The words after the program's name.

    Raises:
        CommandError: The arguments are wrong, or the command cannot do its work.
        SettingsError: A setting is wrong.
    """
    command = typer.main.get_command(_app)
    try:
        # Not `command.main()`: it turns Ctrl-C and a closed pipe into exit codes of its own.
        with command.make_context("eventbus", list(arguments)) as context:
            return int(command.invoke(context) or OK)
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        # Typer brings its own click, or uses the real one: the class cannot be imported by name.
        if not hasattr(error, "format_message"):
            raise
        raise _usage_error(error) from error


def _usage_error(error: Any) -> CommandError:
    context = getattr(error, "ctx", None)
    path = "eventbus" if context is None else context.command_path
    return CommandError(error.format_message(), f"see {path} --help", USAGE)


def _version() -> str:
    try:
        return importlib.metadata.version("eventbus")
    except importlib.metadata.PackageNotFoundError:  # a zipapp or a frozen program
        return "of unknown version"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eventbus {_version()}")
        raise typer.Exit(OK)


@_app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Observe skills and workflows as they run, and correlate them by session."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


_app.command()(demo)
_app.command(context_settings={"allow_interspersed_args": False})(run_command)
# Everything after the first word that is not an option of ours is crackerjack's, --help included.
_app.command(
    context_settings={
        "ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []
    }
)(crackerjack)  # fmt: skip
for _command in (plugins, mcp, cat, doctor, export, prune, report, sessions, show, stats, watch):
    _app.command()(_command)
