"""Invariants of tracked runs, for calls in any order."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eventbus.events import Event, NodeCompleted, NodeStarted, WorkflowCompleted, WorkflowStarted
from eventbus.session import current_session_id
from eventbus.trackers import WorkflowEventTracker

nodes = st.sampled_from(["a", "b"])
run_ids = st.sampled_from([None, None, "r1", "r2", "r3"])
numbers = st.sampled_from([None, None, None, 1, 2, 5])
statuses = st.sampled_from([None, "ok", "failed", "skipped", "cancelled"])


class TrackedRuns(RuleBasedStateMachine):
    """Runs, nodes and attempts begin and end in any order, with and without ids."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Event] = []
        self.tracker = WorkflowEventTracker(self, session_id="session")

    def publish(self, event: Event) -> bool:
        """Accept the event."""
        self.published.append(event)
        return True

    @rule(run_id=run_ids)
    def start_run(self, run_id: str | None) -> None:
        """Begin a run."""
        self.tracker.workflow_started("w", run_id=run_id)

    @rule(run_id=run_ids, success=st.booleans())
    def end_run(self, run_id: str | None, success: bool) -> None:
        """End a run."""
        self.tracker.workflow_completed(success, run_id=run_id)

    @rule(node=nodes, run_id=run_ids)
    def start_node(self, node: str, run_id: str | None) -> None:
        """Begin an attempt."""
        self.tracker.node_started(node, run_id=run_id)

    @rule(node=nodes, run_id=run_ids, attempt=numbers, status=statuses, success=st.booleans())
    def end_node(
        self, node: str, run_id: str | None, attempt: int | None, status: Any, success: bool
    ) -> None:
        """End an attempt."""
        self.tracker.node_completed(node, success, run_id=run_id, attempt=attempt, status=status)

    @rule(node=nodes, run_id=run_ids, attempt=numbers)
    def progress(self, node: str, run_id: str | None, attempt: int | None) -> None:
        """Publish the progress of an attempt."""
        self.tracker.node_progress(node, 1, run_id=run_id, attempt=attempt)

    @invariant()
    def nothing_ends_twice_or_before_its_start(self) -> None:
        """No attempt begins or ends twice, or begins after its end."""
        begun: set[tuple[Any, ...]] = set()
        ended: set[tuple[Any, ...]] = set()
        for event in self.published:
            if isinstance(event, NodeStarted | NodeCompleted):
                key = (event.run_id, event.node_id, event.attempt)
                seen = begun if isinstance(event, NodeStarted) else ended
                assert key not in seen
                assert key not in ended
                seen.add(key)

    @invariant()
    def started_attempts_have_a_duration_that_is_not_negative(self) -> None:
        """An attempt has a duration if, and only if, it was started."""
        started = {_key(event) for event in self.published if isinstance(event, NodeStarted)}
        for event in self.published:
            if isinstance(event, NodeCompleted):
                assert (event.duration_seconds is not None) == (_key(event) in started)
                assert (event.duration_seconds or 0) >= 0

    @invariant()
    def each_started_run_is_open_or_has_ended_once(self) -> None:
        """At most one start of a run has no end yet."""
        begun = Counter(event.run_id for event in self.published if isinstance(event, WorkflowStarted))
        ended = Counter(
            event.run_id
            for event in self.published
            if isinstance(event, WorkflowCompleted) and event.duration_seconds is not None
        )
        assert all(0 <= begun[run_id] - ended[run_id] <= 1 for run_id in begun)
        assert ended.keys() <= begun.keys()

    @invariant()
    def the_session_is_active_exactly_while_a_run_is_open(self) -> None:
        """A session is active from the start of its first open run to the end of its last."""
        open_runs = any(run.began is not None for run in self.tracker._runs._open.values())
        assert current_session_id() == ("session" if open_runs else None)

    @invariant()
    def nothing_failed(self) -> None:
        """The tracker has suppressed no exception."""
        assert self.tracker.publish_failures == 0

    def teardown(self) -> None:
        """End all runs; then every started node has ended."""
        for run_id in list(self.tracker._runs._open):
            self.tracker.workflow_completed(run_id=run_id)
        self.nothing_ends_twice_or_before_its_start()
        started = [_key(event) for event in self.published if isinstance(event, NodeStarted)]
        ended = {_key(event) for event in self.published if isinstance(event, NodeCompleted)}
        assert set(started) <= ended
        assert current_session_id() is None


class NumberedRuns(TrackedRuns):
    """The same without explicit numbers: attempts are numbered from 1, without a gap."""

    @rule(node=nodes, run_id=run_ids, attempt=st.none(), status=statuses, success=st.booleans())
    def end_node(
        self, node: str, run_id: str | None, attempt: int | None, status: Any, success: bool
    ) -> None:
        """End an attempt."""
        self.tracker.node_completed(node, success, run_id=run_id, status=status)

    @invariant()
    def attempts_are_numbered_from_one(self) -> None:
        """Each number is at most one more than the highest before."""
        highest: Counter[tuple[str | None, str]] = Counter()
        for event in self.published:
            if isinstance(event, NodeStarted | NodeCompleted):
                node = (event.run_id, event.node_id)
                assert 1 <= event.attempt <= highest[node] + 1
                highest[node] = max(highest[node], event.attempt)


def _key(event: NodeStarted | NodeCompleted) -> tuple[str | None, str, int]:
    return (event.run_id, event.node_id, event.attempt)


shorter = settings(stateful_step_count=30)
TestTrackedRuns = TrackedRuns.TestCase
TestTrackedRuns.settings = shorter
TestNumberedRuns = NumberedRuns.TestCase
TestNumberedRuns.settings = shorter
