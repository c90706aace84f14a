"""Folding events, in any order and number, into sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.correlation import CorrelatedSession, Correlation, correlation_report, detect_patterns
from eventbus.correlator import SkillsWorkflowCorrelator
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStatus,
    SessionCorrelated,
    SkillCompleted,
    SkillEvent,
    SkillFollowedUp,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
)
from tests.correlation.examples import at, begun, events, node, run, skill


def fold(*events: Event, **limits: Any) -> Correlation:
    correlation = Correlation(**limits)
    correlation.add_all(events)
    return correlation


def only(*events: Event) -> CorrelatedSession:
    (session,) = fold(*events).sessions().values()
    return session


def test_a_skill_and_a_workflow_of_one_session_meet() -> None:
    """Events of a skill and of a run with one session id make one session with the figures of both."""
    session = only(*skill(0, 10), *run(1, 5), begun("tests", 1), node("tests", 3))
    assert session.session_id == "s"
    assert (session.skills, session.skills_ended, session.skills_completed) == (1, 1, 1)
    assert (session.workflows, session.workflows_ended, session.workflow_nodes_completed) == (1, 1, 1)
    assert (session.total_skill_duration, session.total_workflow_duration) == (10.0, 4.0)


def test_same_named_skills_of_a_day_stay_apart() -> None:
    """Without a session id each invocation has its own bucket, whatever its name and day."""
    sessions = fold(*skill(0, 1, id_="a", session=None), *skill(2, 3, id_="b", session=None)).sessions()
    assert set(sessions) == {"unattributed:skill:a", "unattributed:skill:b"}


def test_to_dict_has_exactly_the_legacy_keys() -> None:
    """`to_dict` returns the nine legacy keys, in order, with records of seven and six keys."""
    shown = only(*skill(0, 10), *run(1, 5)).to_dict()
    assert list(shown) == [
        "session_id", "start_time", "end_time", "skill_invocations", "workflow_events",
        "total_skill_duration", "total_workflow_duration", "skills_completed", "workflow_nodes_completed",
    ]  # fmt: skip
    assert len(shown["skill_invocations"][0]) == 7
    assert set(shown["workflow_events"][0]) == {
        "event_type", "workflow_id", "node_id", "timestamp", "session_id", "metadata",
    }  # fmt: skip


def test_a_constructed_session_has_the_legacy_defaults() -> None:
    """A session built from an id and a start has default figures, and shares no list with another."""
    one, other = CorrelatedSession("a", "2025-01-01T00:00:00"), CorrelatedSession("b", "2025-01-01T00:00:00")
    one.skill_invocations.append({})
    assert other.skill_invocations == []
    assert (one.end_time, one.total_skill_duration, one.workflow_nodes_completed) == (None, 0.0, 0)


def test_instants_are_compared_not_texts() -> None:
    """With mixed offsets the earliest instant is the start, though its text sorts last."""
    plus_9, minus_7 = timezone(timedelta(hours=9)), timezone(timedelta(hours=-7))
    early = datetime(2025, 6, 1, 23, tzinfo=plus_9)  # 14:00 UTC
    late = datetime(2025, 6, 1, 8, tzinfo=minus_7)  # 15:00 UTC
    session = only(
        SkillStarted(session_id="s", skill_name="run", invocation_id="a", timestamp=early),
        SkillCompleted(session_id="s", skill_name="run", invocation_id="a", timestamp=late),
    )
    assert session.start_time == "2025-06-01T14:00:00+00:00"
    assert session.end_time == "2025-06-01T15:00:00+00:00"


@pytest.mark.parametrize(
    "still_open",
    [skill(0), run(0), [begun("tests", 1)], [*skill(0, 9), *run(1)], [*run(1, 2), *run(3, id_="r2")]],
    ids=["skill", "run", "node of a run whose start was missed", "run inside", "second run"],
)
def test_an_open_session_has_no_end(still_open: list[Event]) -> None:
    """While a skill or a run is open, the session is open and has no end time."""
    session = only(*still_open)
    assert session.end_time is None
    assert session.is_open


@pytest.mark.parametrize(
    ("events", "end"),
    [
        (skill(0, 9), 9),
        ([*run(1, 5), *skill(0, 9)], 9),
        (
            [
                *run(0),
                begun("tests", 1),
                WorkflowCompleted(session_id="s", workflow_id="ci", run_id="r", timestamp=at(3)),
            ],
            3,
        ),
        ([node("tests", 4)], 4),
        ([begun("tests", 1), node("tests", 4)], 4),
    ],
    ids=[
        "skill",
        "both",
        "a node that never ended ends with its run",
        "a node alone",
        "a node of a run whose start was missed",
    ],
)
def test_a_closed_session_ends_with_its_latest_end(events: list[Event], end: float) -> None:
    """After everything has ended, the end time is the latest end."""
    session = only(*events)
    assert session.end_time == at(end).isoformat()
    assert not session.is_open


def test_a_start_that_was_not_seen_is_computed() -> None:
    """A completion without a start began its duration before its end."""
    assert only(skill(3, 10)[1]).start_time == at(3).isoformat()
    assert only(node("tests", 5)).start_time == at(4).isoformat()


def test_a_late_start_replaces_the_computed_one() -> None:
    """A start that arrives after its end replaces the computed start."""
    started, ended = skill(4, 10)
    longer = SkillCompleted(
        session_id="s", skill_name="run", invocation_id="i", timestamp=at(10), duration_seconds=8
    )
    assert only(longer, started).start_time == only(started, longer).start_time == at(4).isoformat()
    assert only(ended, started) == only(started, ended)


def test_a_clock_set_back_makes_nothing_negative() -> None:
    """An end before its start, or a negative duration, gives no negative figure."""
    started = skill(60)
    ended = SkillCompleted(
        session_id="s", skill_name="run", invocation_id="i", timestamp=at(0), duration_seconds=-60
    )
    session = only(*started, ended)
    assert session.total_skill_duration == 0.0
    assert session.end_time == session.start_time == at(60).isoformat()


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0, None, 10**400, "ten"])
def test_an_impossible_duration_keeps_sums_finite(duration: Any) -> None:
    """Durations that cannot be added up are ignored, and nothing is raised."""
    impossible = SkillCompleted(
        session_id="s", skill_name="x", invocation_id="x", timestamp=at(1), duration_seconds=duration
    )
    total = only(impossible, *skill(0, 2)).total_skill_duration
    assert 2.0 <= total < 1e300


def test_a_duration_of_zero_is_a_duration() -> None:
    """A duration of 0.0 is kept in the record."""
    session = only(*skill(1, 1))
    assert session.skill_invocations[0]["duration_seconds"] == 0.0


@pytest.mark.parametrize(
    ("statuses", "completed", "failed", "skipped", "cancelled"),
    [
        (["ok"], 1, 0, 0, 0),
        (["failed"], 0, 1, 0, 0),
        (["skipped"], 0, 0, 1, 0),
        (["cancelled"], 0, 0, 0, 1),
        (["failed", "ok"], 1, 0, 0, 0),
        (["ok", "failed"], 1, 0, 0, 0),
        (["failed", "failed"], 0, 1, 0, 0),
        (["failed", "cancelled"], 0, 1, 0, 0),
        (["cancelled", "failed", "ok"], 1, 0, 0, 0),
    ],
)
def test_a_node_counts_once_by_its_best_attempt(
    statuses: list[NodeStatus], completed: int, failed: int, skipped: int, cancelled: int
) -> None:
    """A node counts once, by its best attempt: a successful retry makes it completed and not failed."""
    session = only(*(node("tests", n, status, attempt=n) for n, status in enumerate(statuses, 1)))
    assert session.workflow_nodes_completed == completed
    assert session.workflow_nodes_failed == failed
    assert session.workflow_nodes_skipped == skipped
    assert session.workflow_nodes_cancelled == cancelled
    assert session.node_attempts_completed == statuses.count("ok")
    assert session.node_attempts_failed == statuses.count("failed")


def test_the_same_node_in_two_runs_is_two_nodes() -> None:
    """Nodes of the same name in different runs are different nodes."""
    assert only(node("tests", 1, id_="a"), node("tests", 2, id_="b")).workflow_nodes_completed == 2


def test_overlapping_runs_keep_their_own_durations() -> None:
    """The durations of overlapping runs of one workflow add up."""
    first, second = run(0, 10, id_="a"), run(2, 5, id_="b")
    session = only(first[0], second[0], second[1], first[1])
    assert (session.workflows, session.total_workflow_duration) == (2, 13.0)


def whole() -> list[Event]:
    return [
        *skill(0, 10),
        *run(1, 9),
        begun("a", 2),
        node("a", 3, "failed"),
        begun("a", 4, attempt=2),
        node("a", 5, attempt=2),
    ]


def test_an_event_seen_twice_counts_once() -> None:
    """A repeated event, at once or later, changes nothing."""
    once = only(*whole())
    assert only(*whole(), *whole()) == once
    assert only(*[event for event in whole() for _ in range(3)]) == once


def test_a_second_completion_of_the_same_thing_counts_once() -> None:
    """A second completion with another timestamp and duration is ignored."""
    again = [*skill(0, 99)[1:], *run(0, 99)[1:], node("a", 99, "ok", attempt=1)]
    assert fold(*whole(), *again).session("s") == fold(*whole()).session("s")


def test_a_different_invocation_run_or_attempt_counts_again() -> None:
    """An event with another id is not a repeat."""
    session = only(*skill(0, 1), *skill(0, 1, id_="j"), *run(0, 1), *run(0, 1, id_="q"))
    assert (session.skills_completed, session.workflows_ended) == (2, 2)


def test_ends_before_starts_give_the_same_figures() -> None:
    """Events in reverse order give the same figures."""
    assert fold(*reversed(whole())).figures("s") == fold(*whole()).figures("s")


def test_events_without_session_have_one_bucket_per_run() -> None:
    """Runs without a session are not merged with each other or with a session."""
    sessions = fold(
        *run(0, 1, id_="a", session=None), *run(0, 1, id_="b", session=None), *run(0, 1, id_="a"),
        *skill(0, 1, id_="a", session=None), node("n", 1, id_="a", session=None),
    ).sessions()  # fmt: skip
    assert set(sessions) == {"unattributed:run:a", "unattributed:run:b", "s", "unattributed:skill:a"}
    assert sessions["unattributed:run:a"].workflow_nodes_completed == 1
    assert sessions["s"].workflow_nodes_completed == 0


def test_an_empty_session_id_names_no_session() -> None:
    """An empty session id counts as None."""
    assert list(fold(*skill(0, session="")).sessions()) == ["unattributed:skill:i"]


def test_a_session_named_like_a_bucket_is_not_taken_for_it() -> None:
    """A session whose id is the name of a bucket keeps its own figures, under another name."""
    correlation = fold(*run(0, 1, id_="x", session=None), *skill(0, 1, session="unattributed:run:x"))
    assert set(correlation.sessions()) == {"unattributed:run:x", "unattributed:session:unattributed:run:x"}
    bucket, named = map(
        correlation.figures, ("unattributed:run:x", "unattributed:session:unattributed:run:x")
    )
    assert bucket is not None
    assert named is not None
    assert (bucket.skills, bucket.workflows, named.skills, named.workflows) == (0, 1, 1, 0)


def test_an_unknown_name_gives_none() -> None:
    """An unknown name gives None, with the reserved prefix or without."""
    correlation = fold(*whole())
    assert correlation.session("other") is None
    assert correlation.figures("unattributed:run:r") is None


def test_progress_and_foreign_events_change_nothing() -> None:
    """Progress and other events make no session and no record."""

    class NodePondered(WorkflowEvent, frozen=True, kw_only=True):
        pass

    progress = NodeProgress(session_id="p", workflow_id="ci", node_id="a")
    correlated = SessionCorrelated(
        session_id="p", skills=1, skills_completed=1, workflows=1, nodes_completed=1, nodes_failed=0,
        total_skill_duration=1, total_workflow_duration=1, open=False,
    )  # fmt: skip
    correlation = Correlation()
    assert not any(
        correlation.add(event) for event in (progress, NodePondered(workflow_id="ci"), correlated, Event())
    )
    assert correlation.sessions() == {}


def test_a_subclass_is_folded_as_its_base() -> None:
    """An event of a user's subclass counts like one of its base."""

    class NodeCompletedRemotely(NodeCompleted, frozen=True, kw_only=True):
        host: str = "h"

    assert (
        only(NodeCompletedRemotely(session_id="s", workflow_id="ci", node_id="a")).workflow_nodes_completed
        == 1
    )


