"""Durations, deadlines and order do not depend on the wall clock, which may jump or stand still."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    NodeProgress,
    PhaseTask,
    SkillCompleted,
    SkillTracker,
    WorkflowCompleted,
    WorkflowEventTracker,
)
from eventbus.events import event as event_module
from tests.vocabulary import ListSink

if TYPE_CHECKING:
    from tests.reliability.conftest import Numbered

PATIENCE_SECONDS = 10
START = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)

# What the clock returns at its n-th reading.
CLOCKS: dict[str, Callable[[int], datetime]] = {
    "back": lambda asked: START - timedelta(hours=asked),
    "forward": lambda asked: START + timedelta(days=365 * asked),
    "frozen": lambda _: START,
    "to and fro": lambda asked: START + timedelta(hours=(-asked if asked % 2 else asked)),
}


@pytest.fixture(params=CLOCKS, autouse=True)
def _wall_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Replace the wall clock of events and of `time.time` with one that jumps."""
    clock = CLOCKS[request.param]
    asked = itertools.count(1)

    def now(_: tzinfo) -> datetime:
        return clock(next(asked))

    # The event classes hold this C function: its behaviour can be changed, but it cannot be replaced.
    stamp: Any = event_module.utc_now
    genuine = stamp.__reduce__()[2]
    stamp.__setstate__((now, (UTC,), {}, {}))
    monkeypatch.setattr(time, "time", lambda: clock(next(asked)).timestamp())
    yield
    stamp.__setstate__(genuine)


def test_the_clock_of_these_tests(numbered: Numbered) -> None:
    """These tests really change the clock that events are stamped with."""
    first, second = numbered("main", 0).timestamp, numbered("main", 1).timestamp
    assert {first.year, second.year} <= {2023, 2024, 2025, 2026, 2027}
    assert abs(first - second) >= timedelta(hours=1) or first == second == START


def test_order_is_that_of_the_numbers(numbered: Numbered) -> None:
    """Events come in the order in which the bus accepted them, whatever their timestamps are."""
    live: list[int] = []
    replayed: list[int] = []
    with EventBus() as bus:
        bus.subscribe(lambda event: live.append(event.attempt), NodeProgress)
        for number in range(100):
            bus.publish(numbered("main", number))
        bus.subscribe(lambda event: replayed.append(event.attempt), NodeProgress, replay=10)
    assert live == list(range(100))
    assert replayed == list(range(90, 100))


def test_lag_and_drain_are_never_negative(numbered: Numbered) -> None:
    """A lag, and the duration of a drain or a close, is never negative."""
    released = threading.Event()
    with EventBus() as bus:
        bus.subscribe(lambda _: released.wait(PATIENCE_SECONDS), NodeProgress, name="slow")
        for number in range(10):
            bus.publish(numbered("main", number))
            assert bus.statistics().subscriptions["slow"].lag >= 0.0
        released.set()
        assert 0.0 <= anyio.run(bus.drain).duration_seconds < PATIENCE_SECONDS
        report = bus.close()
    assert 0.0 <= report.duration_seconds < PATIENCE_SECONDS
    assert report.complete


def test_deadline_of_a_close(numbered: Numbered) -> None:
    """A jump of the wall clock neither shortens nor lengthens a close."""
    handled: list[Event] = []

    async def handle_slowly(event: NodeProgress) -> None:
        await anyio.sleep(0.002)
        handled.append(event)

    async def hang(event: NodeCompleted) -> None:
        await anyio.sleep_forever()

    with EventBus([handle_slowly]) as bus:
        for number in range(20):
            bus.publish(numbered("main", number))
        assert bus.close(PATIENCE_SECONDS).delivered == len(handled) == 20
    with EventBus([hang]) as bus:
        bus.publish(NodeCompleted(workflow_id="reliability", node_id="hung"))
        began = time.monotonic()
        assert not bus.close(0.05)
        assert 0.05 <= time.monotonic() - began < 1


def test_failures_are_not_logged_more_often(numbered: Numbered, caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged at most once per cause every 20 s of real time."""

    def fail(event: NodeProgress) -> None:
        raise ValueError("no")

    with caplog.at_level(logging.WARNING, logger="eventbus"), EventBus([fail]) as bus:
        for number in range(5):
            bus.publish(numbered("main", number))
    assert len([record for record in caplog.records if "ValueError" in record.getMessage()]) == 1


def test_durations_of_trackers() -> None:
    """Durations of skills, nodes and runs come from the monotonic clock: never negative, never a year."""
    sink = ListSink()
    with SkillTracker(sink).track("review"):
        pass
    workflows = WorkflowEventTracker(sink)
    run = workflows.workflow_started("ci")
    workflows.node_started("lint", run_id=run)
    workflows.node_completed("lint", run_id=run)
    anyio.run(PhaseTask("phase", lambda: True, workflows).run)
    workflows.workflow_completed(run_id=run)
    ends = [
        event
        for event in sink.events
        if isinstance(event, SkillCompleted | NodeCompleted | WorkflowCompleted)
    ]
    assert [type(event) for event in ends] == [
        SkillCompleted,
        NodeCompleted,
        NodeCompleted,
        WorkflowCompleted,
    ]
    for event in ends:
        assert event.duration_seconds is not None
        assert 0.0 <= event.duration_seconds < PATIENCE_SECONDS
