"""Make the event classes of installed plugins known to a command that shows events."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from eventbus.cli.notes import note
from eventbus.errors import SettingsError
from eventbus.plugins.quick_look import EVENTS, may_be_registered
from eventbus.settings import load_settings

if TYPE_CHECKING:
    from eventbus.plugins.finding import Plugin

__all__ = ["load_plugin_events"]


def load_plugin_events() -> None:
    """Load the event plugins that the settings do not disable, with one note for each that is broken.

    After this `eventbus.event_types()` has their classes, too. Loading them again changes nothing.
    """
    found = _found()
    if not found:
        return
    try:
        left_out = load_settings(ignore_unreadable=True).left_out
    except SettingsError as error:
        note(f"plugins show no events of their own, as the settings are wrong: {error.problem}")
        return
    from eventbus.plugins.event_plugins import load_event_plugins  # noqa: PLC0415 - as below

    with redirect_stdout(sys.stderr):  # what a plugin prints when it is imported is not part of the result
        wanted = [plugin for plugin in found if plugin.name not in left_out]
        failed = load_event_plugins(wanted)
    for each in failed:
        origin = f"{each.plugin.name} of {each.plugin.distribution}"
        note(f"events of the plugin {origin} may be shown without their class: {each.reason}")


def _found() -> list[Plugin]:
    if not may_be_registered(EVENTS):
        return []
    # Imported only now: with the metadata of all distributions it takes a short command a third of its time.
    from eventbus.plugins.event_plugins import find_event_plugins  # noqa: PLC0415

    return find_event_plugins()
