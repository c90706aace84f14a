"""Track skills: each use of one becomes a `SkillStarted` and, exactly once, a `SkillCompleted`.

    with SkillTracker(bus).track("crackerjack-run", "comprehensive") as skill:
        skill.follow_up("git commit")

    complete = track_skill("crackerjack-run", "daily")
    complete(follow_up_actions=["git commit"])

A use that nobody ends is abandoned: when its handle is garbage, at the latest when the interpreter
exits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from eventbus.atomic_file import write_atomically
from eventbus.contracts import EventSink
from eventbus.events import SkillStarted
from eventbus.events.records import SkillInvocation, skill_invocation
from eventbus.fork_safety import ForkSafeLock
from eventbus.trackers.guards import QuietSink, as_text
from eventbus.trackers.skill_metrics import MAX_KINDS, OTHER, SkillMetrics, render_report, summarize
from eventbus.trackers.tracked_skill import SkillCompleter, SkillUse, TrackedSkill

__all__ = ["SkillMetricsTracker", "SkillTracker", "get_tracker", "track_skill"]


class SkillTracker:
    """Publishes the uses of skills, and counts them.

    Its methods may be called from any thread, and none but `export_metrics` raises for what its
    arguments hold or for what the bus does. Counting never waits: not for a reader either.

    Args:
        bus: Where to publish. None: to the current bus, asked for at each event; where there is
            none, uses are counted and not published.
        session_id: The session of all uses. None: the one each use begins in.
        history: How many ended uses `invocations` holds.

    Raises:
        TypeError: `bus` has no `publish` method.
        ValueError: `history` is negative.
    """

    def __init__(
        self, bus: EventSink | None = None, *, session_id: str | None = None, history: int = 1_024
    ) -> None:
        self.session_id: str | None = None if session_id is None else as_text(session_id)
        self._sink = QuietSink(bus)
        self._invocations: deque[SkillInvocation] = deque(maxlen=history)
        self._metrics: dict[str, SkillMetrics] = {}
        # Ended, and not counted yet. An invocation may end in a finalizer that interrupts this very
        # thread while it counts another: so ending only appends, and whoever can, counts.
        self._uncounted: deque[SkillInvocation] = deque()
        self._counting = ForkSafeLock()

    def track(self, skill_name: str, workflow_path: str | None = None) -> TrackedSkill:
        """Begin one use of a skill, now, and return its handle.

        Args:
            skill_name: The skill's name.
            workflow_path: The path chosen through it, if one was.

        Returns:
            A handle for `with` or `async with`: leaving the block completes the use, leaving it by
            an exception abandons it. Keep it, or the use is abandoned at once.
        """
        names: dict[str, Any] = {"skill_name": as_text(skill_name)}
        if workflow_path is not None:
            names["workflow_path"] = as_text(workflow_path)
        if self.session_id is not None:
            names["session_id"] = self.session_id
        started = SkillStarted(**names)
        self._sink.publish(started)
        return TrackedSkill(SkillUse(started, self._end))

    def track_invocation(self, skill_name: str, workflow_path: str | None = None) -> SkillCompleter:
        """Begin one use of a skill, now, and return what ends it.

        Args:
            skill_name: The skill's name.
            workflow_path: The path chosen through it, if one was.

        Returns:
            ``complete(completed=True, follow_up_actions=None, error_type=None)``. Keep it, or the
            use is abandoned at once.
        """
        return self.track(skill_name, workflow_path).complete

    @property
    def publish_failures(self) -> int:
        """How many exceptions of the bus were kept from the observed work."""
        return self._sink.failures

    @property
    def invocations(self) -> list[SkillInvocation]:
        """The latest ended uses, in the order in which they ended, as copies."""
        with self._counting as outermost:
            self._count_all(outermost)
            ended = list(self._invocations)
        return [replace(use, follow_up_actions=list(use.follow_up_actions)) for use in ended]

    def get_skill_metrics(self, skill_name: str) -> SkillMetrics | None:
        """Return a copy of what is known of one skill; None when no use of it has ended."""
        with self._counting as outermost:
            self._count_all(outermost)
            metrics = self._metrics.get(skill_name)
            return None if metrics is None else metrics.copy()

    def get_all_metrics(self) -> dict[str, SkillMetrics]:
        """Return a copy of what is known of each skill, by its name.

        Beyond 1,024 skills, all others are counted together as ``(other)``.
        """
        with self._counting as outermost:
            self._count_all(outermost)
            return {name: metrics.copy() for name, metrics in self._metrics.items()}

    def get_summary(self) -> dict[str, Any]:
        """Return the totals over all skills."""
        return summarize(self.get_all_metrics())

    def generate_report(self) -> str:
        """Return what is known of all skills as text for people."""
        return render_report(self.get_all_metrics())

    def export_metrics(self, output_file: Path) -> None:
        """Write summary, skills and `invocations` to a JSON file, replacing it whole or not at all.

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

    def _end(self, use: SkillUse, error_type: str | None) -> None:
        try:
            ended = use.completion(error_type)
            self._uncounted.append(skill_invocation(ended, use.started.timestamp))
            self._count()
            self._sink.publish(ended)
        except Exception as error:  # noqa: BLE001 - such as a RecursionError just short of the limit
            self._sink.failed(error)

    def _count(self) -> None:
        while self._uncounted and self._counting.try_enter():
            # Whoever is inside counts ours too, or the next one does.
            try:
                self._count_all(True)
            finally:
                self._counting.leave()

    def _count_all(self, outermost: bool) -> None:
        while outermost and self._uncounted:
            invocation = self._uncounted.popleft()
            self._invocations.append(invocation)
            self._metrics_of(invocation.skill_name).add(invocation)

    def _metrics_of(self, skill_name: str) -> SkillMetrics:
        if skill_name not in self._metrics and len(self._metrics) >= MAX_KINDS:
            skill_name = OTHER
        return self._metrics.setdefault(skill_name, SkillMetrics(skill_name))


SkillMetricsTracker = SkillTracker
"""The name by which older code knows `SkillTracker`."""


_process_tracker = SkillTracker()


def get_tracker() -> SkillTracker:
    """Return the tracker that `track_skill` uses: one for the process, bound to no bus and no directory."""
    return _process_tracker


def track_skill(skill_name: str, workflow_path: str | None = None) -> SkillCompleter:
    """Begin one use of a skill, now, and return what ends it.

    It is published to the innermost bus entered, else to the only one running in the process, else
    it is counted and not published.

    Args:
        skill_name: The skill's name.
        workflow_path: The path chosen through it, if one was.

    Returns:
        ``complete(completed=True, follow_up_actions=None, error_type=None)``. Keep it, or the use
        is abandoned at once.
    """
    return _process_tracker.track_invocation(skill_name, workflow_path)
