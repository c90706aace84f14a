"""Every exception eventbus raises on purpose.

    EventBusError
    ├── BusStateError      the bus is not in a state in which this can be done
    ├── WouldDeadlockError a handler asked to wait for itself
    ├── StreamStateError   a stream was read outside `async with`, or by two tasks at once
    ├── SubscriberError    what was given cannot be used as a subscriber
    ├── DecodeError        bytes that are no event
    ├── SettingsError      a setting cannot be used
    ├── PluginError        a plugin could not be found or loaded
    └── IntegrationError   a library to be observed is missing, or is not as it is known to be

Publishing raises none of them: `EventBus.publish` answers False, or raises `TypeError` for a
value that is not an event.
"""

from __future__ import annotations

__all__ = [
    "BusStateError",
    "DecodeError",
    "EventBusError",
    "IntegrationError",
    "PluginError",
    "SettingsError",
    "StreamStateError",
    "SubscriberError",
    "WouldDeadlockError",
]


class EventBusError(Exception):
    """The base of every exception eventbus raises on purpose."""


class BusStateError(EventBusError, RuntimeError):
    """The bus is not in a state in which this can be done: entered twice, or closed."""


class WouldDeadlockError(EventBusError, RuntimeError):
    """A handler asked to wait for something that waits for that handler."""


class StreamStateError(EventBusError, RuntimeError):
    """A stream was read outside its `async with` block, or by two tasks at once."""


class SubscriberError(EventBusError, TypeError):
    """What was given cannot be used as a subscriber: its handler, its events or its options."""


class DecodeError(EventBusError, ValueError):
    """Bytes that are no event: not JSON, no `event_type`, or a field of the wrong type."""


class SettingsError(EventBusError, ValueError):
    """A setting cannot be used; the message names where it stands, and its key.

    Attributes:
        problem: What is wrong.
        hint: What to do about it.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}. {hint}")
        self.problem = problem
        self.hint = hint


class PluginError(EventBusError):
    """A subscriber plugin could not be found or loaded.

    Attributes:
        problem: What is wrong.
        hint: What to do about it; empty if that is obvious.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}. {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class IntegrationError(EventBusError):
    """A library that is to be observed is not installed, or is not as it is known to be."""
