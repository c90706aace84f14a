"""SessionCoordinator: one session of an application."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventbus.coordinator
from eventbus.bus import EventBus
from eventbus.coordinator import SessionCoordinator
from eventbus.correlator import SkillsWorkflowCorrelator
from eventbus.events import (
    Event,
    NodeCompleted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.session import current_session_id, new_id, session_scope
from eventbus.trackers import SkillTracker, WorkflowEventTracker, get_tracker, track_skill


@pytest.fixture(autouse=True)
def _nothing_active(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    gc.collect()
    assert current_session_id() is None
    yield
    gc.collect()
    assert current_session_id() is None, "a session was left active"


class ListSink:
    """A sink that is not a bus."""

    def __init__(self) -> None:
        self.published: list[Event] = []

    def publish(self, event: Event) -> bool:
        """Keep it."""
        self.published.append(event)
        return True


def lines(coordinator: SessionCoordinator) -> list[str]:
    return [line.strip() for line in coordinator.get_correlation_report().splitlines()]


# The mission's examples, with their imports adapted.


def test_example_1_track_a_skill_with_workflow_correlation() -> None:
    """Without a bus, a skill is in the report as soon as it is completed."""
    coordinator = SessionCoordinator()
    coordinator.initialize_workflow_tracking()

    complete = track_skill("crackerjack-run", "comprehensive")
    complete(completed=True, follow_up_actions=["git commit"])

    report = coordinator.get_correlation_report()
    assert f"Session: {coordinator.session_id}" in report
    assert "Skills Used: 1" in report
    assert "Skills Completed: 1" in report


def test_example_2_correlate_skills_with_workflow_execution(tmp_path: Path) -> None:
    """Invocations of the process's tracker and events of a workflow tracker are joined by session."""
    with session_scope("abc123"):
        track_skill("crackerjack-run", "daily")(completed=True)

    skills_tracker = get_tracker()
    skill_invocations = skills_tracker.invocations

    workflow_tracker = WorkflowEventTracker(session_id="abc123")
    workflow_tracker.workflow_started("crackerjack")
    workflow_tracker.node_started("fast_hooks")
    workflow_tracker.node_completed("fast_hooks")
    workflow_tracker.workflow_completed()
    workflow_events = workflow_tracker.events

    correlator = SkillsWorkflowCorrelator()
    sessions = correlator.correlate_by_session(skill_invocations, workflow_events)
    assert (sessions["abc123"].skills_completed, sessions["abc123"].workflow_nodes_completed) == (1, 1)
    assert "Session: abc123" in correlator.generate_correlation_report()

    correlator.export_correlated_data(Path(".session-buddy/correlated_session.json"))
    exported = json.loads((tmp_path / ".session-buddy" / "correlated_session.json").read_bytes())
    assert exported["sessions"]["abc123"]["workflow_nodes_completed"] == 1


def test_example_3_analyze_skill_workflow_patterns() -> None:
    """A pattern can be found in the sessions by hand."""
    skill_invocations = [SkillCompleted(session_id="s", skill_name="run", duration_seconds=30.0)]
    workflow_events = [WorkflowCompleted(session_id="s", workflow_id="ci", duration_seconds=10.0)]
    correlator = SkillsWorkflowCorrelator()
    sessions = correlator.correlate_by_session(skill_invocations, workflow_events)
    found = [
        session_id
        for session_id, session in sessions.items()
        if session.total_skill_duration > session.total_workflow_duration * 2
    ]
    assert found == ["s"]


# Initializing.


def test_before_initializing_the_report_says_so() -> None:
    """Before tracking is initialized, the report says so, and both attributes are None."""
    coordinator = SessionCoordinator()
    assert coordinator.get_correlation_report() == "Correlation tracking not initialized."
    assert coordinator.workflow_events is None
    assert coordinator.skills_correlator is None


def test_initializing_twice_keeps_the_same_tracker() -> None:
    """A second call of `initialize_workflow_tracking` changes nothing."""
    coordinator = SessionCoordinator()
    coordinator.initialize_workflow_tracking()
    tracker, correlator = coordinator.workflow_events, coordinator.skills_correlator
    coordinator.initialize_workflow_tracking()
    assert coordinator.workflow_events is tracker
    assert coordinator.skills_correlator is correlator
    assert tracker is not None
    assert tracker.session_id == coordinator.session_id


def test_a_session_without_events_is_not_reported() -> None:
    """A session without events is not in the report."""
    with SessionCoordinator() as coordinator:
        assert coordinator.get_correlation_report() == "No correlated sessions found."