def test_add_returns_true_when_a_skill_or_run_began_or_ended() -> None:
    """`add` returns True for the start and end of a skill or run, and False for nodes and repeats."""
    correlation = Correlation()
    news = [correlation.add(event) for event in [*skill(0, 9), *run(1, 8), begun("a", 2), node("a", 3)]]
    assert news == [True, True, True, True, False, False]
    assert not any(correlation.add(event) for event in [*skill(0, 9), *run(1, 8)])


# Runs without an id.


def unnamed(*spans: tuple[float, float]) -> list[list[Event]]:
    return [run(start, end, id_=None) for start, end in spans]


def test_runs_without_ids_are_distinguished_by_their_starts() -> None:
    """Two consecutive runs without ids are two runs, and their nodes two nodes."""
    (start_1, end_1), (start_2, end_2) = unnamed((0, 4), (5, 8))
    session = only(start_1, node("a", 1, id_=None), end_1, start_2, node("a", 6, id_=None), end_2)
    assert (session.workflows, session.workflows_ended, session.total_workflow_duration) == (2, 2, 7.0)
    assert session.workflow_nodes_completed == 2
    assert session.end_time == at(8).isoformat()


def test_completions_alone_are_each_a_run() -> None:
    """Two different ends without starts and ids are two runs; a repeated one is not."""
    ends = [events[1] for events in unnamed((0, 4), (5, 8))]
    assert only(*ends, *ends).total_workflow_duration == 7.0


