"""The program: its commands, and how it runs one of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventbus import __version__
from eventbus.cli.arguments import Parser
from eventbus.cli.exit_codes import DAMAGED, OK, USAGE, SkippedDamageError

__all__ = ["COMMANDS", "GROUPS", "Command", "Group", "run"]


class Command(NamedTuple):
    """A command of the program: a function of its name, in a module that is imported when it runs.

    Attributes:
        name: The word to type.
        summary: The first sentence of its help, for the list of commands.
        module: The module of `eventbus.cli` with the function, if not of the same name.
        passes_options_on: True if options that it does not know are arguments for another program.
        function: The function, if not of the same name.
    """

    name: str
    summary: str
    module: str | None = None
    passes_options_on: bool = False
    function: str | None = None

    def load(self) -> Callable[..., int]:
        """Return the function."""
        module = importlib.import_module(f"eventbus.cli.{self.module or self.name}")
        return getattr(module, self.function or self.name)  # type: ignore[no-any-return]


class Group(NamedTuple):
    """Commands that begin with the same word.

    Attributes:
        name: The word to type before theirs.
        summary: What they are for.
        commands: The commands.
    """

    name: str
    summary: str
    commands: tuple[Command, ...]


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
    Command("ship", "Ship the event log to a server, for other machines to read.", "ship_command"),
    Command("show", "Show one session: what ran, how long, and what failed."),
    Command("stats", "Print how much the log holds, and its totals.", "log_statistics"),
)
GROUPS = (
    Group(
        "skill",
        "Track a skill from a shell: start it, follow it up, end it.",
        (
            Command("start", "Begin a skill, and print the id of this use of it.", "skill_commands"),
            Command(
                "follow-up", "Add an action that was taken next.", "skill_commands", function="follow_up"
            ),
            Command("complete", "End a skill as completed.", "skill_commands"),
            Command("abandon", "End a skill as not completed.", "skill_commands"),
            Command("run", "Run a command as a use of a skill.", "skill_commands"),
            Command("list", "List the skills that are open.", "skill_commands", function="list_open"),
        ),
    ),
    Group(
        "hook",
        "Observe the skills of an agent through its hooks.",
        (
            Command(
                "claude-code",
                "Record the skills that Claude Code uses.",
                "hook_command",
                function="claude_code",
            ),
        ),
    ),
)


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: The words after the program's name.

    Raises:
        CommandError: The arguments are wrong, or the command cannot do its work.
        SettingsError: A setting is wrong.
    """
    summary = "Observe skills and workflows as they run, and correlate them by session."
    return _choose("eventbus", summary, (*COMMANDS, *GROUPS), arguments)


def _choose(name: str, summary: str, choices: Sequence[Command | Group], arguments: Sequence[str]) -> int:
    """Run one of several commands, or of the commands of a group."""
    place = next((place for place, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    program = _program(name, summary, choices)
    parsed = program.parse(arguments[:place])
    if parsed is None:
        return OK
    if parsed[1]:
        program.error(f"there is no option {parsed[1][0]}")
    if place == len(arguments):
        program.print_help(sys.stderr)
        return USAGE
    chosen = next((each for each in choices if each.name == arguments[place]), None)
    if chosen is None:
        program.error(f"there is no command {arguments[place]!r}")
    name, rest = f"{name} {chosen.name}", arguments[place + 1 :]
    if isinstance(chosen, Group):
        return _choose(name, chosen.summary, chosen.commands, rest)
    return _run(name, chosen, rest)


def _program(name: str, summary: str, choices: Sequence[Command | Group]) -> Parser:
    commands = "\n".join(f"  {each.name:<13}{each.summary}" for each in choices)
    is_all = choices[0] is COMMANDS[0]
    usage = f"{name} {'[--version] ' if is_all else ''}COMMAND ..."
    parser = Parser(name, summary, usage=usage, epilog=f"commands:\n{commands}")
    if is_all:
        parser.add_argument("--version", action="version", version=f"eventbus {__version__}")
    return parser


def _run(name: str, command: Command, words: Sequence[str]) -> int:
    function = command.load()
    # Everything that is not an option of ours is the other program's, --help included.
    parser = Parser(name, function.__doc__, add_help=not command.passes_options_on)
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