def test_the_session_is_the_explicit_the_current_or_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session is the given one, otherwise the current one, otherwise a new one."""
    with session_scope("scope"):
        assert SessionCoordinator().session_id == "scope"
        assert SessionCoordinator(session_id="said").session_id == "said"
    one, other = SessionCoordinator().session_id, SessionCoordinator().session_id
    assert one
    assert one != other
    monkeypatch.setenv("EVENTBUS_SESSION_ID", "variable")
    assert SessionCoordinator().session_id == "variable"
    monkeypatch.delenv("EVENTBUS_SESSION_ID")


def test_an_empty_session_id_is_refused() -> None:
    """An empty session id is refused: it could not be distinguished from none."""
    with pytest.raises(ValueError, match="must not be empty"):
        SessionCoordinator(session_id="")


def test_an_object_that_is_not_a_bus_is_refused() -> None:
    """An object that is not a bus, such as a session id, is refused when tracking begins."""
    with pytest.raises(TypeError, match="is not a bus"):
        SessionCoordinator("abc").initialize_workflow_tracking()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# The active session.


def test_skills_and_bare_trackers_belong_to_the_session_while_it_is_tracked() -> None:
    """From initializing to close, events without another session belong to the tracked one."""
    coordinator = SessionCoordinator()
    assert current_session_id() is None
    coordinator.initialize_workflow_tracking()
    assert current_session_id() == coordinator.session_id
    coordinator.close()
    coordinator.close()
    assert current_session_id() is None


def test_a_block_is_its_session_even_beside_another_active_one() -> None:
    """Inside the block of one session, other active sessions do not matter."""
    other = SessionCoordinator(session_id="other")
    other.initialize_workflow_tracking()
    with SessionCoordinator(session_id="one") as coordinator:
        assert current_session_id() == coordinator.session_id
        track_skill("run")()
        assert "Skills Completed: 1" in lines(coordinator)
    assert current_session_id() == other.session_id
    other.close()


@pytest.mark.anyio
async def test_an_async_block_does_the_same() -> None:
    """`async with` initializes and closes as `with` does."""
    async with SessionCoordinator() as coordinator:
        assert current_session_id() == coordinator.session_id
        assert coordinator.workflow_events is not None
    assert current_session_id() is None


def test_a_block_left_by_an_exception_is_closed() -> None:
    """An exception in the block is passed on, and the session is no longer active."""
    with pytest.raises(KeyError), SessionCoordinator():
        raise KeyError
    assert current_session_id() is None


def test_a_coordinator_that_is_garbage_releases_its_session_and_its_stream() -> None:
    """A coordinator without references is closed: its session is not active, its mailbox is gone."""
    with EventBus() as bus:
        coordinator = SessionCoordinator(bus)
        coordinator.initialize_workflow_tracking()
        assert len(bus.statistics().subscriptions) == 1
        del coordinator
        assert current_session_id() is None
        assert bus.statistics().subscriptions == {}


def test_a_coordinator_in_a_cycle_is_released_by_the_collector() -> None:
    """A coordinator in a reference cycle is closed by the garbage collector."""
    coordinator = SessionCoordinator()
    coordinator.initialize_workflow_tracking()
    coordinator.itself = coordinator  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    del coordinator
    gc.collect()
    assert current_session_id() is None


# The report.


def run_workflow(tracker: WorkflowEventTracker) -> None:
    tracker.workflow_started("ci")
    tracker.node_started("tests")
    tracker.node_completed("tests", success=False)
    tracker.node_started("tests")
    tracker.node_completed("tests")
    tracker.workflow_completed()


def check_the_report_is_right_at_once(coordinator: SessionCoordinator) -> None:
    complete = track_skill("run")
    assert coordinator.workflow_events is not None
    run_workflow(coordinator.workflow_events)
    complete()
    for _ in range(3):
        assert {"Total Sessions: 1", "Skills Used: 1", "Skills Completed: 1", "Workflow Nodes: 1"} <= {
            *lines(coordinator)
        }


def test_the_report_is_right_at_once_without_a_bus() -> None:
    """A report in the thread that completed the skill contains it, every time."""
    with SessionCoordinator() as coordinator:
        check_the_report_is_right_at_once(coordinator)


def test_the_report_is_right_at_once_with_subscribers_in_another_thread() -> None:
    """A subscriber that hangs in its own thread makes the report neither wrong nor late."""
    release = threading.Event()

    def hang(_: Event) -> None:
        release.wait(5)

    with EventBus() as bus:
        bus.subscribe(hang, Event)
        with SessionCoordinator(bus) as coordinator:
            check_the_report_is_right_at_once(coordinator)
        release.set()


@pytest.mark.anyio
async def test_the_report_is_right_at_once_inside_a_loop() -> None:
    """With a bus in the same loop, the report needs no await."""
    async with EventBus(), SessionCoordinator() as coordinator:
        check_the_report_is_right_at_once(coordinator)


def test_the_report_with_a_sink() -> None:
    """With a sink that is not a bus, the sink gets the events, and the report is right."""
    sink = ListSink()
    with SessionCoordinator(sink) as coordinator:
        check_the_report_is_right_at_once(coordinator)
    assert [type(event) for event in sink.published][:2] == [WorkflowStarted, type(sink.published[1])]


def test_without_a_bus_given_the_current_one_is_used() -> None:
    """Without a given bus the workflow tracker publishes on the current one."""
    received: list[Event] = []
    with EventBus() as bus:
        bus.subscribe(received.append, Event)
        with SessionCoordinator() as coordinator:
            check_the_report_is_right_at_once(coordinator)
    assert {event.session_id for event in received} == {coordinator.session_id}
    assert any(isinstance(event, NodeCompleted) for event in received)


def test_events_of_other_trackers_are_in_the_report() -> None:
    """Events of the session from other trackers, before and after initializing, are counted once."""
    session_id = new_id()
    with EventBus() as bus:
        with SkillTracker(bus, session_id=session_id).track("earlier"):
            pass
        with SessionCoordinator(bus, session_id=session_id) as coordinator:
            running = SkillTracker(bus, session_id=session_id).track("running")
            run_workflow(WorkflowEventTracker(bus, session_id=session_id))
            for _ in range(2):
                report = lines(coordinator)
                assert {"Skills Used: 2", "Skills Completed: 1", "Workflow Nodes: 1"} <= set(report)
            running.complete()
            assert "Skills Completed: 2" in lines(coordinator)


def test_events_of_other_sessions_are_not_in_the_report() -> None:
    """Skills and runs of other sessions, or of none, are not in the report."""
    with EventBus() as bus, SessionCoordinator(bus) as coordinator:
        with session_scope("other"):
            track_skill("other")()
        bus.publish(SkillStarted(session_id=None, skill_name="none"))
        run_workflow(WorkflowEventTracker(bus, session_id="other"))
        assert coordinator.get_correlation_report() == "No correlated sessions found."


def test_events_that_came_too_fast_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the stream overflowed, the report says how many events it lacks."""
    monkeypatch.setattr(eventbus.coordinator, "STREAM_CAPACITY", 4)
    bus = EventBus()  # not entered: its thread would put some of the events while the report is made
    with SessionCoordinator(bus, session_id="s") as coordinator:
        for number in range(10):
            bus.publish(NodeCompleted(session_id="s", workflow_id="ci", run_id="r", node_id=f"n{number}"))
        report = coordinator.get_correlation_report()
        assert "Workflow Nodes: 4" in report
        assert "Note: 6 events on the bus came too fast to be counted" in report


