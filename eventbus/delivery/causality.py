"""Which handler call the calling code is part of, and how deep it is in a chain of events caused by events.

A call is known by an object of its own, which the call's context holds, and everything that inherits
this context. It counts only while the call runs: what a handler has started and left running (a task, a
timer, a thread) outlives the call, and is a publisher like any other then. Rejected: a depth in the
context alone, which cut the chain of a heartbeat that a handler had set up, after 64 beats, for ever.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

from eventbus.errors import WouldDeadlockError

if TYPE_CHECKING:
    from eventbus.delivery.subscription import Subscription

__all__ = [
    "MAX_CHAIN_DEPTH",
    "Call",
    "call_here",
    "check_not_handling",
    "depth_here",
    "handling",
    "is_handling",
]

MAX_CHAIN_DEPTH = 64
"""The depth beyond which events are rejected: an event is one deeper than the event whose handler
published it."""

Call: TypeAlias = "tuple[Subscription, int]"
"""One call of a subscriber, and the depth of the events published in it. Compared by identity: a tuple
costs a quarter of an object of a class."""

call_here: ContextVar[Call | None] = ContextVar("eventbus_call", default=None)
"""The call that this context belongs to, which may have ended."""


def handling() -> Subscription | None:
    """Return the subscription whose handler is running and called this code, directly or in a task."""
    call = call_here.get()
    return call[0] if call is not None and call[0].call is call else None


def depth_here() -> int:
    """Return the depth of the events that the calling code publishes; 0 outside handlers."""
    call = call_here.get()
    return call[1] if call is not None and call[0].call is call else 0


def is_handling(bus: object) -> bool:
    """Whether the calling code is a handler of this bus, or was called from one."""
    subscription = handling()
    return subscription is not None and subscription.bus is bus


def check_not_handling(bus: object, what: str) -> None:
    """Raise `WouldDeadlockError` if the calling code is a handler of this bus: it would wait for itself."""
    subscription = handling()
    if subscription is not None and subscription.bus is bus:
        raise WouldDeadlockError(
            f"a handler of {subscription.name!r} cannot wait for {what}, which waits for that handler. "
            "Do it from a task that outlives the handler, or publish an event that asks for it"
        )
