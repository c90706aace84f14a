"""``eventbus plugins``: list the installed plugins and their states; check one, or begin one."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Annotated

from eventbus.cli.arguments import Argument
from eventbus.cli.exit_codes import OK, PROBLEMS, USAGE, CommandError
from eventbus.cli.notes import note
from eventbus.cli.options import AsJson
from eventbus.events.printable import printable
from eventbus.plugins.event_plugins import find_event_plugins
from eventbus.plugins.finding import find_plugins
from eventbus.runtime import PluginState, examine_plugins, unknown_plugins
from eventbus.settings import load_settings

__all__ = ["plugins"]

_MAX_REASON = 1_000


def plugins(
    action: Annotated[
        str | None, Argument(metavar="check|new", help="Check a plugin, or write a project for a new one.")
    ] = None,
    name: Annotated[str | None, Argument(metavar="NAME", help="The name of the plugin.")] = None,
    as_json: AsJson = False,
) -> int:
    """List the installed plugins.

    Or check one: eventbus plugins check NAME. Or write a project for a new one: eventbus plugins new NAME.
    Exit code 1: some cannot be used, or the check found something.
    """
    if action is None:
        return _list(as_json=as_json)
    if action not in ("check", "new") or name is None:
        hint = "eventbus plugins check NAME, or eventbus plugins new NAME"
        raise CommandError(f"there is no eventbus plugins {action}", hint, USAGE)
    # Imported when they are used: the suite, above all.
    if action == "check":
        from eventbus.cli.plugin_check import check  # noqa: PLC0415

        return check(name)
    from eventbus.cli.plugin_project import new  # noqa: PLC0415

    return new(name)


def _list(*, as_json: bool) -> int:
    settings, found = load_settings(), [*find_plugins(), *find_event_plugins()]
    for problem in unknown_plugins(settings, found):
        note(problem)
    with redirect_stdout(sys.stderr):  # what a plugin prints when it is imported is not part of the list
        states = examine_plugins(settings, found)
    show = _json_line if as_json else _line
    for state in states:
        print(show(state, max(len(printable(each.plugin.name)) for each in states)))
    return PROBLEMS if any(each.state == "failed" for each in states) else OK


def _line(state: PluginState, width: int) -> str:
    plugin = state.plugin
    word = "FAILED" if state.state == "failed" else state.state
    origin = printable(f"{plugin.distribution} {plugin.version}".rstrip())
    line = f"{word:<9}{printable(plugin.name):<{width + 2}}{origin:<22}{_explanation(state)}"
    return line.rstrip()


def _explanation(state: PluginState) -> str:
    failure = f"  {state.plugin.target}: {state.reason}"
    choice = f"  {state.reason}; to enable it: {state.enable}"
    return (
        "" if state.state == "ok" else printable(failure if state.state == "failed" else choice, _MAX_REASON)
    )


def _json_line(state: PluginState, width: int) -> str:  # noqa: ARG001 - as `_line`
    plugin = state.plugin
    return json.dumps(
        {
            "name": plugin.name,
            "version": plugin.version or None,
            "distribution": plugin.distribution,
            "target": plugin.target,
            "group": plugin.group,
            "state": state.state,
            "reason": state.reason or None,
            "enable": state.enable or None,
        }
    )