def test_without_loss_there_is_no_note() -> None:
    """A complete report has no note."""
    with EventBus() as bus, SessionCoordinator(bus) as coordinator:
        track_skill("run")()
        assert "Note" not in coordinator.get_correlation_report()


def test_the_report_outlives_bus_and_close() -> None:
    """The report stays after the bus and the coordinator are closed."""
    session_id = new_id()
    with EventBus() as bus:
        coordinator = SessionCoordinator(bus, session_id=session_id)
        coordinator.initialize_workflow_tracking()
        with SkillTracker(bus, session_id=session_id).track("run"):
            pass
    assert "Skills Completed: 1" in lines(coordinator)
    coordinator.close()
    assert "Skills Completed: 1" in lines(coordinator)


def test_closing_reads_the_queued_events() -> None:
    """Events that are queued when the coordinator is closed are in the report."""
    with EventBus() as bus:
        coordinator = SessionCoordinator(bus, session_id="s")
        coordinator.initialize_workflow_tracking()
        with SkillTracker(bus, session_id="s").track("run"):
            pass
        coordinator.close()
        assert bus.statistics().subscriptions == {}
        assert "Skills Completed: 1" in lines(coordinator)


def test_a_closed_bus() -> None:
    """With a closed bus the session is tracked as without a bus."""
    with EventBus() as bus:
        pass
    with SessionCoordinator(bus) as coordinator:
        check_the_report_is_right_at_once(coordinator)


def test_its_correlator_reports_the_same() -> None:
    """Its correlator reports and exports the live session, without reading a file."""
    with SessionCoordinator() as coordinator:
        track_skill("run")()
        assert coordinator.skills_correlator is not None
        assert (
            coordinator.skills_correlator.generate_correlation_report()
            == coordinator.get_correlation_report()
        )
        summary = coordinator.skills_correlator.get_session_summary(coordinator.session_id)
        assert summary is not None
        assert summary["skills_used"] == 1
        coordinator.skills_correlator.export_correlated_data("out.json")
    assert coordinator.session_id in json.loads(Path("out.json").read_bytes())["sessions"]


def test_reports_from_many_threads_agree() -> None:
    """Reports from several threads while a workflow runs do not fail, and end with the same figures."""
    failures: list[BaseException] = []
    with EventBus() as bus, SessionCoordinator(bus) as coordinator:
        tracker = coordinator.workflow_events
        assert tracker is not None
        tracker.workflow_started("ci")

        def ask() -> None:
            try:
                for _ in range(20):
                    coordinator.get_correlation_report()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(200):
            tracker.node_completed(f"n{number}")
        for thread in threads:
            thread.join()
        assert failures == []
        assert "Workflow Nodes: 200" in lines(coordinator)
