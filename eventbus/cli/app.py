"""The program: its commands, and how it runs one of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer
import typer.main

from eventbus import __version__
from eventbus.cli.exit_codes import OK, USAGE, CommandError

__all__ = ["COMMANDS", "Command", "run"]


class Command(NamedTuple):
    """A command of the program: a function of its name, in a module that is imported when it runs.

    Attributes:
        name: The word to type.
        summary: The first sentence of its help, for the list of commands.
        module: The module of `eventbus.cli` with the function, if not of the same name.
        settings: How its arguments are parsed, where that is unusual.
    """

    name: str
    summary: str
    module: str | None = None
    settings: dict[str, Any] | None = None

    def load(self) -> Callable[..., int]:
        """Return the function."""
        module = importlib.import_module(f"eventbus.cli.{self.module or self.name}")
        return getattr(module, self.name)  # type: ignore[no-any-return]


_UP_TO_FIRST_WORD = {"allow_interspersed_args": False}
# Everything after the first word that is not an option of ours is crackerjack's, --help included.
_NO_HELP = _UP_TO_FIRST_WORD | {"ignore_unknown_options": True, "help_option_names": []}

COMMANDS = (
    Command("demo", "Check a Python project with a small workflow, shown live."),
    Command("run", "Run a command, and record it as a workflow run.", "run_command", _UP_TO_FIRST_WORD),
    Command(
        "crackerjack",
        "Run crackerjack, unmodified, and record what it does.",
        "crackerjack_command",
        _NO_HELP,
    ),
    Command("plugins", "List the installed subscribers.", "plugin_list"),
    Command("cat", "Print the stored events in order, one per line."),
    Command("doctor", "Check the event log, and list its problems."),
    Command("export", "Export sessions in the formats of other programs."),
    Command("prune", "Remove old segments of the event log."),
    Command("report", "Print the correlation report, the latest session first.", "correlation_report"),
    Command("sessions", "List the sessions of the log, the latest first.", "session_list"),
    Command("show", "Show one session, event by event.", "timeline"),
    Command("stats", "Print how much the log holds, and its totals.", "log_statistics"),
)


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: The words after the program's name.

    Raises:
        CommandError: The arguments are wrong, or the command cannot do its work.
        SettingsError: A setting is wrong.
    """
    command = typer.main.get_command(_app(arguments))
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


def _app(arguments: Sequence[str]) -> typer.Typer:
    """Return the program, with the one command that the arguments name, and the help of the others."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_program)
    named = next((word for word in arguments if not word.startswith("-")), None)
    for each in COMMANDS:
        function = each.load() if each.name == named else _not_named
        app.command(each.name, short_help=each.summary, context_settings=each.settings)(function)
    return app


def _not_named() -> None:
    """Stand for a command that does not run: importing each took longer than running one."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eventbus {__version__}")
        raise typer.Exit(OK)


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
