"""The composition root: settings and plugins become a bus.

    runtime = build_runtime(load_settings())
    with runtime.bus as bus:
        ...

The built-in subscribers are found as anyone's are, by their entry points. All that is known of them
here is what they take from the settings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from eventbus.bus import EventBus
from eventbus.contracts import Subscriber
from eventbus.plugins import FailedPlugin, find_plugins, load_plugins
from eventbus.settings import Settings, load_settings

__all__ = ["Runtime", "build_runtime"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A bus with all the subscribers that are installed, and can be used.

    Attributes:
        bus: The bus, not entered yet.
        settings: What it was built from.
        subscribers: Its subscribers, by the name of their plugin.
        failed: The plugins that cannot be used.
    """

    bus: EventBus
    settings: Settings
    subscribers: Mapping[str, Subscriber[Any]]
    failed: tuple[FailedPlugin, ...]

    def correlation_report(self) -> str | None:
        """Return what the live correlator knows, as text for people; None where it is left out."""
        correlator: object = self.subscribers.get("live_correlator")
        return correlator.report() if isinstance(correlator, _Reports) else None


@runtime_checkable
class _Reports(Protocol):
    def report(self) -> str: ...


def build_runtime(
    settings: Settings | None = None, *, only: Collection[str] | None = None, without: Collection[str] = ()
) -> Runtime:
    """Make a bus, and subscribe every plugin that is not disabled.

    Args:
        settings: By default those in force in the working directory.
        only: The names of the plugins to subscribe; None for all.
        without: The names of plugins not to subscribe.

    Raises:
        SettingsError: There are no settings given, and those in force cannot be used.
    """
    settings = load_settings() if settings is None else settings
    disabled = {*settings.disabled, *without}
    if only is not None:
        disabled |= {plugin.name for plugin in find_plugins()} - set(only)
    plugins = load_plugins(disabled=disabled, options=_options(settings))
    bus = EventBus(plugins.loaded.values())
    return Runtime(bus, settings, plugins.loaded, tuple(plugins.failed))


def _options(settings: Settings) -> dict[str, dict[str, Any]]:
    return {
        "console_progress": {"mode": settings.progress, "directory": settings.directory},
        "json_persister": {
            "directory": settings.directory,
            "sync": settings.sync,
            "segment_bytes": settings.segment_bytes,
            "keep_days": settings.keep_days,
            "keep_bytes": settings.keep_bytes,
        },
    }
