"""``eventbus config``: print every setting, its value, and the place that decided it."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventbus.cli.exit_codes import OK, PROBLEMS
from eventbus.cli.options import AsJson, LogDirectory, Progress
from eventbus.events.json_safe import json_safe
from eventbus.events.printable import printable
from eventbus.events.scrubbing import scrub_value
from eventbus.ground.option_entry import Option
from eventbus.ground.warned_once import warn_once
from eventbus.settings import Settings, load_settings
from eventbus.settings.tables import LOGGER

__all__ = ["config"]

_DEFAULT = "default"
_OPTIONS = {
    "the arguments: directory": "the arguments: --dir",
    "the arguments: progress": "the arguments: --progress",
}
_MAX_VALUE = 2_000


class _Row(NamedTuple):
    """A setting: its name, its value as JSON has it, and its place."""

    setting: str
    value: Any
    place: str


def config(
    directory: LogDirectory = None,
    progress: Progress = None,
    as_json: AsJson = False,
) -> int:
    """Print every setting, its value, and the place that decided it.

    The places, from the strongest: the arguments, the environment, the user's file, the project's
    pyproject.toml, the defaults. A line with ! is a problem, as a key or variable that has no effect.
    """
    with _warnings() as ignored:
        settings = load_settings(arguments={"directory": directory, "progress": progress})
    rows = [*_settings(settings), *_options("nats", settings.nats), *_plugins(settings)]
    if as_json:
        for row in rows:
            print(
                msgspec.json.encode({"setting": row.setting, "value": row.value, "from": row.place}).decode()
            )
        for problem in ignored:
            print(msgspec.json.encode({"problem": printable(problem, _MAX_VALUE, scrubbed=False)}).decode())
    else:
        _print_table(rows)
        for problem in ignored:
            print(printable(f"! {problem}", _MAX_VALUE, scrubbed=False))
    return PROBLEMS if ignored else OK


@contextmanager
def _warnings() -> Generator[list[str]]:
    """Collect what reading the settings warns of, in place of logging it."""
    found: list[str] = []
    collecting, logger = logging.Handler(), logging.getLogger(LOGGER)
    collecting.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    warn_once.cache_clear()
    was_propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collecting)
    try:
        yield found
    finally:
        logger.removeHandler(collecting)
        logger.propagate = was_propagated


def _settings(settings: Settings) -> Iterator[_Row]:
    for name in Settings.__struct_fields__:
        value = getattr(settings, name)
        if name in ("plugins", "origins") or (name == "nats" and value):  # rows of their own
            continue
        if name in ("disabled", "enabled"):  # each name may be from another place
            places = dict.fromkeys(settings.origins.get(f"plugins.{each}", _DEFAULT) for each in value)
            place = ", ".join(places) or _DEFAULT
        else:
            place = settings.origins.get(name, _DEFAULT)
        shown = _path(value) if isinstance(value, Path) else value
        yield _Row(name, json_safe(shown), _OPTIONS.get(place, place))


def _path(path: Path) -> str:
    try:
        return str(path.absolute())
    except OSError:  # the working directory was deleted
        return str(path)


def _plugins(settings: Settings) -> Iterator[_Row]:
    for plugin, options in sorted(settings.plugins.items()):
        yield from _options(f"plugins.{plugin}", options)


def _options(table: str, options: Mapping[str, Option]) -> Iterator[_Row]:
    for key, option in sorted(options.items()):
        value = scrub_value({key: json_safe(option.value)})[key]  # an option may hold a password
        yield _Row(f"{table}.{key}", value, option.place)


def _print_table(rows: list[_Row]) -> None:
    shown = [(printable(row.setting), _text(row.value), printable(row.place, scrubbed=False)) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(2)]
    for setting, value, place in shown:
        print(f"{setting:<{widths[0]}}  {value:<{min(widths[1], 40)}}  {place}")


def _text(value: Any) -> str:
    """Return a value as a person writes it: a list as names with commas, anything else as JSON."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, list) and all(isinstance(each, str) for each in value):
        text = ", ".join(value) or "-"
    elif isinstance(value, float) and value.is_integer():
        text = str(int(value))
    else:
        text = msgspec.json.encode(value).decode()
    return printable(text, _MAX_VALUE, scrubbed=False)