def test_a_retry_without_run_and_attempt_is_one_completed_node() -> None:
    """In a run without an id, a node that failed and then succeeded is one completed node."""
    events = [
        *unnamed((0, 9))[0],
        begun("a", 1, id_=None),
        node("a", 2, "failed", id_=None),
        begun("a", 3, id_=None),
    ]
    session = only(*events[:1], *events[2:], node("a", 4, id_=None), events[1])
    assert (session.workflow_nodes_completed, session.workflow_nodes_failed) == (1, 0)
    assert (session.node_attempts_completed, session.node_attempts_failed) == (1, 1)
    assert session.end_time == at(9).isoformat()


def test_a_repeat_in_a_run_without_an_id_counts_once() -> None:
    """Repeated events without ids change nothing."""
    (start, end), *_ = unnamed((0, 9))
    events = [start, begun("a", 1, id_=None), node("a", 2, id_=None), end]
    assert only(*events, *events) == only(*events)


def test_an_end_that_overtook_its_start_is_the_same_run() -> None:
    """Without an id, an end and an older start that arrives later are one run."""
    ((start, end),) = unnamed((0, 9))
    session = only(end, start)
    assert (session.workflows, session.is_open) == (1, False)


def test_overlapping_runs_without_ids_all_end() -> None:
    """Without ids, each end ends one of the open runs."""
    (start_1, end_1), (start_2, end_2) = unnamed((0, 9), (1, 5))
    session = only(start_1, start_2, end_2, end_1)
    assert (session.workflows, session.is_open, session.total_workflow_duration) == (2, False, 13.0)


