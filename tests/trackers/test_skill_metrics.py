"""The metrics of skills."""

from __future__ import annotations

import pytest

from eventbus.events.records import SkillInvocation
from eventbus.trackers.skill_metrics import MAX_KINDS, OTHER, SkillMetrics, render_report, summarize


def metrics_of(*invocations: SkillInvocation) -> SkillMetrics:
    metrics = SkillMetrics("s")
    for invocation in invocations:
        metrics.add(invocation)
    return metrics


def invoked(at: str = "2026-01-02T03:04:05+00:00", **fields: object) -> SkillInvocation:
    invocation = SkillInvocation("s", at)
    for name, value in fields.items():
        setattr(invocation, name, value)
    return invocation


def test_completed_and_abandoned_invocations_are_counted_apart() -> None:
    """The completion rate is in per cent; the mean duration is that of completed invocations."""
    metrics = metrics_of(
        invoked(completed=True, duration_seconds=2.0),
        invoked(completed=True, duration_seconds=4.0),
        invoked(completed=False, duration_seconds=99.0),
        invoked(completed=False),
    )
    assert metrics.total_invocations == 4
    assert (metrics.completed_invocations, metrics.abandoned_invocations) == (2, 2)
    assert metrics.completion_rate() == 50.0
    assert metrics.avg_duration_seconds() == 3.0


def test_an_instant_invocation_counts_in_the_mean() -> None:
    """0.0 is a duration."""
    metrics = metrics_of(
        invoked(completed=True, duration_seconds=0.0), invoked(completed=True, duration_seconds=2.0)
    )
    assert metrics.avg_duration_seconds() == 1.0


def test_without_invocations_the_ratios_are_zero() -> None:
    """Nothing is divided by zero."""
    metrics = SkillMetrics("s")
    assert (metrics.completion_rate(), metrics.avg_duration_seconds()) == (0.0, 0.0)
    assert (metrics.first_invoked, metrics.last_invoked) == (None, None)


def test_paths_errors_and_actions_are_counted_by_name() -> None:
    """Each name has its own count."""
    metrics = metrics_of(
        invoked(workflow_path="daily", follow_up_actions=["commit", "push"]),
        invoked(workflow_path="daily", error_type="ValueError", follow_up_actions=["commit"]),
        invoked(),
    )
    assert metrics.workflow_paths == {"daily": 2}
    assert metrics.common_errors == {"ValueError": 1}
    assert metrics.follow_up_actions == {"commit": 2, "push": 1}


def test_first_and_last_are_instants_not_texts() -> None:
    """03:00+05:00 is earlier than 01:00+00:00, although its text sorts later."""
    early, late = "2026-01-02T03:00:00+05:00", "2026-01-02T01:00:00+00:00"
    metrics = metrics_of(invoked(late), invoked(early))
    assert (metrics.first_invoked, metrics.last_invoked) == (early, late)


def test_a_time_that_cannot_be_read_is_counted_but_is_neither_first_nor_last() -> None:
    """The invocations of a damaged file are still counted."""
    metrics = metrics_of(invoked("yesterday"))
    assert (metrics.total_invocations, metrics.first_invoked) == (1, None)


def test_generated_names_do_not_fill_the_memory() -> None:
    """Names beyond the limit are counted together."""
    metrics = metrics_of(*(invoked(follow_up_actions=[f"action {n}"]) for n in range(MAX_KINDS + 10)))
    assert len(metrics.follow_up_actions) == MAX_KINDS + 1
    assert metrics.follow_up_actions[OTHER] == 10
    assert sum(metrics.follow_up_actions.values()) == MAX_KINDS + 10


def test_a_skill_is_written_in_its_legacy_shape() -> None:
    """The two ratios stand beside the counts, as in `skill_metrics.json`."""
    shape = metrics_of(invoked(completed=True, duration_seconds=2.0)).to_dict()
    assert list(shape) == [
        "skill_name",
        "total_invocations",
        "completed_invocations",
        "abandoned_invocations",
        "total_duration_seconds",
        "workflow_paths",
        "common_errors",
        "follow_up_actions",
        "first_invoked",
        "last_invoked",
        "completion_rate",
        "avg_duration_seconds",
    ]
    assert (shape["completion_rate"], shape["avg_duration_seconds"]) == (100.0, 2.0)


def test_a_copy_is_independent() -> None:
    """Later invocations do not change it."""
    metrics = metrics_of(invoked(workflow_path="daily"))
    copy = metrics.copy()
    metrics.add(invoked(workflow_path="daily"))
    assert copy.workflow_paths == {"daily": 1}
    assert copy.total_invocations == 1


def test_the_summary_names_the_most_used_skill_first() -> None:
    """Skills are sorted by their use, equally used ones by their names."""
    skills = {name: SkillMetrics(name) for name in ("c", "b", "a")}
    for name in ("b", "b", "a", "c"):
        skills[name].add(invoked(completed=name != "c", duration_seconds=3.0))
    assert summarize(skills) == {
        "total_skills": 3,
        "total_invocations": 4,
        "overall_completion_rate": 75.0,
        "most_used_skill": "b",
        "most_used_count": 2,
        "avg_duration_seconds": 3.0,
        "skills_by_usage": [("b", 2), ("a", 1), ("c", 1)],
    }


def test_the_summary_of_nothing_has_the_same_keys() -> None:
    """A reader need not check first whether there is a skill."""
    empty = summarize({})
    assert empty.keys() == summarize({"s": metrics_of(invoked())}).keys()
    assert (empty["most_used_skill"], empty["most_used_count"], empty["skills_by_usage"]) == (None, 0, [])


@pytest.mark.parametrize("expected", ["s: 1 invocations", "100.0 %", "daily (1)", "commit (1)"])
def test_the_report_shows_the_metrics(expected: str) -> None:
    """The text has the counts, rates, paths and actions of each skill."""
    used = invoked(completed=True, duration_seconds=1, workflow_path="daily", follow_up_actions=["commit"])
    assert expected in render_report({"s": metrics_of(used)})


def test_the_report_without_a_skill_is_one_line() -> None:
    """It says that there is no skill."""
    assert render_report({}) == "No skill was tracked."
