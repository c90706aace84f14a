"""The parser of a command, with its example and its exit codes in its help."""

from __future__ import annotations

from eventbus.cli.arguments import Parser
from eventbus.cli.command_table import Command

__all__ = ["command_parser"]


def command_parser(name: str, command: Command) -> Parser:
    """Return the parser of a command's words.

    Args:
        name: The words before them.
        command: The command.
    """
    function = command.load()
    ends = "\n".join(f"  {code:<5}{meaning}" for code, meaning in command.ends.items())
    examples = "\n".join(f"  {each}" for each in command.examples)
    title = "example" if len(command.examples) == 1 else "examples"
    epilog = f"{title}:\n{examples}\n\nexit codes:\n{ends}"
    parser = Parser(name, function.__doc__, epilog=epilog, add_help=not command.passes_options_on)
    if command.passes_options_on:  # what is not an option of ours is the other program's, --help too
        parser.add_argument("-h", action="help", help="show this help; --help is an option of the command")
    parser.add_parameters(function)
    return parser
