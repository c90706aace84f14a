"""Make the event classes of installed plugins known to a command that shows events."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

from eventbus.cli.notes import note
from eventbus.errors import SettingsError
from eventbus.plugins.event_plugins import find_event_plugins, load_event_plugins
from eventbus.plugins.loading import LOAD_SECONDS
from eventbus.settings import load_settings

__all__ = ["load_plugin_events"]


def load_plugin_events() -> None:
    """Load the event plugins that the settings do not disable, with one note for each that is broken.

    After this `eventbus.event_types()` has their classes, too. Loading them again changes nothing.
    """
    found = find_event_plugins()
    if not found:
        return
    try:
        left_out = load_settings(ignore_unreadable=True).left_out
    except SettingsError as error:
        note(f"plugins show no events of their own, as the settings are wrong: {error.problem}")
        return
    with redirect_stdout(sys.stderr):  # what a plugin prints when it is imported is not part of the result
        wanted = [plugin for plugin in found if plugin.name not in left_out]
        failed = load_event_plugins(wanted, timeout=LOAD_SECONDS)
    for each in failed:
        origin = f"{each.plugin.name} of {each.plugin.distribution}"
        note(f"events of the plugin {origin} may be shown without their class: {each.reason}")
