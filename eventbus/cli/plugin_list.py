"""``eventbus plugins``: list the installed subscribers, and say which cannot be used."""

from __future__ import annotations

from eventbus.cli.exit_codes import OK, PROBLEMS
from eventbus.cli.log_access import note
from eventbus.events.printable import printable
from eventbus.plugins import FailedPlugin, Plugin, find_plugins, load_plugins
from eventbus.runtime import unknown_plugins
from eventbus.settings import load_settings

__all__ = ["plugins"]


def plugins() -> int:
    """List the installed subscribers.

    Exit code 1: some cannot be used.
    """
    settings = load_settings()
    disabled, found = settings.left_out, find_plugins()
    failed = load_plugins(found, disabled=disabled).failed
    for problem in unknown_plugins(settings, found):
        note(problem)
    for plugin in found:
        print(_line(plugin, disabled, failed))
    return PROBLEMS if failed else OK


def _line(plugin: Plugin, disabled: frozenset[str], failed: list[FailedPlugin]) -> str:
    reason = next((each.reason for each in failed if each.plugin is plugin), "")
    state = "FAILED" if reason else "disabled" if plugin.name in disabled else "ok"
    name, distribution = printable(plugin.name), printable(plugin.distribution)
    columns = f"{state:<9}{name:<18}{distribution:<10}{printable(plugin.target)}"
    return f"{columns}  {reason}" if reason else columns
