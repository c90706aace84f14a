"""Metrics of each skill, folded from ended invocations.

No clock, no file, no bus: the same code counts live and from stored invocations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from eventbus.events.records import SkillInvocation

__all__ = ["MAX_KINDS", "OTHER", "SkillMetrics", "render_report", "summarize"]

MAX_KINDS = 1_024
"""How many different paths, errors or follow-up actions are counted per skill."""
OTHER = "(other)"
"""The name under which all others are counted: generated names must not fill the memory."""


@dataclass(slots=True)
class SkillMetrics:
    """The metrics of one skill.

    Attributes:
        skill_name: The skill's name.
        total_invocations: The number of ended invocations.
        completed_invocations: The number of completed invocations.
        abandoned_invocations: The number of abandoned invocations.
        total_duration_seconds: The sum over the completed invocations.
        workflow_paths: How often each path was chosen.
        common_errors: How often each type of exception ended an invocation.
        follow_up_actions: How often each action was taken.
        first_invoked: When the earliest invocation began, in ISO 8601.
        last_invoked: When the latest invocation began, in ISO 8601.
    """

    skill_name: str
    total_invocations: int = 0
    completed_invocations: int = 0
    abandoned_invocations: int = 0
    total_duration_seconds: float = 0.0
    workflow_paths: dict[str, int] = field(default_factory=dict[str, int])
    common_errors: dict[str, int] = field(default_factory=dict[str, int])
    follow_up_actions: dict[str, int] = field(default_factory=dict[str, int])
    first_invoked: str | None = None
    last_invoked: str | None = None

    def add(self, invocation: SkillInvocation) -> None:
        """Count one ended invocation."""
        self.total_invocations += 1
        if invocation.completed:
            self.completed_invocations += 1
            self.total_duration_seconds += invocation.duration_seconds or 0.0
        else:
            self.abandoned_invocations += 1
        if invocation.workflow_path is not None:
            _tally(self.workflow_paths, invocation.workflow_path)
        if invocation.error_type is not None:
            _tally(self.common_errors, invocation.error_type)
        for action in invocation.follow_up_actions:
            _tally(self.follow_up_actions, action)
        self._widen(invocation.invoked_at)

    def _widen(self, invoked_at: str) -> None:
        when = _instant(invoked_at)
        if when is None:
            return
        first, last = _instant(self.first_invoked), _instant(self.last_invoked)
        if first is None or when < first:
            self.first_invoked = invoked_at
        if last is None or when >= last:
            self.last_invoked = invoked_at

    def completion_rate(self) -> float:
        """Return the completed share of the ended invocations in per cent; 0.0 if there are none."""
        return _ratio(self.completed_invocations, self.total_invocations) * 100

    def avg_duration_seconds(self) -> float:
        """Return the mean duration of the completed invocations; 0.0 if there are none."""
        return _ratio(self.total_duration_seconds, self.completed_invocations)

    def copy(self) -> SkillMetrics:
        """Return an independent copy."""
        return replace(
            self,
            workflow_paths=dict(self.workflow_paths),
            common_errors=dict(self.common_errors),
            follow_up_actions=dict(self.follow_up_actions),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the shape of a skill in ``skill_metrics.json``."""
        return {
            **asdict(self),
            "completion_rate": self.completion_rate(),
            "avg_duration_seconds": self.avg_duration_seconds(),
        }


def summarize(skills: Mapping[str, SkillMetrics]) -> dict[str, Any]:
    """Return the totals over all skills, the most used first in ``skills_by_usage``."""
    by_usage = _by_count({name: metrics.total_invocations for name, metrics in skills.items()})
    most_used, most_used_count = by_usage[0] if by_usage else (None, 0)
    total = sum(metrics.total_invocations for metrics in skills.values())
    completed = sum(metrics.completed_invocations for metrics in skills.values())
    duration = sum(metrics.total_duration_seconds for metrics in skills.values())
    return {
        "total_skills": len(skills),
        "total_invocations": total,
        "overall_completion_rate": _ratio(completed, total) * 100,
        "most_used_skill": most_used,
        "most_used_count": most_used_count,
        "avg_duration_seconds": _ratio(duration, completed),
        "skills_by_usage": by_usage,
    }


def render_report(skills: Mapping[str, SkillMetrics]) -> str:
    """Return the metrics of all skills as text for people."""
    if not skills:
        return "No skill was tracked."
    summary = summarize(skills)
    used = f"{summary['total_skills']} skills, {summary['total_invocations']} invocations"
    lines = [f"{used}, {_quality(summary['overall_completion_rate'], summary['avg_duration_seconds'])}"]
    for name, count in summary["skills_by_usage"]:
        lines += ["", *_report_lines(name, count, skills[name])]
    return "\n".join(lines)


def _report_lines(name: str, count: int, metrics: SkillMetrics) -> list[str]:
    quality = _quality(metrics.completion_rate(), metrics.avg_duration_seconds())
    lines = [f"{name}: {count} invocations, {quality}"]
    for title, counts in (
        ("paths", metrics.workflow_paths),
        ("follow-up actions", metrics.follow_up_actions),
        ("errors", metrics.common_errors),
    ):
        if counts:
            lines.append(f"  {title}: " + ", ".join(f"{kind} ({n})" for kind, n in _by_count(counts)[:5]))
    return lines


def _quality(completion_rate: float, average: float) -> str:
    return f"{completion_rate:.1f} % completed, {average:.1f} s on average"


def _tally(counts: dict[str, int], kind: str) -> None:
    if kind not in counts and len(counts) >= MAX_KINDS:
        kind = OTHER
    counts[kind] = counts.get(kind, 0) + 1


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _instant(text: str | None) -> datetime | None:
    """Read an ISO 8601 time; one without an offset is local, as in older files."""
    try:
        return None if text is None else datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        return None
