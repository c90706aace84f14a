"""Sessions that were linked are read as one."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import pytest
from eventbus_subscribers import LiveCorrelator
from msgspec.structs import replace

from eventbus import EventBus, SessionCorrelated
from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    SessionLinked,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from tests.correlation.examples import at


def skill(session: str, begin: float, end: float) -> list[Event]:
    of: dict[str, Any] = {"session_id": session, "skill_name": f"of {session}", "invocation_id": session}
    return [
        SkillStarted(**of, timestamp=at(begin)),
        SkillCompleted(**of, timestamp=at(end), duration_seconds=end - begin),
    ]


def run(session: str, begin: float, end: float, *, status: Any = "ok") -> list[Event]:
    of: dict[str, Any] = {"session_id": session, "workflow_id": f"of {session}", "run_id": f"r{session}"}
    details = {"hook": "ruff", "status": "passed", "duration_seconds": 1.0}
    return [
        WorkflowStarted(**of, timestamp=at(begin), nodes=("tests",)),
        NodeProgress(**of, timestamp=at(begin), node_id="tests", metadata=details),
        NodeCompleted(**of, timestamp=at(end), node_id="tests", status=status),
        WorkflowCompleted(
            **of, timestamp=at(end), duration_seconds=end - begin, status=status, metadata={"exit_code": 3}
        ),
    ]


def link(session: str | None, other: str, when: float = 5) -> SessionLinked:
    return SessionLinked(session_id=session, other=other, timestamp=at(when))


def fold(*events: Event) -> Correlation:
    correlation = Correlation()
    correlation.add_all(events)
    return correlation


def names(*events: Event) -> set[str]:
    return set(fold(*events).sessions())


AGENT = [*skill("agent", 0, 10), *run("agent", 1, 2)]
JOB = run("job", 3, 7, status="failed")


def as_one(events: list[Event]) -> CorrelatedSession:
    """Return the session that the events would be if all had one session id."""
    (one,) = fold(*(replace(each, session_id="agent") for each in events)).sessions().values()
    return one


def test_linked_sessions_are_as_one() -> None:
    """The figures and the records are those of one session with all the events; a record keeps its own id."""
    linked, expected = fold(*AGENT, *JOB, link("agent", "job")), as_one([*AGENT, *JOB])
    found = linked.session("agent")
    assert found is not None
    assert found == linked.session("job") == linked.sessions()["agent"]
    assert linked.all_figures() == {"agent": linked.figures("job")}
    assert (len(linked), linked.owner("job"), linked.owner("agent")) == (1, "agent", "agent")
    assert {record["session_id"] for record in found.workflow_events} == {"agent", "job"}
    found.workflow_events = [{**record, "session_id": "agent"} for record in found.workflow_events]
    assert found == expected


def test_a_link_may_come_at_any_time() -> None:
    """Neither order nor repeats change the sessions."""
    expected = fold(*AGENT, *JOB, link("agent", "job")).sessions()
    events = [*AGENT, *JOB, link("agent", "job")] * 2
    for seed in range(10):
        random.Random(seed).shuffle(events)
        found = fold(*events).sessions()
        for each in (*found.values(), *expected.values()):
            each.workflow_events.sort(key=lambda record: (record["timestamp"], str(record)))
        assert found == expected


def test_open_sessions_stay_open() -> None:
    """A session is open as long as one of those that belong to it."""
    correlation = fold(*AGENT, *JOB[:2], link("agent", "job"))
    session = correlation.session("agent")
    assert session is not None
    assert (session.is_open, session.workflows_open) == (True, 1)
    items = correlation.open_items("job")
    assert (list(items.invocations), list(items.runs), list(items.not_run)) == ([], ["rjob"], ["tests"])
    correlation.add_all(JOB[2:])
    session = correlation.session("agent")
    assert session is not None
    assert not session.is_open


def test_the_sessions_of_two_agents_stay_apart() -> None:
    """Each has its own job, even if the jobs ran at the same time on one server."""
    found = fold(
        *skill("a", 0, 9),
        *skill("b", 0, 9),
        *run("j1", 1, 8),
        *run("j2", 1, 8),
        link("a", "j1"),
        link("b", "j2"),
    ).sessions()
    assert {name: each.workflow_ids for name, each in found.items()} == {"a": ("of j1",), "b": ("of j2",)}
    assert {name: each.skill_names for name, each in found.items()} == {"a": ("of a",), "b": ("of b",)}


@pytest.mark.parametrize(("first", "second"), [((5, "a"), (6, "b")), ((6, "b"), (5, "a"))])
def test_a_job_that_two_agents_claim(first: tuple[float, str], second: tuple[float, str]) -> None:
    """It belongs to the one whose link is the earliest, and does not join the two."""
    links = [link(name, "job", when) for when, name in (first, second)]
    found = fold(*skill("a", 0, 9), *skill("b", 0, 9), *JOB, *links).sessions()
    assert {name: each.workflows for name, each in found.items()} == {"a": 1, "b": 0}


@pytest.mark.parametrize("odd", [link("job", "job"), link(None, "job"), link("", "job"), link("agent", "")])
def test_a_link_that_says_nothing_is_ignored(odd: SessionLinked) -> None:
    """To itself, from or to no session."""
    assert not Correlation().add(odd)
    assert names(*AGENT, *JOB, odd) == {"agent", "job"}


def test_links_of_links() -> None:
    """They lead to the first of the chain, whose events may be missing."""
    chain = [link("agent", "job"), link("job", "part"), link("root", "agent")]
    for order in permutations(chain):
        assert names(*AGENT, *JOB, *run("part", 4, 5), *order) == {"root"}


def test_sessions_that_are_linked_in_a_circle() -> None:
    """They are one, by the first of their names."""
    circle = [link("a", "b"), link("b", "c"), link("c", "a")]
    assert names(*skill("c", 0, 1), *skill("b", 0, 1), *skill("x", 0, 1), *circle) == {"a", "x"}
    assert names(*skill("c", 0, 1), *run("d", 0, 1), *circle, link("c", "d")) == {"a"}


def test_sessions_may_be_kept_apart() -> None:
    """`joins=False` ignores links."""
    correlation = Correlation(joins=False)
    correlation.add_all([*AGENT, *JOB, link("agent", "job")])
    assert set(correlation.sessions()) == {"agent", "job"}


def test_live_correlation_sees_the_join() -> None:
    """`SessionCorrelated` has the id of the agent's session, at the link and for the job's later events."""
    live, found = LiveCorrelator(), list[SessionCorrelated]()
    with EventBus([live]) as bus:
        bus.subscribe(found.append, SessionCorrelated)
        for event in (*skill("agent", 0, 10)[:1], *JOB[:2]):
            bus.publish(event)
        bus.publish(link("agent", "job"))
        for event in JOB[2:]:
            bus.publish(event)
    assert [(each.session_id, each.skills, each.workflows) for each in found] == [("agent", 1, 1)] * 2
    assert [each.open for each in found] == [True, True]
    assert set(live.sessions()) == {"agent"}
