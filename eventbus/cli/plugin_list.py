"""``eventbus plugins``: list the installed subscribers, and say which cannot be used, or check one."""

from __future__ import annotations

import json
from typing import Annotated

from eventbus.cli.arguments import Argument
from eventbus.cli.exit_codes import OK, PROBLEMS, USAGE, CommandError
from eventbus.cli.log_access import note
from eventbus.cli.options import AsJson
from eventbus.events.printable import printable
from eventbus.plugins import find_plugins
from eventbus.runtime import PluginState, examine_plugins, unknown_plugins
from eventbus.settings import load_settings

__all__ = ["plugins"]

_MAX_REASON = 1_000


def plugins(
    action: Annotated[
        str | None, Argument(metavar="check", help="Check one plugin, instead of listing all.")
    ] = None,
    name: Annotated[str | None, Argument(metavar="NAME", help="The plugin to check.")] = None,
    as_json: AsJson = False,
) -> int:
    """List the installed subscribers.

    Or check one: eventbus plugins check NAME. Exit code 1: some cannot be used, or the check found
    something.
    """
    if action is None:
        return _list(as_json=as_json)
    if action != "check" or name is None:
        raise CommandError(f"there is no eventbus plugins {action}", "eventbus plugins check NAME", USAGE)
    from eventbus.cli.plugin_check import check  # noqa: PLC0415 - the suite is imported when it is used

    return check(name)


def _list(*, as_json: bool) -> int:
    settings = load_settings()
    for problem in unknown_plugins(settings, find_plugins()):
        note(problem)
    states = examine_plugins(settings)
    show = _json_line if as_json else _line
    for state in states:
        print(show(state, max(len(printable(each.plugin.name)) for each in states)))
    return PROBLEMS if any(each.state == "failed" for each in states) else OK


def _line(state: PluginState, width: int) -> str:
    plugin = state.plugin
    word = "FAILED" if state.state == "failed" else state.state
    origin = printable(f"{plugin.distribution} {plugin.version}".rstrip())
    line = f"{word:<9}{printable(plugin.name):<{width + 2}}{origin:<18}{_explanation(state)}"
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
            "state": state.state,
            "reason": state.reason or None,
            "enable": state.enable or None,
        }
    )
