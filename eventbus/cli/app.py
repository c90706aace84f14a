"""The program: its commands, and how it runs one of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventbus import __version__
from eventbus.cli.arguments import Parser
from eventbus.cli.exit_codes import DAMAGED, OK, USAGE, SkippedDamageError

__all__ = ["COMMANDS", "Command", "run"]


class Command(NamedTuple):
    """A command of the program: a function of its name, in a module that is imported when it runs.

    Attributes:
        name: The word to type.
        summary: The first sentence of its help, for the list of commands.
        module: The module of `eventbus.cli` with the function, if not of the same name.
        passes_options_on: True if options that it does not know are arguments for another program.
    """

    name: str
    summary: str
    module: str | None = None
    passes_options_on: bool = False

    def load(self) -> Callable[..., int]:
        """Return the function."""
        module = importlib.import_module(f"eventbus.cli.{self.module or self.name}")
        return getattr(module, self.name)  # type: ignore[no-any-return]


COMMANDS = (
    Command("demo", "Check a Python project with a small workflow, shown live."),
    Command("run", "Run a command, and record it as a workflow run.", "run_command"),
    Command(
        "crackerjack",
        "Run crackerjack, unmodified, and record what it does.",
        "crackerjack_command",
        passes_options_on=True,
    ),
    Command("watch", "Watch a session until it ends."),
    Command("mcp", "Answer agents' questions about the log, by the Model Context Protocol.", "mcp_command"),
    Command("plugins", "List the installed subscribers.", "plugin_list"),
    Command("cat", "Print the stored events in order, one per line."),
    Command("doctor", "Check the event log, and list its problems."),
    Command("export", "Export sessions in the formats of other programs."),
    Command("prune", "Remove old segments of the event log."),
    Command("report", "Print the correlation report, the latest session first.", "correlation_report"),
    Command("sessions", "List the sessions of the log, the latest first.", "session_list"),
    Command("show", "Show one session: what ran, how long, and what failed."),
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
    place = next((place for place, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    program = _program()
    parsed = program.parse(arguments[:place])
    if parsed is None:
        return OK
    if parsed[1]:
        program.error(f"there is no option {parsed[1][0]}")
    if place == len(arguments):
        program.print_help(sys.stderr)
        return USAGE
    command = next((each for each in COMMANDS if each.name == arguments[place]), None)
    if command is None:
        program.error(f"there is no command {arguments[place]!r}")
    return _run(command, arguments[place + 1 :])


def _program() -> Parser:
    commands = "\n".join(f"  {each.name:<13}{each.summary}" for each in COMMANDS)
    parser = Parser(
        "eventbus",
        "Observe skills and workflows as they run, and correlate them by session.",
        usage="eventbus [--version] COMMAND ...",
        epilog=f"commands:\n{commands}",
    )
    parser.add_argument("--version", action="version", version=f"eventbus {__version__}")
    return parser


def _run(command: Command, words: Sequence[str]) -> int:
    function = command.load()
    # Everything that is not an option of ours is the other program's, --help included.
    parser = Parser(f"eventbus {command.name}", function.__doc__, add_help=not command.passes_options_on)
    parser.add_parameters(function)
    parsed = parser.parse(words)
    if parsed is None:
        return OK
    given, unknown = parsed
    if command.passes_options_on:
        given["arguments"] = [*unknown, *given["arguments"]]
    elif unknown:
        parser.error(f"there is no {'option' if unknown[0].startswith('-') else 'argument'} {unknown[0]}")
    try:
        return function(**given)
    except SkippedDamageError:
        return DAMAGED