def test_runs_with_neither_id_nor_session_have_one_bucket_each() -> None:
    """Each run without an id and a session has its own bucket."""
    events = [event for start in (0, 10) for event in run(start, start + 1, id_=None, session=None)]
    sessions = fold(*events).sessions()
    assert list(sessions) == [
        "unattributed:workflow:ci#1@2025-06-01T12:00:00+00:00",
        "unattributed:workflow:ci#2@2025-06-01T12:00:10+00:00",
    ]
    assert all(session.total_workflow_duration == 1.0 for session in sessions.values())
    assert fold(*events).figures(next(iter(sessions))) is not None


# Bounds.


def test_the_least_recently_touched_ended_session_is_evicted_first() -> None:
    """An ended session is evicted before an open one; of the ended ones, the one touched longest ago."""
    correlation = fold(
        *skill(0, session="open"), *skill(0, 1, session="a"), *skill(0, 1, session="b"), max_sessions=3
    )
    correlation.add(node("n", 5, session="a"))
    correlation.add_all(skill(0, 1, session="c"))
    assert set(correlation.sessions()) == {"open", "a", "c"}
    assert correlation.evicted == 1


def test_with_only_open_sessions_the_least_recently_touched_goes() -> None:
    """If all sessions are open, the one touched longest ago is evicted."""
    correlation = Correlation(max_sessions=100)
    for number in range(1_000):
        correlation.add_all(skill(0, session=f"s{number}", id_=f"i{number}"))
    assert list(correlation.all_figures()) == [f"s{number}" for number in range(900, 1_000)]
    assert correlation.evicted == 900


