"""Track skills: each invocation becomes a `SkillStarted` and, exactly once, a `SkillCompleted`.

    with SkillTracker(bus).track("crackerjack-run", "comprehensive") as skill:
        skill.follow_up("git commit")

    complete = track_skill("crackerjack-run", "daily")
    complete(follow_up_actions=["git commit"])

An invocation that is never ended is abandoned: when its handle is garbage-collected, or at the latest
when the interpreter exits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from eventbus.contracts import EventSink
from eventbus.events import SkillStarted
from eventbus.events.records import SkillInvocation, skill_invocation
from eventbus.ground.atomic_file import write_atomically
from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.trackers.guards import GuardedSink, as_text
from eventbus.trackers.skill_metrics import MAX_KINDS, OTHER, SkillMetrics, render_report, summarize
from eventbus.trackers.tracked_skill import Invocation, SkillCompleter, TrackedSkill

__all__ = ["SkillMetricsTracker", "SkillTracker", "get_tracker", "track_skill"]


class SkillTracker:
    """Publishes and counts skill invocations.

    Its methods may be called from any thread. Except for `export_metrics` they never raise, whatever
    their arguments hold and whatever the bus does. Ending an invocation never waits, not even for a
    reader of the counts.

    Args:
        bus: Where to publish. None: to the current bus, looked up at each event. If there is none,
            invocations are counted and not published.
        session_id: The session of all invocations. None: each has the session it begins in.
        history: How many ended invocations `invocations` holds.

    Raises:
        TypeError: `bus` has no `publish` method.
        ValueError: `history` is negative.
    """

    def __init__(
        self, bus: EventSink | None = None, *, session_id: str | None = None, history: int = 1_024
    ) -> None:
        self.session_id: str | None = None if session_id is None else as_text(session_id)
        self._sink = GuardedSink(bus)
        self._invocations: deque[SkillInvocation] = deque(maxlen=history)
        self._metrics: dict[str, SkillMetrics] = {}
        # Ended, but not counted yet. An invocation may end in a finalizer that interrupts this very
        # thread while it counts another one: therefore ending only appends, and counting is tried.
        self._uncounted: deque[SkillInvocation] = deque()
        self._counting = ForkSafeLock()

    def track(self, skill_name: str, workflow_path: str | None = None) -> TrackedSkill:
        """Begin an invocation of a skill and return its handle.

        Args:
            skill_name: The skill's name.
            workflow_path: The path chosen through the skill.

        Returns:
            A handle for `with` or `async with`: leaving the block completes the invocation, leaving
            it by an exception abandons it. Keep the handle: without it the invocation is abandoned.
        """
        names: dict[str, Any] = {"skill_name": as_text(skill_name)}
        if workflow_path is not None:
            names["workflow_path"] = as_text(workflow_path)
        if self.session_id is not None:
            names["session_id"] = self.session_id
        started = SkillStarted(**names)
        self._sink.publish(started)
        return TrackedSkill(Invocation(started, self._end))

    def track_invocation(self, skill_name: str, workflow_path: str | None = None) -> SkillCompleter:
        """Begin an invocation of a skill and return the function that ends it.

        Args:
            skill_name: The skill's name.
            workflow_path: The path chosen through the skill.

        Returns:
            ``complete(completed=True, follow_up_actions=None, error_type=None)``. Keep it: without it
            the invocation is abandoned.
        """
        return self.track(skill_name, workflow_path).complete

    @property
    def publish_failures(self) -> int:
        """How many exceptions of the bus were kept from the observed work."""
        return self._sink.failures

    @property
    def invocations(self) -> list[SkillInvocation]:
        """Copies of the latest ended invocations, in the order of their ends."""
        is_nested = self._counting.is_inside()
        with self._counting:
            self._count_all(is_nested=is_nested)
            ended = list(self._invocations)
        return [replace(each, follow_up_actions=list(each.follow_up_actions)) for each in ended]

    def get_skill_metrics(self, skill_name: str) -> SkillMetrics | None:
        """Return a copy of one skill's metrics; None if no invocation of it has ended."""
        is_nested = self._counting.is_inside()
        with self._counting:
            self._count_all(is_nested=is_nested)
            metrics = self._metrics.get(skill_name)
            return None if metrics is None else metrics.copy()

    def get_all_metrics(self) -> dict[str, SkillMetrics]:
        """Return a copy of each skill's metrics, by its name.

        Skills beyond the first 1,024 are counted together as ``(other)``.
        """
        is_nested = self._counting.is_inside()
        with self._counting:
            self._count_all(is_nested=is_nested)
            return {name: metrics.copy() for name, metrics in self._metrics.items()}

    def get_summary(self) -> dict[str, Any]:
        """Return the totals over all skills."""
        return summarize(self.get_all_metrics())

    def generate_report(self) -> str:
        """Return the metrics of all skills as text for people."""
        return render_report(self.get_all_metrics())

    def export_metrics(self, output_file: Path) -> None:
        """Write summary, skills and `invocations` to a JSON file, atomically.

        Raises:
            OSError: The file cannot be written.
        """
        skills = self.get_all_metrics()
        document = {
            "summary": summarize(skills),
            "skills": {name: metrics.to_dict() for name, metrics in skills.items()},
            "invocations": [invocation.to_dict() for invocation in self.invocations],
            "exported_at": datetime.now(UTC).isoformat(),
        }
        write_atomically(Path(output_file), msgspec.json.format(msgspec.json.encode(document)))

    def _end(self, invocation: Invocation, error_type: str | None) -> None:
        try:
            ended = invocation.completion(error_type)
            self._uncounted.append(skill_invocation(ended, invocation.started.timestamp))
            self._try_count()
            self._sink.publish(ended)
        except Exception as error:  # noqa: BLE001 - such as a RecursionError just short of the limit
            self._sink.record_failure(error)

    def _try_count(self) -> None:
        # If another entry holds the lock, it counts this invocation, too, or the next entry does.
        while self._uncounted and self._counting.run_if_free(self._count_all):
            pass

    def _count_all(self, *, is_nested: bool = False) -> None:
        while not is_nested and self._uncounted:
            invocation = self._uncounted.popleft()
            self._invocations.append(invocation)
            self._metrics_of(invocation.skill_name).add(invocation)

    def _metrics_of(self, skill_name: str) -> SkillMetrics:
        if skill_name not in self._metrics and len(self._metrics) >= MAX_KINDS:
            skill_name = OTHER
        return self._metrics.setdefault(skill_name, SkillMetrics(skill_name))


SkillMetricsTracker = SkillTracker
"""The name of `SkillTracker` in older code."""


_process_tracker = SkillTracker()


def get_tracker() -> SkillTracker:
    """Return the tracker of `track_skill`: one per process, without a bus of its own."""
    return _process_tracker


def track_skill(skill_name: str, workflow_path: str | None = None) -> SkillCompleter:
    """Begin an invocation of a skill and return the function that ends it.

    Its events go to the innermost bus entered, or to the only bus running in the process. If there is
    neither, the invocation is counted and not published.

    Args:
        skill_name: The skill's name.
        workflow_path: The path chosen through the skill.

    Returns:
        ``complete(completed=True, follow_up_actions=None, error_type=None)``. Keep it: without it the
        invocation is abandoned.
    """
    return _process_tracker.track_invocation(skill_name, workflow_path)
