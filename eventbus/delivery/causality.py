"""Which handler the calling code runs in, and how deep it is in a chain of events caused by events."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from eventbus.errors import WouldDeadlockError

if TYPE_CHECKING:
    from eventbus.delivery.subscription import Subscription

__all__ = ["MAX_CHAIN_DEPTH", "check_not_handling", "depth_here", "handling", "is_handling"]

MAX_CHAIN_DEPTH = 64
"""The depth beyond which events are rejected: an event is one deeper than the event whose handler
published it."""

depth_here: ContextVar[int] = ContextVar("eventbus_depth", default=0)
"""The depth of the events that this context publishes; 0 outside handlers."""

handling: ContextVar[Subscription | None] = ContextVar("eventbus_handling", default=None)
"""The subscription whose handler called this code, directly or through a task it started."""


def is_handling(bus: object) -> bool:
    """Whether the calling code is a handler of this bus, or was called from one."""
    subscription = handling.get()
    return subscription is not None and subscription.bus is bus


def check_not_handling(bus: object, what: str) -> None:
    """Raise `WouldDeadlockError` if the calling code is a handler of this bus: it would wait for itself."""
    subscription = handling.get()
    if subscription is not None and subscription.bus is bus:
        raise WouldDeadlockError(
            f"a handler of {subscription.name!r} cannot wait for {what}, which waits for that handler. "
            "Do it from another task, or publish an event that asks for it"
        )