def test_an_evicted_session_begins_again() -> None:
    """Later events of an evicted session make a new one."""
    correlation = fold(*skill(0), *skill(0, session="t"), max_sessions=1)
    correlation.add(skill(0, 4)[1])
    session = correlation.session("s")
    assert session is not None
    assert (session.skills, session.skills_ended, correlation.evicted) == (1, 1, 2)


def test_totals_are_right_beyond_the_records_kept() -> None:
    """Beyond the limit the newest records are kept; the figures count all, and the dropped ones."""
    many = [event for n in range(500) for event in (*skill(n, n + 1, id_=f"i{n}"), node(f"n{n}", n))]
    correlation = fold(*many, max_records=40)
    session = correlation.session("s")
    assert session is not None
    assert (session.skills_completed, session.workflow_nodes_completed) == (500, 500)
    assert session.total_skill_duration == 500.0
    assert session.start_time == at(-1).isoformat()
    assert len(session.workflow_events) == 40
    assert 0 < len(session.skill_invocations) <= 40
    assert session.workflow_events[-1]["node_id"] == "n499"
    assert session.skill_invocations[-1]["invoked_at"] == at(499).isoformat()
    assert session.records_dropped == correlation.dropped == 1_000 - 40 - len(session.skill_invocations)


def test_dropped_includes_the_records_of_evicted_sessions() -> None:
    """The number of dropped records includes those of evicted sessions."""
    correlation = fold(*(node(f"n{n}", n) for n in range(10)), max_records=4, max_sessions=1)
    before = correlation.dropped
    correlation.add_all(skill(0, session="t"))
    assert correlation.dropped == before == 6


def test_an_open_skill_is_not_evicted_by_ended_ones() -> None:
    """An open skill is remembered while more short ones than the limit begin and end."""
    inner = [event for n in range(200) for event in skill(n, n + 1, id_=f"i{n}")]
    started, ended = skill(0, 1_000, id_="long")
    session = fold(started, *inner, ended, max_records=8).session("s")
    assert session is not None
    assert (session.skills, session.skills_ended, session.is_open) == (201, 201, False)


