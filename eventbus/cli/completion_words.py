"""Find what can stand at a place of the command line: commands, options, choices, and names of a log.

A shell asks at each press of the tab key, so names are searched for in the last bytes of the log, without
the code that reads events. Rejected: argcomplete, which imports all of a command to complete a session;
shtab, whose scripts know no names of a log, and are wrong after an update until they are made again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from eventbus.cli.command_table import SECTIONS, Command, Group

__all__ = ["SHELLS", "print_words", "words_at"]

SHELLS = ("bash", "zsh", "fish")

_Words: TypeAlias = "Iterable[str]"
_MAX_NAMES = 200
_MAX_BYTES = 1 << 20
_MAX_FILES = 64
_CAN_BE_TYPED = re.compile(r"[\w.@%+,/-]+").fullmatch
"""Names of other characters would have to be quoted, in each shell in another way."""

_ARGUMENTS = {
    "show": "session", "report": "session", "export": "session", "watch": "session", "stats": "node",
    "skill start": "skill", "skill run": "skill", "schema": "type", "completion": "shell",
}  # fmt: skip
_VALUES = {
    "--session": "session", "--type": "type", "--node": "node", "--skill": "skill", "--workflow": "workflow",
    "--dir": "file", "--output": "file", "--html": "file",
}  # fmt: skip
_OF_OTHERS = ("run", "skill run", "crackerjack")
"""After the first word that is not an option, the words are another program's."""


def print_words(words: Sequence[str]) -> int:
    """Print the words that can stand in place of the last of these, one a line. Never fails.

    Args:
        words: The words after the program's name, up to the cursor.
    """
    try:
        for word in words_at(words):
            print(word)
    except Exception:  # noqa: BLE001 - the person is typing, and an error would be printed into the line
        return 0
    return 0


def words_at(words: Sequence[str]) -> list[str]:
    """Return the words that can stand in place of the last of these; none where a file may stand."""
    *before, last = _joined(words) or [""]
    if "=" in last and last.startswith("-"):
        flag, _, value = last.partition("=")
        before, last = [*before, flag], value
        # bash takes `=` for the end of a word, and replaces only what follows.
    return sorted({word for word in _candidates(before, last) if word.startswith(last)})


def _joined(words: Sequence[str]) -> list[str]:
    """Return words with the parts of ``--flag=value`` together, which bash gives one by one."""
    joined: list[str] = []
    for number, word in enumerate(words):
        if joined and (word == "=" or (number and words[number - 1] == "=")) and joined[-1].startswith("-"):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _candidates(before: Sequence[str], last: str) -> _Words:
    choices: Sequence[Command | Group] = [each for section in SECTIONS.values() for each in section]
    name = ""
    for place, word in enumerate(before):
        chosen = next((each for each in choices if each.name == word), None)
        if chosen is None:
            return ()
        name = f"{name} {word}".strip()
        if isinstance(chosen, Command):
            return _of_command(name, chosen, before[place + 1 :], last)
        choices = chosen.commands
    return [each.name for each in choices] + ["--help", *([] if name else ["--version"])] * last.startswith(
        "-"
    )


def _of_command(name: str, command: Command, given: Sequence[str], last: str) -> _Words:
    if "--" in given or (name in _OF_OTHERS and _has_begun(given, 2 if name == "skill run" else 1)):
        return ()
    directory = next((given[place + 1] for place, word in enumerate(given[:-1]) if word == "--dir"), None)
    flag = given[-1] if given else ""
    if flag.startswith("--") and flag in _VALUES:
        return _names(_VALUES[flag], directory)
    if last.startswith("-") or flag.startswith("-"):
        from eventbus.cli.command_parser import command_parser  # noqa: PLC0415 - it imports the command

        flags = command_parser(f"eventbus {name}", command).values_of_flags()
        values = flags.get(flag)
        if values is not None:
            return values
        if last.startswith("-"):
            return flags
    if name == "plugins":
        return ["check", "new"] if not given else _names("plugin", None) if given == ["check"] else ()
    return _names(_ARGUMENTS.get(name, "file"), directory)


def _has_begun(given: Sequence[str], at: int) -> bool:
    """Return True if the words of another program have begun: so many words that belong to no option."""
    free = [
        word for place, word in enumerate(given) if not word.startswith("-") and not _is_value(given, place)
    ]
    return len(free) >= at


def _is_value(given: Sequence[str], place: int) -> bool:
    return place > 0 and given[place - 1].startswith("--") and "=" not in given[place - 1]


def _names(kind: str, directory: str | None) -> _Words:
    if kind in _OF_LOG:
        return filter(_CAN_BE_TYPED, _OF_LOG[kind](directory))
    if kind == "type":
        from eventbus.events import event_types  # noqa: PLC0415 - a third of a second in vain, for others

        return event_types()
    if kind == "plugin":
        from eventbus.plugins.finding import find_plugins  # noqa: PLC0415 - as above

        return [plugin.name for plugin in find_plugins()]
    return SHELLS if kind == "shell" else ()


def _in_log(field: str) -> Callable[[str | None], Iterator[str]]:
    """Return a function that yields the values of a field in a log, the latest first."""
    pattern = re.compile(rb'"%b":("(?:[^"\\]|\\.)+")' % field.encode())

    def find(directory: str | None) -> Iterator[str]:
        import json  # noqa: PLC0415 - for names of a log only

        found: dict[bytes, None] = {}
        for tail in _tails(directory):
            for value in reversed(pattern.findall(tail)):
                if value not in found:
                    found[value] = None
                    yield json.loads(value)
                if len(found) >= _MAX_NAMES:
                    return

    return find


_OF_LOG = {
    "session": _in_log("session_id"),
    "skill": _in_log("skill_name"),
    "node": _in_log("node_id"),
    "workflow": _in_log("workflow_id"),
}


def _tails(directory: str | None) -> Iterator[bytes]:
    """Yield the last bytes of the latest segments, a megabyte in all."""
    from eventbus.settings import log_directory  # noqa: PLC0415 - for names of a log only

    events = os.path.join(os.path.expanduser(directory) if directory else log_directory(), "events")  # noqa: PTH111, PTH118
    left = _MAX_BYTES
    # Their names begin with the time of their start.
    names = sorted((name for name in os.listdir(events) if name.endswith(".jsonl")), reverse=True)  # noqa: PTH208
    for name in names[:_MAX_FILES]:
        path = os.path.join(events, name)  # noqa: PTH118
        if left <= 0 or not os.path.isfile(path):  # noqa: PTH113 - a FIFO would block
            continue
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(max(0, os.fstat(file.fileno()).st_size - left))
            data = file.read(left)
        left -= len(data)
        yield data
