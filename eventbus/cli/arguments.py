"""The arguments of a command, declared in the signature of its function, and parsed by argparse.

    def stats(limit: Annotated[int, Option(type=int, help="How many.")] = 20) -> int: ...

Rejected: typer, which was here. Importing it, with the pydantic that it brings, took twice as long as
importing all of `eventbus`.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_args, get_type_hints

from eventbus.cli.exit_codes import USAGE, CommandError
from eventbus.ground.similar_names import nearest_name

__all__ = ["Argument", "Option", "Parser"]


class Option:
    """An option, in the annotation of the parameter that it sets. A parameter that is False is a switch.

    Args:
        flags: How it is spelled; by default like its parameter.
        settings: More arguments of `argparse.ArgumentParser.add_argument`.
    """

    def __init__(self, *flags: str, **settings: Any) -> None:
        self._flags = flags
        self._settings = settings

    def add_to(self, parser: argparse.ArgumentParser, name: str, default: object) -> None:
        """Let a parser set this parameter of a function."""
        flags = self._flags or (f"--{name.replace('_', '-')}",)
        settings: dict[str, Any] = {"dest": name, "default": default}
        if default is inspect.Parameter.empty:
            settings = {"dest": name, "required": True}
        elif default is False:
            settings["action"] = "store_true"
        parser.add_argument(*flags, **settings, **self._settings)


class Argument:
    """An argument without a flag, in the annotation of the parameter that it sets.

    Args:
        settings: More arguments of `argparse.ArgumentParser.add_argument`.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def add_to(self, parser: argparse.ArgumentParser, name: str, default: object) -> None:
        """Let a parser set this parameter of a function."""
        is_needed = default is inspect.Parameter.empty
        settings: dict[str, Any] = {} if is_needed else {"default": default, "nargs": "?"}
        parser.add_argument(name, **settings | self._settings)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are raised.

    Args:
        program: The words before the arguments.
        description: The first part of the help.
        options: More arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, program: str, description: str | None, **options: Any) -> None:
        super().__init__(
            program,
            description=inspect.cleandoc(description or ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def add_parameters(self, function: Callable[..., object]) -> None:
        """Set the parameters of a function."""
        hints = get_type_hints(function, include_extras=True)
        for name, parameter in inspect.signature(function).parameters.items():
            _, declared = get_args(hints[name])
            declared.add_to(self, name, parameter.default)

    def parse(self, words: Sequence[str]) -> tuple[dict[str, Any], list[str]] | None:
        """Return the values of the parameters, and the unknown options; None if help was asked for.

        Raises:
            CommandError: The words are wrong.
        """
        try:
            given, unknown = self.parse_known_args(words)
        except SystemExit:  # as it ends after printing help; its errors are raised below
            return None
        return {name: _without_dashes(value) for name, value in vars(given).items()}, unknown

    def print_help(self, file: Any = None) -> None:
        """Print the help; unlike argparse's own, fail where it cannot be written."""
        print(self.format_help(), end="", file=file)

    def refuse(self, unknown: Sequence[str]) -> None:
        """Raise CommandError for the first of the words that no parameter takes, if there are any."""
        for word in unknown:
            if not word.startswith("-"):
                self.error(f"there is no argument {word}")
            flag = word.partition("=")[0]
            nearest = nearest_name(flag, self.flags())
            meant = f"did you mean {nearest}? " if nearest else ""
            raise CommandError(f"there is no option {flag}", f"{meant}{self._hint}", USAGE)

    def flags(self) -> list[str]:
        """Return the spellings of its options."""
        return [flag for action in self._actions for flag in action.option_strings]

    def values_of_flags(self) -> dict[str, list[str] | None]:
        """Return what can follow each option: its choices, any text (no choices), or nothing (None)."""
        return {
            flag: None if action.nargs == 0 else _choices(action)
            for action in self._actions
            for flag in action.option_strings
        }

    @property
    def _hint(self) -> str:
        return f"see {self.prog} {'--help' if '--help' in self.flags() else '-h'}"

    def error(self, message: str) -> NoReturn:
        """Raise CommandError for what is wrong with the arguments."""
        raise CommandError(message, self._hint, USAGE)


def _choices(action: argparse.Action) -> list[str]:
    names = action.metavar.split("|") if isinstance(action.metavar, str) else []
    return names if len(names) > 1 else []


def _without_dashes(value: Any) -> Any:
    """Remove the `--` before the words of another program, which argparse keeps."""
    return value[1:] if isinstance(value, list) and value[:1] == ["--"] else value
