"""When a persister syncs, retries and prunes. Pure: only the clock is read, and no file is touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from operator import attrgetter

from eventbus import Event, SkillCompleted, SyncPolicy, WorkflowCompleted

__all__ = ["StoragePolicy"]

SYNC_SECONDS = 1.0
"""Under "interval", written events are synced after this time at the latest."""
RETRY_SECONDS = 1.0
"""A failed write is repeated after this time, unless a batch comes first."""
SYNC_REST_SECONDS = 20.0
"""After a failed sync none is tried for this time: each failure begins another segment."""

_success: Callable[[Event], object] = attrgetter("success")


class StoragePolicy:
    """Decides what is due; its owner reports what happened, and does the work.

    Args:
        sync: ``"interval"``, ``"always"`` or ``"never"``, as for `JsonPersister`.
        clock: Returns the time in seconds, and never runs backwards.

    Attributes:
        is_prune_due: True from the beginning of a segment until old ones are pruned.
    """

    __slots__ = ("_clock", "_no_sync_before", "_retry_at", "_sync", "_sync_at", "is_prune_due")

    def __init__(self, sync: SyncPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._sync = sync
        self._clock = clock
        self._sync_at: float | None = None
        self._no_sync_before = float("-inf")
        self._retry_at = float("-inf")
        self.is_prune_due: bool = False

    # Reports.

    def written(self) -> None:
        """Note that something was written."""
        if self._sync_at is None and self._sync != "never":
            self._sync_at = max(self._clock() + SYNC_SECONDS, self._no_sync_before)

    def write_failed(self) -> None:
        """Note that a write failed."""
        self._retry_at = self._clock() + RETRY_SECONDS

    def sync_failed(self) -> None:
        """Note that a sync failed."""
        self._no_sync_before = self._clock() + SYNC_REST_SECONDS

    def nothing_to_sync(self) -> None:
        """Note that everything written was synced, or that its segment was closed."""
        self._sync_at = None

    def segment_begun(self) -> None:
        """Note that a segment was begun."""
        self.is_prune_due = True

    def pruned(self) -> None:
        """Note that old segments were pruned."""
        self.is_prune_due = False

    # Decisions.

    def wants_sync_after(self, events: Sequence[Event], kinds: set[type[Event]]) -> bool:
        """Return True if this batch is synced as soon as it is written; `kinds` are the events' classes."""
        return self._sync == "always" or (self._sync == "interval" and _is_urgent(events, kinds))

    def wants_sync_before_close(self) -> bool:
        """Return True if a segment is synced before it is closed."""
        return self._sync != "never"

    def allows_sync(self) -> bool:
        """Return False for a while after a failed sync."""
        return self._clock() >= self._no_sync_before

    def is_sync_due(self) -> bool:
        """Return True if written events have waited for a sync long enough."""
        return self._sync_at is not None and self._clock() >= self._sync_at

    def is_retry_due(self) -> bool:
        """Return True if a failed write may be repeated."""
        return self._clock() >= self._retry_at

    def seconds_until_due(self, *, is_pending: bool) -> float | None:
        """Return when a sync or retry is due next; None if neither will be.

        Args:
            is_pending: True if events are waiting to be written.
        """
        due = [self._retry_at] if is_pending else []
        if self._sync_at is not None:
            due.append(self._sync_at)
        return max(0.0, min(due) - self._clock()) if due else None


def _is_urgent(events: Sequence[Event], kinds: set[type[Event]]) -> bool:
    """Return True if one of the events is a failure, or the end of a workflow or a skill."""
    # By class first: reading a field of every event would cost a third of encoding it.
    if any(issubclass(kind, WorkflowCompleted | SkillCompleted) for kind in kinds):
        return True
    can_fail = {kind for kind in kinds if "success" in kind.__struct_fields__}
    if not can_fail:
        return False
    candidates = events if can_fail == kinds else [event for event in events if type(event) in can_fail]
    return False in map(_success, candidates)
