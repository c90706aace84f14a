"""The built-in subscribers. They are ordinary plugins, and import only public names of `eventbus`."""

from eventbus_subscribers.console_progress import ConsoleProgress
from eventbus_subscribers.event_logger import EventLogger
from eventbus_subscribers.json_persister import JsonPersister
from eventbus_subscribers.live_correlator import LiveCorrelator

__all__ = ["ConsoleProgress", "EventLogger", "JsonPersister", "LiveCorrelator"]
