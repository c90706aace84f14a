"""The program: find the command that is meant, parse its words, and run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from eventbus import __version__
from eventbus.cli.arguments import Parser
from eventbus.cli.command_parser import command_parser
from eventbus.cli.command_table import SECTIONS, Command, Group
from eventbus.cli.exit_codes import DAMAGED, OK, USAGE, CommandError, SkippedDamageError
from eventbus.ground.similar_names import nearest_name

__all__ = ["run"]

_SUMMARY = "Observe skills and workflows as they run, and correlate them by session."


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: The words after the program's name.

    Raises:
        CommandError: The arguments are wrong, or the command cannot do its work.
        SettingsError: A setting is wrong.
    """
    parser = _program("eventbus", _SUMMARY, SECTIONS, "[-h] [--version] COMMAND ...")
    parser.add_argument("--version", action="version", version=f"eventbus {__version__}")
    return _choose(parser, [each for section in SECTIONS.values() for each in section], arguments)


def _choose(parser: Parser, choices: Sequence[Command | Group], arguments: Sequence[str]) -> int:
    """Run one of several commands, or of the commands of a group; without a word print what there is."""
    place = next((place for place, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    parsed = parser.parse(arguments[:place])
    if parsed is None:
        return OK
    parser.refuse(parsed[1])
    if place == len(arguments):
        parser.print_help()
        return OK
    chosen = _chosen(parser, choices, arguments[place])
    name, rest = f"{parser.prog} {chosen.name}", arguments[place + 1 :]
    if isinstance(chosen, Group):
        group = _program(name, chosen.summary, {"commands": chosen.commands}, "[-h] COMMAND ...")
        return _choose(group, chosen.commands, rest)
    return _run(name, chosen, rest)


def _chosen(parser: Parser, choices: Iterable[Command | Group], word: str) -> Command | Group:
    by_name = {each.name: each for each in choices}
    if word in by_name:
        return by_name[word]
    nearest = nearest_name(word, by_name)
    hint = f"did you mean {parser.prog} {nearest}" if nearest else f"see {parser.prog} --help"
    raise CommandError(f"there is no command {word!r}", f"{hint}?" if nearest else hint, USAGE)


def _program(
    name: str, summary: str, sections: Mapping[str, Sequence[Command | Group]], usage: str
) -> Parser:
    lists = (
        "\n".join([f"{title}:", *(f"  {each.name:<13}{each.summary}" for each in choices)])
        for title, choices in sections.items()
    )
    more = f"Examples and exit codes are in the help of each: {name} COMMAND --help"
    return Parser(name, summary, usage=f"{name} {usage}", epilog="\n\n".join([*lists, more]))


def _run(name: str, command: Command, words: Sequence[str]) -> int:
    parser = command_parser(name, command)
    parsed = parser.parse(words)
    if parsed is None:
        return OK
    given, unknown = parsed
    if command.passes_options_on:
        given["arguments"] = [*unknown, *given["arguments"]]
    else:
        parser.refuse(unknown)
    try:
        return command.load()(**given)
    except SkippedDamageError:
        return DAMAGED
