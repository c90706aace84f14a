"""The exceptions that eventbus raises.

    EventBusError
    ├── BusStateError       the bus was entered twice, or is closed
    ├── WouldDeadlockError  a handler would wait for itself
    ├── StreamStateError    a stream was read outside `async with`, or by two tasks at once
    ├── SubscriberError     a handler, its events or its options cannot be used
    ├── DecodeError         bytes that are not an event
    ├── SettingsError       a setting cannot be used
    ├── PluginError         a plugin could not be found or loaded
    ├── RemoteError         a server could not be reached, or refuses
    └── IntegrationError    an observed library is missing, or is not as expected

`EventBus.publish` raises none of them: it returns False, or raises `TypeError` for a value that is
not an event.
"""

from __future__ import annotations

__all__ = [
    "BusStateError",
    "DecodeError",
    "EventBusError",
    "IntegrationError",
    "PluginError",
    "RemoteError",
    "SettingsError",
    "StreamStateError",
    "SubscriberError",
    "WouldDeadlockError",
]


class EventBusError(Exception):
    """The base class of the exceptions that eventbus raises."""


class BusStateError(EventBusError, RuntimeError):
    """The bus does not allow this in its state: it was entered twice, or is closed."""


class WouldDeadlockError(EventBusError, RuntimeError):
    """A handler would wait for something that waits for that handler."""


class StreamStateError(EventBusError, RuntimeError):
    """A stream was read outside its `async with` block, or by two tasks at once."""


class SubscriberError(EventBusError, TypeError):
    """A handler, its events or its options cannot be used."""


class DecodeError(EventBusError, ValueError):
    """Bytes that are not an event: not JSON, without `event_type`, or with a field of a wrong type."""


class _HintedError(EventBusError):
    """The base of those that say what to do, too."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)  # what a copy is made from
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        """Return both, as two sentences."""
        return f"{self.problem}. {self.hint}" if self.hint else self.problem


class SettingsError(_HintedError, ValueError):
    """A setting cannot be used; the message names its place and its key.

    Attributes:
        problem: What is wrong.
        hint: What to do about it.
    """

    def __init__(self, problem: str, hint: str) -> None:  # a setting always has one
        super().__init__(problem, hint)


class PluginError(_HintedError):
    """A subscriber plugin could not be found or loaded.

    Attributes:
        problem: What is wrong.
        hint: What to do about it; empty if that is obvious.
    """


class RemoteError(_HintedError):
    """The server that joins the logs of several hosts could not be reached, or refuses.

    Attributes:
        problem: What is wrong, as one line without secrets.
        hint: What to do about it; empty if that is obvious.
    """


class IntegrationError(EventBusError):
    """An observed library is not installed, or is not as expected."""
