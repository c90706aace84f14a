"""LiveCorrelator: sessions, patterns and reports during runs."""

from __future__ import annotations

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
from tests.vocabulary import in_a_child


class ListBus:
    """Stands in for a bus, and keeps the published events."""

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


async def published_of(live: LiveCorrelator, *events: Event) -> list[Event]:
    """Return the events that it publishes when it receives these."""
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
async def test_it_publishes_a_session_as_skills_and_runs_begin_and_end() -> None:
    """Once a session has both, its figures are published at each start and end of a skill or run."""
    begun, ended = skill()
    run_begun, run_ended = run()
    events = [begun, run_begun, node(success=False), node(attempt=2), run_ended, ended]
    published = await published_of(LiveCorrelator(), *events)
    first, second, third = (event for event in published if isinstance(event, SessionCorrelated))
    assert (first.session_id, first.skills, first.workflows, first.open) == ("s", 1, 1, True)
    assert (second.nodes_completed, second.nodes_failed, second.total_workflow_duration) == (1, 1, 10.0)
    assert (third.skills_completed, third.total_skill_duration, third.open) == (1, 30.0, False)


@pytest.mark.anyio
@pytest.mark.parametrize("events", [skill(), run(), [*run(), node()], [*skill(None), *run(None)]])
async def test_it_publishes_nothing_without_both(events: Sequence[Event]) -> None:
    """Nothing is published about a skill or a workflow alone, or about both without a session."""
    live = LiveCorrelator()
    assert await published_of(live, *events) == []
    assert live.sessions()


@pytest.mark.anyio
async def test_repeats_and_nodes_publish_nothing() -> None:
    """Repeated events and nodes publish nothing."""
    live = LiveCorrelator()
    await published_of(live, *skill(), *run())
    nodes = [NodeStarted(session_id="s", workflow_id="ci", run_id="r", node_id="a"), node("a")]
    assert await published_of(live, *skill(), *run(), *nodes) == []


@pytest.mark.anyio
async def test_a_pattern_is_published_once_per_session() -> None:
    """A pattern is published when skill and workflow have ended, and not again when it recurs."""
    again = SkillCompleted(session_id="s", skill_name="run", invocation_id="j", duration_seconds=90.0)
    events = [*skill(), *run(), again, *skill("t"), *run("t"), *skill("u", 1.0), *run("u")]
    published = await published_of(LiveCorrelator(), *events)
    patterns = [
        (event.session_id, event.pattern) for event in published if isinstance(event, PatternDetected)
    ]
    assert patterns == [("s", "interactive_dominated"), ("t", "interactive_dominated")]
    pattern = next(event for event in published if isinstance(event, PatternDetected))
    assert pattern.message == "Interactive work dominated automated execution"


@pytest.mark.anyio
async def test_its_sessions_equal_correlating_on_demand() -> None:
    """The same events, correlated on demand, yield the same sessions."""
    live = LiveCorrelator()
    events = [*skill(), *run(), node(), *skill("t"), *run(None)]
    await published_of(live, *events)
    skills = [event for event in events if isinstance(event, SkillStarted | SkillCompleted)]
    flows = [event for event in events if isinstance(event, WorkflowEvent)]
    expected = SkillsWorkflowCorrelator().correlate_by_session(skills, flows)
    assert live.sessions() == expected
    assert live.session("s") == expected["s"]
    assert live.session("nobody") is None


@pytest.mark.anyio
async def test_its_sessions_are_copies() -> None:
    """Changing a returned session does not change the correlator's."""
    live = LiveCorrelator()
    await published_of(live, *skill(), *run())
    session = live.session("s")
    assert session is not None
    session.workflow_events.clear()
    session.skill_invocations[0]["skill_name"] = "x"
    again = live.session("s")
    assert again is not None
    assert len(again.workflow_events) == 2
    assert again.skill_invocations[0]["skill_name"] == "run"