def weigh(thing: Any, seen: set[int]) -> int:
    """Return the number of objects that can be reached, down to events and plain values."""
    if id(thing) in seen:
        return 0
    if isinstance(thing, Event | datetime | str | int | float | type):
        return 1
    seen.add(id(thing))
    children: list[Any] = []
    if isinstance(thing, dict):
        children = [*cast("Any", thing), *cast("Any", thing).values()]
    elif isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
        children = list(cast("Any", thing))
    classes: tuple[type, ...] = type(thing).__mro__
    slots: list[str] = [name for cls in classes for name in getattr(cls, "__slots__", ())]
    children += [getattr(thing, name) for name in slots if hasattr(thing, name)]
    children += list(getattr(thing, "__dict__", {}).values())
    return 1 + sum(weigh(child, seen) for child in children)


ENDLESS: list[Callable[[int], Event]] = [
    lambda n: begun("a", n, attempt=n), lambda n: begun(f"n{n}", n), lambda n: run(n, id_=f"r{n}")[0],
    lambda n: run(n, id_=None)[0], lambda n: run(n, n, id_=None)[1],
    lambda n: skill(n, id_=f"i{n}")[0], lambda n: node(f"n{n}", n, id_=None),
    lambda n: node("n", n, attempt=n),
    lambda n: WorkflowCompleted(session_id="s", workflow_id=f"w{n}", timestamp=at(n)),
    lambda n: WorkflowCompleted(session_id=None, workflow_id=f"w{n}", timestamp=at(n)),
]  # fmt: skip


@pytest.mark.parametrize("endless", ENDLESS)
def test_the_memory_is_bounded(endless: Callable[[int], Event]) -> None:
    """The memory of a session, and of all, is bounded for any producer."""

    def weight(count: int) -> int:
        correlation = fold(*(endless(n) for n in range(count)), max_records=16, max_sessions=16)
        return weigh(correlation, set())

    assert weight(4_000) <= weight(1_000) * 1.5


@pytest.mark.parametrize("limits", [{"max_sessions": 0}, {"max_records": 0}, {"max_records": -1}])
def test_a_limit_that_keeps_nothing_is_refused(limits: dict[str, Any]) -> None:
    """A limit below 1 raises ValueError; None means no limit."""
    with pytest.raises(ValueError, match="keeps nothing"):
        Correlation(**limits)
    unlimited: dict[str, Any] = dict.fromkeys(limits)
    Correlation(**unlimited)


# Copies and captures.


def test_a_returned_session_is_a_copy() -> None:
    """Changing a returned session does not change the correlation."""
    correlation = fold(*whole())
    given_out = correlation.session("s")
    assert given_out is not None
    given_out.skill_invocations[0]["skill_name"] = "other"
    given_out.workflow_events[0]["metadata"]["x"] = 1
    given_out.workflow_events.clear()
    assert correlation.session("s") == fold(*whole()).session("s")


def test_a_capture_is_of_the_moment_it_was_made() -> None:
    """A captured session does not change with later events."""
    correlation = fold(*skill(0))
    capture = correlation.capture("s")
    assert capture is not None
    correlation.add_all([skill(0, 5)[1], *run(0, 1)])
    session = capture()
    assert (session.skills_ended, session.is_open, session.workflow_events) == (0, True, [])
    assert session.skill_invocations[0]["completed"] is False


# Patterns and the report.


def shown(skill_seconds: float, workflow_seconds: float) -> tuple[str, ...]:
    session = only(*skill(0, skill_seconds), *run(100, 100 + workflow_seconds))
    return tuple(pattern.name for pattern in detect_patterns(session))


