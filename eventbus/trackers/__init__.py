"""Turn work into events: skill invocations, workflow runs, and the phases of Oneiric."""

from eventbus.trackers.phase_task import PhaseTask
from eventbus.trackers.skill_metrics import SkillMetrics
from eventbus.trackers.skills import SkillMetricsTracker, SkillTracker, get_tracker, track_skill
from eventbus.trackers.tracked_skill import SkillCompleter, TrackedSkill
from eventbus.trackers.workflows import WorkflowEventTracker

__all__ = [
    "PhaseTask",
    "SkillCompleter",
    "SkillMetrics",
    "SkillMetricsTracker",
    "SkillTracker",
    "TrackedSkill",
    "WorkflowEventTracker",
    "get_tracker",
    "track_skill",
]
