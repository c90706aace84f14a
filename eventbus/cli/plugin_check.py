"""``eventbus plugins check NAME``: run a plugin through the conformance suite, and say what is wrong."""

from __future__ import annotations

import io
import os
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from eventbus.cli.exit_codes import NOT_FOUND, OK, PROBLEMS, CommandError
from eventbus.errors import PluginError
from eventbus.events.printable import printable
from eventbus.ground.similar_names import nearest_name
from eventbus.plugins.event_plugins import find_event_plugins, load_event_plugins
from eventbus.plugins.finding import Plugin, find_plugins
from eventbus.plugins.quick_look import EVENTS
from eventbus.runtime import load_plugin
from eventbus.settings import Settings, load_settings
from eventbus.testing import SCENARIOS, available_backends, check_subscriber

__all__ = ["check"]

_MAX_LINE = 1_000


def check(name: str) -> int:
    """Run one plugin through the scenarios, with its settings, and print what was found in each.

    Its log is in a temporary directory, and what it prints is not shown.

    Returns:
        1 if something was found.

    Raises:
        CommandError: There is no such plugin.
        SettingsError: A setting is wrong.
    """
    plugin = _find(name)
    if plugin.group == EVENTS:
        return _check_events(plugin)
    with _directory_of_its_own() as directory:
        settings = load_settings(arguments={"directory": directory})
        try:
            with _quiet():
                load_plugin(settings, plugin)
        except PluginError as error:
            return _failed("loading", [str(error)])
        codes = [_check_in(scenario, settings, plugin) for scenario in SCENARIOS]
    return max(codes)


def _check_events(plugin: Plugin) -> int:
    """Load the event classes of a plugin, which can neither block nor fail later."""
    with _quiet():
        failed = load_event_plugins([plugin])
    line = f"FAILED  loading: {failed[0].reason}" if failed else "ok      loading"
    print(printable(line, _MAX_LINE))
    return PROBLEMS if failed else OK


def _check_in(scenario: str, settings: Settings, plugin: Plugin) -> int:
    with _quiet():
        findings = check_subscriber(partial(load_plugin, settings, plugin), scenarios=[scenario])
    if findings:
        return _failed(scenario, [f"{each.problem} ({each.backend})" for each in findings])
    print(f"ok      {scenario} ({', '.join(available_backends())})")
    return OK


def _failed(scenario: str, problems: list[str]) -> int:
    for problem in problems:
        print(printable(f"FAILED  {scenario}: it {problem.removeprefix('it ')}", _MAX_LINE))
    return PROBLEMS


def _find(name: str) -> Plugin:
    found = [*find_plugins(), *find_event_plugins()]
    plugins = {plugin.name: plugin for plugin in reversed(found)}  # of two, the first is loaded
    if name not in plugins:
        nearest = nearest_name(name, plugins)
        hint = f"did you mean {nearest!r}" if nearest else "eventbus plugins lists the installed ones"
        raise CommandError(f"no plugin {printable(name)!r} is installed", hint, NOT_FOUND)
    return plugins[name]


@contextmanager
def _directory_of_its_own() -> Generator[Path]:
    """Put the log into a temporary directory, also for a plugin that looks for it itself."""
    before = os.environ.get("EVENTBUS_DIR")
    with TemporaryDirectory(prefix="eventbus-check-") as directory:
        os.environ["EVENTBUS_DIR"] = directory
        try:
            yield Path(directory)
        finally:
            os.environ.pop("EVENTBUS_DIR")
            if before is not None:
                os.environ["EVENTBUS_DIR"] = before


@contextmanager
def _quiet() -> Generator[None]:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