@pytest.mark.parametrize(
    ("skill_seconds", "workflow_seconds", "dominated"),
    [(9, 4, True), (8, 4, False), (8.5, 4, True), (1, 4, False), (1, 0, True), (0, 0, False)],
)
def test_interactive_work_dominates_beyond_twice_the_workflow(
    skill_seconds: float, workflow_seconds: float, dominated: bool
) -> None:
    """The pattern needs more than twice the duration, not exactly twice."""
    assert shown(skill_seconds, workflow_seconds) == (("interactive_dominated",) if dominated else ())


@pytest.mark.parametrize(
    ("skills", "runs", "within", "dominated"),
    [
        ([(0, 20)], [(5, 9)], 4, True),  # 16 s outside, 4 s in the run
        ([(0, 10)], [(1, 9)], 8, False),  # a skill that wraps its run
        ([(0, 10)], [(0, 4), (2, 5)], 5, False),  # runs at the same time count once
        ([(0, 10), (20, 30)], [(9, 21)], 2, False),
        ([(0, 10)], [(10, 12)], 0, True),
        ([(0, 0.4)], [(0, 0)], 0, False),  # over at once
        ([(0, 0.99)], [(5, 5)], 0, False),
    ],
)
def test_of_a_skill_only_the_part_outside_the_runs_is_interactive(
    skills: list[tuple[float, float]], runs: list[tuple[float, float]], within: float, dominated: bool
) -> None:
    """A skill that wraps a run is compared without the run, and less than a second is no difference."""
    events = [event for n, (start, end) in enumerate(skills) for event in skill(start, end, id_=f"i{n}")]
    events += [event for n, (start, end) in enumerate(runs) for event in run(start, end, id_=f"r{n}")]
    for order in (events, events[::-1]):
        session = only(*order)
        assert session.skill_duration_in_workflows == pytest.approx(within)
        assert bool(detect_patterns(session)) is dominated


@pytest.mark.parametrize(
    "events", [skill(0, 9), [*skill(0, 9), *run(0)], [*skill(0), *run(0, 1)], [*skill(0, 9), node("a", 1)]]
)
def test_no_pattern_before_a_skill_and_a_run_have_ended(events: list[Event]) -> None:
    """There is no pattern unless both a skill and a run have ended."""
    assert detect_patterns(only(*events)) == ()


def test_the_report_has_the_legacy_form_newest_first() -> None:
    """The report has the legacy form, and lists sessions by the instant of their start, the newest first."""
    sessions = fold(*skill(0, 10, session="old"), *skill(50, 60, session="new")).sessions()
    report = correlation_report(sessions)
    assert report.startswith(
        "=" * 60 + "\nSkills-Workflow Correlation Report\n" + "=" * 60 + "\n\nTotal Sessions: 2\n"
    )
    assert report.endswith("=" * 60)
    assert report.index("Session: new") < report.index("Session: old")
    assert "  Skills Used: 1\n  Skills Completed: 1\n  Workflow Nodes: 0\n" in report
    assert "  Skill Duration: 10.0s\n  Workflow Duration: 0.0s\n" in report


def test_the_report_orders_by_instant_whatever_the_offset() -> None:
    """Sessions built with other offsets, or none, are sorted by instant, too."""
    sessions = {
        "late": CorrelatedSession("late", "2025-06-01T08:00:00-07:00"),
        "early": CorrelatedSession("early", "2025-06-01T23:00:00+09:00"),
        "naive": CorrelatedSession("naive", "2001-01-01T00:00:00"),
    }
    report = correlation_report(sessions)
    assert report.index("late") < report.index("early") < report.index("naive")


def test_the_report_shows_patterns_and_notes() -> None:
    """The report shows a pattern with its session, and notes at the end."""
    report = correlation_report(fold(*skill(0, 9), *run(0, 1)).sessions(), ["3 are missing"])
    assert "  Pattern: Interactive work dominated automated execution\n" in report
    assert "Note: 3 are missing" in report
    assert "Pattern" not in correlation_report(fold(*skill(0, 9)).sessions())


