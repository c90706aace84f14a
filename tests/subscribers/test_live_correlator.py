"""LiveCorrelator: sessions, patterns and reports while things run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
from eventbus_subscribers.live_correlator import LiveCorrelator

from eventbus import (
    Event,
    EventBus,
    EventsLost,
    NodeCompleted,
    NodeStarted,
    PatternDetected,
    SessionCorrelated,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.correlator import SkillsWorkflowCorrelator


class ListBus:
    """Stands in for a bus: keeps what is published."""

    def __init__(self) -> None:
        self.published: list[Event] = []

    def publish(self, event: Event) -> bool:
        """Keep it."""
        self.published.append(event)
        return True


async def started(live: LiveCorrelator) -> ListBus:
    bus = ListBus()
    await live.start(cast("EventBus", bus))
    return bus


async def told(live: LiveCorrelator, *events: Event) -> list[Event]:
    """Return what it publishes of these events."""
    bus = await started(live)
    await live.handle_batch(cast("Sequence[Any]", events))
    return bus.published


def skill(session: str | None = "s", seconds: float = 30.0) -> tuple[SkillStarted, SkillCompleted]:
    header: dict[str, Any] = {"session_id": session, "skill_name": "run", "invocation_id": "i"}
    return SkillStarted(**header), SkillCompleted(**header, duration_seconds=seconds)


def run(session: str | None = "s", seconds: float = 10.0) -> tuple[WorkflowStarted, WorkflowCompleted]:
    header: dict[str, Any] = {"session_id": session, "workflow_id": "ci", "run_id": "r"}
    return WorkflowStarted(**header), WorkflowCompleted(**header, duration_seconds=seconds)


def node(
    name: str = "tests", session: str | None = "s", success: bool = True, attempt: int = 1
) -> NodeCompleted:
    return NodeCompleted(
        session_id=session, workflow_id="ci", run_id="r", node_id=name, success=success, attempt=attempt
    )


@pytest.mark.anyio
async def test_it_tells_of_a_session_as_skills_and_runs_begin_and_end() -> None:
    """From when a session has both, each begin and end of a skill or run is told with its figures."""
    begun, ended = skill()
    run_begun, run_ended = run()
    events = [begun, run_begun, node(success=False), node(attempt=2), run_ended, ended]
    published = await told(LiveCorrelator(), *events)
    first, second, third = (event for event in published if isinstance(event, SessionCorrelated))
    assert (first.session_id, first.skills, first.workflows, first.open) == ("s", 1, 1, True)
    assert (second.nodes_completed, second.nodes_failed, second.total_workflow_duration) == (1, 1, 10.0)
    assert (third.skills_completed, third.total_skill_duration, third.open) == (1, 30.0, False)


@pytest.mark.anyio
@pytest.mark.parametrize("events", [skill(), run(), [*run(), node()], [*skill(None), *run(None)]])
async def test_it_tells_nothing_of_what_has_not_both(events: Sequence[Event]) -> None:
    """A skill or a workflow alone, or both without a session, is nothing correlated."""
    live = LiveCorrelator()
    assert await told(live, *events) == []
    assert live.sessions()


@pytest.mark.anyio
async def test_repeats_and_nodes_are_no_news() -> None:
    """What changes no begin or end of a skill or run is not told."""
    live = LiveCorrelator()
    await told(live, *skill(), *run())
    nodes = [NodeStarted(session_id="s", workflow_id="ci", run_id="r", node_id="a"), node("a")]
    assert await told(live, *skill(), *run(), *nodes) == []


@pytest.mark.anyio
async def test_a_pattern_is_told_once_per_session() -> None:
    """The first pattern is told when both have ended, and not again however often it shows."""
    again = SkillCompleted(session_id="s", skill_name="run", invocation_id="j", duration_seconds=90.0)
    events = [*skill(), *run(), again, *skill("t"), *run("t"), *skill("u", 1.0), *run("u")]
    published = await told(LiveCorrelator(), *events)
    patterns = [
        (event.session_id, event.pattern) for event in published if isinstance(event, PatternDetected)
    ]
    assert patterns == [("s", "interactive_dominated"), ("t", "interactive_dominated")]
    pattern = next(event for event in published if isinstance(event, PatternDetected))
    assert pattern.message == "Interactive work dominated automated execution"


@pytest.mark.anyio
async def test_what_it_hands_out_equals_correlating_on_demand() -> None:
    """The same events, correlated on demand, give the same sessions."""
    live = LiveCorrelator()
    events = [*skill(), *run(), node(), *skill("t"), *run(None)]
    await told(live, *events)
    skills = [event for event in events if isinstance(event, SkillStarted | SkillCompleted)]
    flows = [event for event in events if isinstance(event, WorkflowEvent)]
    expected = SkillsWorkflowCorrelator().correlate_by_session(skills, flows)
    assert live.sessions() == expected
    assert live.session("s") == expected["s"]
    assert live.session("nobody") is None


@pytest.mark.anyio
async def test_what_it_hands_out_is_a_copy() -> None:
    """Changing a session changes nothing inside."""
    live = LiveCorrelator()
    await told(live, *skill(), *run())
    handed_out = live.session("s")
    assert handed_out is not None
    handed_out.workflow_events.clear()
    handed_out.skill_invocations[0]["skill_name"] = "x"
    again = live.session("s")
    assert again is not None
    assert len(again.workflow_events) == 2
    assert again.skill_invocations[0]["skill_name"] == "run"


@pytest.mark.anyio
async def test_the_report_is_that_of_correlating_on_demand() -> None:
    """Live and on demand, the report has one form."""
    live = LiveCorrelator()
    await told(live, *skill(), *run(), node())
    on_demand = SkillsWorkflowCorrelator()
    on_demand.correlate_by_session(skill(), [*run(), node()])
    report = live.report().splitlines()
    expected = on_demand.generate_correlation_report().splitlines()
    assert report == expected


def test_without_events_the_report_says_so() -> None:
    """Before anything came there is nothing to report, started or not."""
    assert LiveCorrelator().report() == "No correlated sessions found."


@pytest.mark.anyio
async def test_lost_events_are_told_in_the_report() -> None:
    """What never arrived is counted, and the report says that it may be too low."""
    live = LiveCorrelator()
    await told(
        live,
        *skill(),
        EventsLost(count=3, first_seq=1, last_seq=5),
        EventsLost(count=2, first_seq=6, last_seq=7),
    )
    assert live.lost == 5
    assert "Note: 5 events were lost" in live.report()


@pytest.mark.anyio
async def test_sessions_beyond_the_limit_are_evicted_and_that_is_told() -> None:
    """Ten thousand sessions that never end stay within the limit, counted."""
    live = LiveCorrelator(max_sessions=100)
    begun = [SkillStarted(session_id=f"s{n}", skill_name="run", invocation_id=f"i{n}") for n in range(10_000)]
    await told(live, *begun)
    assert len(live.sessions()) == 100
    assert live.evicted == 9_900
    assert "Note: 9900 sessions were evicted to make room" in live.report()


@pytest.mark.anyio
async def test_records_beyond_the_limit_are_dropped_and_counted() -> None:
    """The figures stay right when the records do not fit."""
    live = LiveCorrelator(max_records=10)
    await told(live, *(node(f"n{n}") for n in range(100)))
    session = live.session("s")
    assert session is not None
    assert (session.workflow_nodes_completed, len(session.workflow_events), live.dropped) == (100, 10, 90)


@pytest.mark.anyio
async def test_what_it_remembers_of_patterns_is_bounded() -> None:
    """Having told patterns of many sessions takes no more memory than the sessions may."""
    live = LiveCorrelator(max_sessions=10)
    for number in range(100):
        await told(live, *skill(f"s{number}"), *run(f"s{number}"))
    assert len(live._told) == 10


@pytest.mark.parametrize("limits", [{"max_sessions": 0}, {"max_records": 0}])
def test_a_limit_that_keeps_nothing_is_refused(limits: dict[str, int]) -> None:
    """A limit below 1 is a ValueError."""
    with pytest.raises(ValueError, match="keeps nothing"):
        LiveCorrelator(**limits)


# On a real bus.


def publish_whole_session(bus: EventBus, session: str = "s") -> None:
    begun, ended = skill(session)
    run_begun, run_ended = run(session)
    for event in (begun, run_begun, node(session=session), run_ended, ended):
        bus.publish(event)


@pytest.mark.anyio
async def test_on_a_bus_in_the_callers_loop() -> None:
    """What it publishes reaches other subscribers, in order, and does not come back to it."""
    live = LiveCorrelator()
    async with EventBus([live]) as bus:
        async with bus.stream(SessionCorrelated | PatternDetected) as found:
            publish_whole_session(bus)
            await bus.drain()
            seen = [await found.receive() for _ in range(4)]
        statistics = bus.statistics()
    assert [type(event) for event in seen] == [SessionCorrelated] * 3 + [PatternDetected]
    assert {event.session_id for event in seen} == {"s"}
    assert statistics.accepted == 9
    assert statistics.subscriptions["live_correlator"].accepted == 5


def test_on_a_thread_of_the_bus_it_is_read_from_this_one() -> None:
    """Sessions and reports are asked for from any thread, while the bus runs and after its close."""
    live = LiveCorrelator()
    seen = threading.Event()

    def look(_: PatternDetected) -> None:
        seen.set()

    with EventBus([live]) as bus:
        bus.subscribe(look, PatternDetected)
        publish_whole_session(bus)
        assert seen.wait(10)
        assert "Session: s" in live.report()
    session = live.session("s")
    assert session is not None
    assert (session.skills_completed, session.is_open) == (1, False)


def test_a_receiver_may_ask_it_while_it_tells() -> None:
    """A tap runs in its thread while it publishes; asking it for a session there does not deadlock."""
    live = LiveCorrelator()
    answers: list[object] = []
    asked = threading.Semaphore(0)

    def ask(event: SessionCorrelated) -> None:
        answers.append(live.session("s"))
        asked.release()

    with EventBus([live]) as bus:
        bus.tap(SessionCorrelated).connect(ask, weak=False)
        publish_whole_session(bus)
        assert all(asked.acquire(timeout=10) for _ in range(3))
    assert None not in answers


def test_reading_while_it_folds_never_fails() -> None:
    """Reads from another thread in the middle of a burst give whole sessions."""
    live = LiveCorrelator(max_sessions=50)
    with EventBus([live]) as bus:
        for number in range(300):
            publish_whole_session(bus, f"s{number}")
            if number % 10 == 0:
                for session in live.sessions().values():
                    assert session.skills_completed <= session.skills
                live.report()
    assert live.lost == 0
    assert live.evicted == 250


def test_an_overflow_shows_in_its_report() -> None:
    """On a bus that lost events of it, the report says so, to the last one."""
    live = LiveCorrelator()
    live.capacity = 10
    bus = EventBus([live])
    for number in range(25):
        bus.publish(node(f"n{number}"))
    with bus:
        pass
    assert live.lost == 15
    session = live.session("s")
    assert session is not None
    assert session.workflow_nodes_completed == 10


def test_a_forked_child_can_read_it() -> None:
    """Forked while another thread holds its lock, the child finds it open."""
    live = LiveCorrelator()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with live._lock:
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        live.report()
        os._exit(0)
    release.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0
