"""When a persister syncs, retries and prunes, and how many events it writes at once.

Pure: only the clock is read, and no file is touched.
"""

from __future__ import annotations

import os
import sys
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
PRUNE_REST_SECONDS = 10.0
"""Old segments are looked for this often at most: each time costs as much as the log has segments."""
WRITE_SECONDS = 0.02
"""As many events are written at once as are scrubbed in this time, so that none waits for many others."""
_ENOUGH_EVENTS = 8  # for an estimate: the first event of a class costs a millisecond

_success: Callable[[Event], object] = attrgetter("success")


def elapsed_seconds() -> float:
    """Return the time since some moment, in steps of 10 ms.

    It runs on where a test of the program has frozen `time.time` and `time.monotonic`.
    """
    return os.times().elapsed


class StoragePolicy:
    """Decides what is due; its owner reports what happened, and does the work.

    Args:
        sync: ``"interval"``, ``"always"`` or ``"never"``, as for `JsonPersister`.
        clock: Returns the time in seconds, and never runs backwards.
    """

    __slots__ = (
        "_clock",
        "_fitting_events",
        "_has_new_segment",
        "_no_prune_before",
        "_no_sync_before",
        "_retry_at",
        "_sync",
        "_sync_at",
    )

    def __init__(self, sync: SyncPolicy, clock: Callable[[], float] = elapsed_seconds) -> None:
        self._sync = sync
        self._clock = clock
        self._sync_at: float | None = None
        self._no_sync_before = float("-inf")
        self._retry_at = float("-inf")
        self._no_prune_before = float("-inf")
        self._has_new_segment = False
        self._fitting_events = sys.maxsize

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
        self._has_new_segment = True

    def pruned(self) -> None:
        """Note that old segments were pruned."""
        self._has_new_segment = False
        self._no_prune_before = self._clock() + PRUNE_REST_SECONDS

    def scrubbed(self, count: int, seconds: float) -> None:
        """Note how long this many events took to scrub."""
        if count >= _ENOUGH_EVENTS or seconds > WRITE_SECONDS:
            self._fitting_events = max(1, int(count * WRITE_SECONDS / max(seconds, 1e-6)))
        elif count >= self._fitting_events:
            self._fitting_events = 2 * count

    # Decisions.

    def events_at_once(self, limit: int) -> int:
        """Return how many events to write at once, at most `limit`."""
        return min(limit, self._fitting_events)

    @property
    def is_prune_due(self) -> bool:
        """True from the beginning of a segment until old ones are pruned, except for a while after that."""
        return self._has_new_segment and self._clock() >= self._no_prune_before

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
        """Return in how many seconds anything is due next; None if nothing will be.

        Args:
            is_pending: True if events are waiting to be written.
        """
        due = [self._retry_at] if is_pending else []
        if self._sync_at is not None:
            due.append(self._sync_at)
        if self._has_new_segment:
            due.append(self._no_prune_before)
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
