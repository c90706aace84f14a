"""The statistics and reports of a bus: plain figures, cheap enough to poll."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

__all__ = [
    "BusStatistics",
    "DrainReport",
    "SubscriptionState",
    "SubscriptionStatistics",
    "drain_report",
    "undelivered_text",
]

SubscriptionState = Literal["waiting", "running", "quarantined", "failed", "cancelled", "ended"]
"""In order: the bus has not been entered; running; ended after too many failures; ended because it could
not start, or raised an exception that is not an `Exception`; cancelled from outside; ended by
unsubscribing or by the close."""


class SubscriptionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of one subscription; ``accepted == delivered + lost + queued`` at every instant.

    Attributes:
        name: The subscription's name, unique on its bus.
        state: What it is doing.
        accepted: Events that matched since it subscribed, replayed ones included.
        delivered: Events handed to its handler.
        lost: Events lost to overflow, or queued when the subscription ended.
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
    """The statistics of a bus.

    Attributes:
        accepted: Events published and accepted since the bus was made.
        rejected: Publish calls that were refused: the bus was closed, the value was not an event, or a
            chain of events caused by events was too deep.
        subscriptions: The statistics of each current subscription, by name.
    """

    accepted: int
    rejected: int
    subscriptions: dict[str, SubscriptionStatistics]


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a drain or a close; true when everything was delivered.

    Attributes:
        complete: Whether every event accepted before it was delivered within the deadline.
        delivered: Events delivered in the lifetime of the current subscriptions.
        undelivered: Events that were still queued when the deadline passed. Those of streams do not
            count: their readers may still take them.
        lost: Events lost in the lifetime of the current subscriptions.
        duration_seconds: How long it took, on the monotonic clock.
        subscriptions: The statistics of each subscription at the end, by name.
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


def drain_report(
    statistics: BusStatistics, handled: Iterable[str], duration_seconds: float, *, is_complete: bool
) -> DrainReport:
    """Return the report of a drain or close.

    Args:
        statistics: The bus's statistics at its end.
        handled: The names of the subscriptions that have handlers, unlike streams.
        duration_seconds: How long it took.
        is_complete: Whether everything was delivered.
    """
    subscriptions = statistics.subscriptions
    drained = [subscriptions[name] for name in handled]
    return DrainReport(
        complete=is_complete,
        delivered=sum(each.delivered for each in drained),
        undelivered=0 if is_complete else sum(each.queued for each in drained),
        lost=sum(each.lost for each in drained),
        duration_seconds=duration_seconds,
        subscriptions=subscriptions,
    )


def undelivered_text(report: DrainReport) -> str:
    """Return the warning about a close that left events undelivered."""
    queued = [f"{name!r} ({each.queued})" for name, each in report.subscriptions.items() if each.queued]
    return f"closed with {report.undelivered} events undelivered: {', '.join(queued)}"
