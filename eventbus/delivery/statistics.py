"""What a bus and its subscriptions tell about themselves: plain figures, cheap enough to poll."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["BusStatistics", "DrainReport", "SubscriptionState", "SubscriptionStatistics"]

SubscriptionState = Literal["waiting", "running", "quarantined", "failed", "cancelled", "ended"]
"""Waiting for the bus to be entered; running; ended for failing too often; ended because it could not
start or raised what no subscriber may; cancelled from outside; ended by unsubscribing or close."""


class SubscriptionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription's books; ``accepted == delivered + lost + queued`` holds at every instant.

    Attributes:
        name: The subscription's name, unique on its bus.
        state: What it is doing.
        accepted: Events that matched since it subscribed, replayed ones included.
        delivered: Events handed to its handler.
        lost: What overflow cost, and what was queued when it ended.
        queued: Events in its mailbox now.
        high_water: The most events its mailbox has held.
        failed: Handler calls that raised.
        lag: Seconds since the oldest queued event happened; 0.0 when nothing is queued.
    """

    name: str
    state: SubscriptionState
    accepted: int
    delivered: int
    lost: int
    queued: int
    high_water: int
    failed: int
    lag: float


class BusStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A bus's books.

    Attributes:
        accepted: Events published and accepted since the bus was made.
        rejected: Publish calls that were refused: the bus was closed, the value was no event, or a
            chain of events caused by events was too deep.
        subscriptions: The books of each current subscription, by name.
    """

    accepted: int
    rejected: int
    subscriptions: dict[str, SubscriptionStatistics]


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a drain or a close delivered, and what it did not; true when everything was.

    Attributes:
        complete: Whether every event accepted before it was delivered within the deadline.
        delivered: Events delivered in the lifetime of the current subscriptions.
        undelivered: Events that were still queued when the deadline passed. A stream keeps its own:
            its reader may still have them.
        lost: What overflow cost in the lifetime of the current subscriptions.
        duration_seconds: How long it took, on the monotonic clock.
        subscriptions: The books of each subscription as they stood at the end, by name.
    """

    complete: bool
    delivered: int
    undelivered: int
    lost: int
    duration_seconds: float
    subscriptions: dict[str, SubscriptionStatistics]

    def __bool__(self) -> bool:
        """Whether everything was delivered."""
        return self.complete
