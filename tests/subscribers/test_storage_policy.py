"""StoragePolicy decides when to sync, retry and prune."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from eventbus_subscribers.storage_policy import (
    PRUNE_REST_SECONDS,
    RETRY_SECONDS,
    SYNC_REST_SECONDS,
    SYNC_SECONDS,
    WRITE_SECONDS,
    StoragePolicy,
)

from eventbus import Event, SkillCompleted, SyncPolicy, WorkflowCompleted
from tests.subscribers.examples import STARTED, node

OK = node()
FAILED = node(status="failed")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def wants_sync_after(policy: StoragePolicy, events: Sequence[Event]) -> bool:
    return policy.wants_sync_after(events, {*map(type, events)})


# Syncing.


@pytest.mark.parametrize(
    ("events", "is_urgent"),
    [
        ([], False),
        ([STARTED, OK], False),
        ([OK, OK], False),
        ([OK, FAILED], True),
        ([STARTED, FAILED, STARTED], True),
        ([STARTED, SkillCompleted(skill_name="run")], True),
        ([WorkflowCompleted(workflow_id="ci")], True),
    ],
)
def test_failures_and_ends_are_urgent(events: list[Event], is_urgent: bool) -> None:
    """Under "interval" a batch is synced at once if it holds a failure or the end of a workflow or skill."""
    assert wants_sync_after(StoragePolicy("interval"), events) is is_urgent
    assert wants_sync_after(StoragePolicy("always"), events)
    assert not wants_sync_after(StoragePolicy("never"), events)


@pytest.mark.parametrize(("sync", "wanted"), [("never", False), ("interval", True), ("always", True)])
def test_a_segment_is_synced_before_it_is_closed(sync: SyncPolicy, wanted: bool) -> None:
    """Every policy except "never" syncs a segment before it is closed."""
    assert StoragePolicy(sync).wants_sync_before_close() is wanted


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_a_sync_is_due_one_interval_after_the_first_write(clock: Clock, sync: SyncPolicy) -> None:
    """The interval begins with the first write after a sync; later writes do not extend it."""
    policy = StoragePolicy(sync, clock)
    assert policy.seconds_until_due(is_pending=False) is None
    policy.written()
    clock.now += SYNC_SECONDS / 2
    policy.written()
    assert not policy.is_sync_due()
    assert policy.seconds_until_due(is_pending=False) == SYNC_SECONDS / 2
    clock.now += SYNC_SECONDS / 2
    assert policy.is_sync_due()
    assert policy.seconds_until_due(is_pending=False) == 0.0


def test_after_a_sync_none_is_due(clock: Clock) -> None:
    """Nothing is due once everything was synced, however late it gets, until something is written."""
    policy = StoragePolicy("interval", clock)
    policy.written()
    policy.nothing_to_sync()
    clock.now += 1e6
    assert not policy.is_sync_due()
    assert policy.seconds_until_due(is_pending=False) is None
    policy.written()
    assert policy.seconds_until_due(is_pending=False) == SYNC_SECONDS


def test_under_never_no_sync_is_ever_due(clock: Clock) -> None:
    """Writing makes no sync due under "never"."""
    policy = StoragePolicy("never", clock)
    policy.written()
    clock.now += 1e6
    assert not policy.is_sync_due()
    assert policy.seconds_until_due(is_pending=False) is None


def test_syncing_rests_after_a_failure(clock: Clock) -> None:
    """After a failed sync none is allowed for 20 seconds."""
    policy = StoragePolicy("always", clock)
    assert policy.allows_sync()
    policy.sync_failed()
    clock.now += SYNC_REST_SECONDS - 0.1
    assert not policy.allows_sync()
    clock.now += 0.1
    assert policy.allows_sync()


def test_what_is_written_during_the_rest_is_synced_after_it(clock: Clock) -> None:
    """Events written while syncing rests are due for a sync when the rest is over."""
    policy = StoragePolicy("interval", clock)
    policy.sync_failed()
    clock.now += 5.0
    policy.written()
    assert policy.seconds_until_due(is_pending=False) == SYNC_REST_SECONDS - 5.0
    clock.now += SYNC_REST_SECONDS - 5.0
    assert policy.is_sync_due()
    assert policy.allows_sync()


# Retrying.


def test_a_failed_write_is_retried_after_a_second(clock: Clock) -> None:
    """A retry is due a second after each failure, and wakes the thread only if something is pending."""
    policy = StoragePolicy("never", clock)
    assert policy.is_retry_due()
    policy.write_failed()
    assert not policy.is_retry_due()
    assert policy.seconds_until_due(is_pending=True) == RETRY_SECONDS
    assert policy.seconds_until_due(is_pending=False) is None
    clock.now += RETRY_SECONDS
    assert policy.is_retry_due()
    assert policy.seconds_until_due(is_pending=True) == 0.0
    policy.write_failed()
    assert policy.seconds_until_due(is_pending=True) == RETRY_SECONDS


def test_the_earlier_of_sync_and_retry_decides(clock: Clock) -> None:
    """With both a sync and a retry ahead, the thread is woken for the earlier one."""
    policy = StoragePolicy("interval", clock)
    policy.write_failed()
    clock.now += 0.25
    policy.written()
    assert policy.seconds_until_due(is_pending=True) == RETRY_SECONDS - 0.25
    assert policy.seconds_until_due(is_pending=False) == SYNC_SECONDS


# Pruning.


def test_pruning_is_due_once_per_segment() -> None:
    """A new segment makes pruning due, until it is done."""
    policy = StoragePolicy("interval")
    due = [policy.is_prune_due]
    policy.segment_begun()
    due.append(policy.is_prune_due)
    policy.pruned()
    due.append(policy.is_prune_due)
    assert due == [False, True, False]


def test_pruning_rests_between_segments(clock: Clock) -> None:
    """A segment begun within ten seconds of a prune is followed by one when they are over."""
    policy = StoragePolicy("never", clock)
    policy.segment_begun()
    policy.pruned()
    policy.segment_begun()
    due = [policy.is_prune_due]
    assert policy.seconds_until_due(is_pending=False) == PRUNE_REST_SECONDS
    clock.now += PRUNE_REST_SECONDS
    due.append(policy.is_prune_due)
    assert policy.seconds_until_due(is_pending=False) == 0.0
    assert due == [False, True]


# Writing by time.


@pytest.mark.parametrize(
    ("count", "seconds", "at_once"),
    [
        (256, WRITE_SECONDS, 256),
        (256, 10 * WRITE_SECONDS, 25),
        (2, 4 * WRITE_SECONDS, 1),
        (1, WRITE_SECONDS / 10, 256),
        (8, WRITE_SECONDS / 2, 16),
        (100, 0.0, 256),
    ],
)
def test_as_many_events_are_written_at_once_as_time_allows(count: int, seconds: float, at_once: int) -> None:
    """After a slow batch fewer events are written at once, at least one; a single quick one shows nothing."""
    policy = StoragePolicy("never")
    assert policy.events_at_once(256) == 256
    policy.scrubbed(count, seconds)
    assert policy.events_at_once(256) == at_once


def test_more_events_are_written_at_once_when_they_are_quick_again() -> None:
    """After a slow event, the number grows again, also while batches are small."""
    policy = StoragePolicy("never")
    policy.scrubbed(1, 1.0)
    grown: list[int] = []
    while policy.events_at_once(256) < 256:
        grown.append(policy.events_at_once(256))
        policy.scrubbed(grown[-1], grown[-1] * 1e-6)
    assert grown == [1, 2, 4, 8]
