"""The built-in subscribers, each a plugin like anyone's: they know of `eventbus` only what it offers."""

from subscribers.console_progress import ConsoleProgress
from subscribers.event_logger import EventLogger
from subscribers.json_persister import JsonPersister
from subscribers.live_correlator import LiveCorrelator

__all__ = ["ConsoleProgress", "EventLogger", "JsonPersister", "LiveCorrelator"]