def test_an_empty_report_says_so() -> None:
    """Without sessions the report is one sentence, followed by the notes."""
    assert correlation_report({}) == "No correlated sessions found."
    assert correlation_report({}, ["x"]) == "No correlated sessions found.\nNote: x"


def test_a_hostile_session_id_forges_no_line() -> None:
    """Control characters in a session id are escaped."""
    report = correlation_report(fold(*skill(0, session="a\n  Skills Used: 99\x1b[2J")).sessions())
    assert "\x1b" not in report
    assert "\n  Skills Used: 99" not in report


# Properties.


def split(all_events: Sequence[Event]) -> tuple[list[SkillEvent], list[WorkflowEvent]]:
    return (
        [event for event in all_events if isinstance(event, SkillEvent)],
        [event for event in all_events if isinstance(event, WorkflowEvent)],
    )


@given(st.lists(events(), max_size=40), st.data())
def test_live_equals_on_demand(drawn: list[Event], data: st.DataObject) -> None:
    """Events folded live, in any batches, give the same sessions as correlating them on demand."""
    live = Correlation()
    rest = list(drawn)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        live.add_all(rest[:size])
        live.sessions()  # reading in between changes nothing
        del rest[:size]
    assert live.sessions() == SkillsWorkflowCorrelator().correlate_by_session(*split(drawn))


@given(st.lists(events(), max_size=40))
def test_no_figure_is_ever_negative_and_no_end_precedes_its_start(drawn: list[Event]) -> None:
    """Figures are never negative, parts never exceed the whole, and no end precedes its start."""
    for session in fold(*drawn).sessions().values():
        numbers = [value for value in _values(session) if isinstance(value, int | float)]
        assert all(number >= 0 for number in numbers)
        assert (
            session.skills_completed
            <= session.skills_ended
            <= session.skills
            == len(session.skill_invocations)
        )
        assert session.workflows_ended <= session.workflows
        if session.end_time is not None:
            assert datetime.fromisoformat(session.start_time) <= datetime.fromisoformat(session.end_time)


@given(st.lists(events(), max_size=30), st.randoms(use_true_random=False))
def test_sessions_do_not_influence_each_other(drawn: list[Event], random: Any) -> None:
    """Interleaving sessions differently, each in its own order, changes none of them."""
    by_session: dict[str | None, list[Event]] = {}
    for event in drawn:
        by_session.setdefault(event.session_id, []).append(event)
    shuffled: list[Event] = []
    while any(by_session.values()):
        one_session = random.choice([one_session for one_session in by_session.values() if one_session])
        shuffled.append(one_session.pop(0))
    assert fold(*shuffled).sessions() == fold(*drawn).sessions()


@given(st.lists(events(), max_size=30))
def test_repeating_everything_changes_nothing(drawn: list[Event]) -> None:
    """Repeating all events in the same order changes nothing."""
    assert fold(*drawn, *drawn).sessions() == fold(*drawn).sessions()


def _values(session: CorrelatedSession) -> list[Any]:
    return [getattr(session, name) for name in session.__struct_fields__]


@given(st.permutations(range(7)))
def test_follow_ups_of_their_own_are_added_to_those_of_the_end(order: list[int]) -> None:
    """An action is in the record once, whether its own event, the end or both report it."""
    started, ended = skill(0, 5)
    ended = msgspec.structs.replace(ended, follow_up_actions=("a", "b"))
    own = [
        SkillFollowedUp(
            session_id="s", skill_name="run", invocation_id="i", action=action, timestamp=at(when)
        )
        for when, action in ((1, "a"), (6, "b"), (7, "a"), (8, "c"))
    ]
    events = [started, ended, *own, own[0]]
    (session,) = fold(*(events[number] for number in order)).sessions().values()
    assert session.skill_invocations[0]["follow_up_actions"] == ["a", "b", "a", "c"]
    assert (session.skills, session.skills_ended, session.skills_open) == (1, 1, 0)
    assert (session.start_time, session.end_time) == (at(0).isoformat(), at(5).isoformat())