@pytest.mark.anyio
async def test_the_report_equals_correlating_on_demand() -> None:
    """The same events, correlated on demand, yield the same report."""
    live = LiveCorrelator()
    await published_of(live, *skill(), *run(), node())
    on_demand = SkillsWorkflowCorrelator()
    on_demand.correlate_by_session(skill(), [*run(), node()])
    report = live.report().splitlines()
    expected = on_demand.generate_correlation_report().splitlines()
    assert report == expected


def test_without_events_the_report_says_so() -> None:
    """Before any event the report is empty, even before the start."""
    assert LiveCorrelator().report() == "No correlated sessions found."


@pytest.mark.anyio
async def test_lost_events_are_noted_in_the_report() -> None:
    """Lost events are counted, and the report says that its figures may be too low."""
    live = LiveCorrelator()
    await published_of(
        live,
        *skill(),
        EventsLost(count=3, first_seq=1, last_seq=5),
        EventsLost(count=2, first_seq=6, last_seq=7),
    )
    assert live.lost == 5
    assert "Note: 5 events were lost" in live.report()


@pytest.mark.anyio
async def test_sessions_beyond_the_limit_are_evicted_and_noted() -> None:
    """Of ten thousand sessions that never end, those beyond the limit are evicted and counted."""
    live = LiveCorrelator(max_sessions=100)
    begun = [SkillStarted(session_id=f"s{n}", skill_name="run", invocation_id=f"i{n}") for n in range(10_000)]
    await published_of(live, *begun)
    assert len(live.sessions()) == 100
    assert live.evicted == 9_900
    assert "Note: 9900 sessions were evicted to make room" in live.report()


@pytest.mark.anyio
async def test_records_beyond_the_limit_are_dropped_and_counted() -> None:
    """The figures are right even if not all records are kept."""
    live = LiveCorrelator(max_records=10)
    await published_of(live, *(node(f"n{n}") for n in range(100)))
    session = live.session("s")
    assert session is not None
    assert (session.workflow_nodes_completed, len(session.workflow_events), live.dropped) == (100, 10, 90)


@pytest.mark.anyio
async def test_remembered_patterns_are_bounded() -> None:
    """Published patterns are remembered for as many sessions as may be kept."""
    live = LiveCorrelator(max_sessions=10)
    for number in range(100):
        await published_of(live, *skill(f"s{number}"), *run(f"s{number}"))
    assert len(live._patterns) == 10


@pytest.mark.parametrize("limits", [{"max_sessions": 0}, {"max_records": 0}])
def test_a_limit_below_1_is_refused(limits: dict[str, int]) -> None:
    """A limit below 1 raises ValueError."""
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
    """Its events reach other subscribers in order, and are not delivered to itself."""
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


def test_in_the_buss_thread_it_is_read_from_another() -> None:
    """Sessions and reports can be read from any thread, while the bus runs and after its close."""
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


def test_a_tap_may_read_it_while_it_publishes() -> None:
    """A tap runs in its thread while it publishes; reading a session there does not deadlock."""
    live = LiveCorrelator()
    sessions: list[object] = []
    was_read = threading.Semaphore(0)

    def read(event: SessionCorrelated) -> None:
        sessions.append(live.session("s"))
        was_read.release()

    with EventBus([live]) as bus:
        bus.tap(SessionCorrelated).connect(read, weak=False)
        publish_whole_session(bus)
        assert all(was_read.acquire(timeout=10) for _ in range(3))
    assert None not in sessions


def test_reading_during_a_burst_never_fails() -> None:
    """Reads from another thread during a burst return consistent sessions."""
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


def test_an_overflow_is_noted_in_its_report() -> None:
    """Every event that its mailbox loses is counted."""
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
    """If another thread holds its lock during a fork, the child can read it nevertheless."""
    live = LiveCorrelator()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with live._lock:
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)

    def report_in_time() -> bool:
        signal.alarm(5)
        return bool(live.report())

    has_reported = in_a_child(report_in_time)
    release.set()
    holder.join()
    assert has_reported
