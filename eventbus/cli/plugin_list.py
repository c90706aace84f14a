"""``eventbus plugins``: which subscribers are installed, and which cannot be used."""

from __future__ import annotations

from eventbus.cli.exit_codes import OK, PROBLEMS, USAGE, CommandError
from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.plugins import FailedPlugin, Plugin, find_plugins, load_plugins
from eventbus.settings import Settings, load_settings

__all__ = ["list_plugins"]


def list_plugins() -> int:
    """Print one line for each plugin; return the exit code.

    Raises:
        CommandError: The settings, which disable some, cannot be used.
    """
    disabled = _settings().disabled
    plugins = find_plugins()
    failed = load_plugins(plugins, disabled=disabled).failed
    for plugin in plugins:
        print(_line(plugin, disabled, failed))
    return PROBLEMS if failed else OK


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise CommandError(error.problem, error.hint, USAGE) from error


def _line(plugin: Plugin, disabled: tuple[str, ...], failed: list[FailedPlugin]) -> str:
    reason = next((each.reason for each in failed if each.plugin is plugin), "")
    state = "FAILED" if reason else "disabled" if plugin.name in disabled else "ok"
    name, distribution = printable(plugin.name), printable(plugin.distribution)
    columns = f"{state:<9}{name:<18}{distribution:<10}{printable(plugin.target)}"
    return f"{columns}  {reason}" if reason else columns
