"""The built-in subscribers. They are ordinary plugins, and import only public names of `eventbus`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus_subscribers.console_progress import ConsoleProgress
    from eventbus_subscribers.event_logger import EventLogger
    from eventbus_subscribers.json_persister import JsonPersister
    from eventbus_subscribers.live_correlator import LiveCorrelator
    from eventbus_subscribers.otel_spans import OtelSpans
else:
    import importlib

    _HOMES = {
        "ConsoleProgress": "console_progress",
        "EventLogger": "event_logger",
        "JsonPersister": "json_persister",
        "LiveCorrelator": "live_correlator",
        "OtelSpans": "otel_spans",
    }

    def __getattr__(name: str) -> object:
        # Not imported here: what writes for a hook of an agent needs none of them.
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


__all__ = ["ConsoleProgress", "EventLogger", "JsonPersister", "LiveCorrelator", "OtelSpans"]
