"""The tools for tests of subscribers: a recorder, a bus that settles, sessions, faults and fixtures."""

# ruff: noqa: D102

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from eventbus_subscribers import LiveCorrelator

from eventbus import (
    Event,
    EventBus,
    EventSink,
    EventsLost,
    NodeCompleted,
    NodeStarted,
    SkillStarted,
    Subscriber,
    SubscriberFailed,
    WorkflowCompleted,
    WorkflowEventTracker,
    WorkflowStarted,
    log_directory,
)
from eventbus.testing import (
    Recorder,
    SessionBuilder,
    SettlingBus,
    cancelled,
    crashing,
    hanging,
    quality_session,
    raising,
    slow,
    unusual_events,
    with_gaps,
)
from tests.vocabulary import Tick, Tock


class Echo(Subscriber[Tick]):
    """Publishes a tock for each tick, and another tick until their number is 0."""

    def __init__(self) -> None:
        self.stopped = False

    async def start(self, bus: EventBus) -> None:
        self.bus = bus

    async def handle(self, event: Tick) -> None:
        self.bus.publish(Tock(n=event.n))
        if event.n > 0:
            self.bus.publish(Tick(n=event.n - 1))

    async def stop(self) -> None:
        self.stopped = True


# The recorder.


def test_the_recorder_finds_events_by_class_and_fields() -> None:
    """A recorder returns events of a class, whose fields have the given values."""
    recorder = Recorder()
    with SettlingBus([recorder]) as bus:
        bus.play(quality_session(failed=["tests"]))
    failed = recorder.all(NodeCompleted, status="failed")
    assert [event.attempt for event in failed] == [1, 2]
    assert recorder.one(WorkflowCompleted).status == "failed"
    recorder.none(NodeCompleted, status="cancelled")
    recorder.in_order(SkillStarted, WorkflowStarted, NodeStarted, NodeCompleted, WorkflowCompleted)
    recorder.clear()
    recorder.none(Event)


def test_the_recorder_is_a_sink() -> None:
    """A tracker may publish to a recorder, without a bus."""
    recorder = Recorder()
    assert isinstance(recorder, EventSink)
    WorkflowEventTracker(recorder).workflow_started("ci")
    assert recorder.one(WorkflowStarted).workflow_id == "ci"


def test_what_is_missing_is_named() -> None:
    """An assertion that fails says what was expected, and what there is."""
    recorder = Recorder()
    recorder.recorded += [Tick(n=1), Tick(n=2), Tock(n=3)]
    with pytest.raises(
        AssertionError, match=r"expected one Tick\(n=7\), but there are 0 among: 2 Tick, 1 Tock"
    ):
        recorder.one(Tick, n=7)
    with pytest.raises(AssertionError, match=r"expected one Tick, but there are 2 among"):
        recorder.one(Tick)
    with pytest.raises(AssertionError, match=r"expected no Tock, but there are 1 among"):
        recorder.none(Tock)
    with pytest.raises(
        AssertionError, match="expected Tick in its place, but the order is: Tick, Tick, Tock"
    ):
        recorder.in_order(Tock, Tick)
    with pytest.raises(AttributeError):
        recorder.all(Tick, misspelt=1)


# The bus that settles.


def test_a_settled_bus_has_delivered_what_follows_from_its_events() -> None:
    """After `settle` every event is handled, and those that handlers published."""
    recorder = Recorder()
    with SettlingBus([Echo(), recorder]) as bus:
        bus.publish(Tick(n=20))
        bus.settle()
        assert [event.n for event in recorder.all(Tock)] == list(range(20, -1, -1))


async def test_a_bus_settles_in_a_task(anyio_backend: str) -> None:
    """`asettle` and `aplay` wait in the caller's loop."""
    recorder = Recorder()
    async with SettlingBus([Echo(), recorder]) as bus:
        await bus.aplay([Tick(n=3)])
        assert len(recorder.all(Tock)) == 4


def test_a_failure_of_a_subscriber_fails_the_test() -> None:
    """`settle` raises for a subscriber that has raised, once, unless failures are allowed."""
    with SettlingBus([raising(Echo())]) as bus:
        with pytest.raises(AssertionError, match="Echo raised RuntimeError, and 1 more failures"):
            bus.play([Tick(n=0), Tick(n=0)])
        bus.settle()


def test_a_bus_that_does_not_settle() -> None:
    """`settle` raises if it takes too long, and names the subscription."""
    with SettlingBus([hanging(Echo())]) as bus:
        bus.publish(Tick(n=0))
        with pytest.raises(AssertionError, match=r"did not settle within 0.05 s"):
            bus.settle(0.05)
        bus.close(0.1)


def test_a_closed_bus_refuses() -> None:
    """An event that is refused fails the test."""
    bus = SettlingBus()
    with bus:
        pass
    with pytest.raises(AssertionError, match="the bus refused Tick"):
        bus.play([Tick(n=0)])


# Sessions.


def test_the_same_arguments_make_the_same_session() -> None:
    """Built sessions have fixed times and ids; two of the same arguments are equal."""
    first, second = (quality_session(failed=["tests"], skipped=["publish"]) for _ in range(2))
    assert first == second
    assert [event.timestamp for event in first] == sorted(event.timestamp for event in first)
    assert quality_session("other") != quality_session()


def test_a_built_session_is_correlated_as_a_real_one() -> None:
    """The correlator finds in a built session what was built."""
    correlator = LiveCorrelator()
    with SettlingBus([correlator]) as bus:
        bus.play(quality_session("abc123", failed=["tests"], skipped=["publish"]))
    found = correlator.session("abc123")
    assert found is not None
    assert found.outcome == "failed"


def test_a_session_step_by_step() -> None:
    """A builder adds events one after the other, on a clock of its own."""
    session = SessionBuilder("s").run_started("ci", ["lint"]).node("lint", 2.0, steps=1).wait(-5).add(Event)
    started, *_, completed, last = session.events
    assert (completed.timestamp - started.timestamp).total_seconds() == 2.0
    assert (last.timestamp - completed.timestamp).total_seconds() == -5.0
    assert session.run_completed(status="cancelled").events[-1] == WorkflowCompleted(
        session_id="s", timestamp=last.timestamp, workflow_id="ci", run_id="run-1", status="cancelled",
        duration_seconds=-3.0,
    )  # fmt: skip


def test_gaps() -> None:
    """Of events with gaps every third one is missing, and reported in its place."""
    events = with_gaps([Tick(n=n) for n in range(6)])
    assert [type(event) for event in events] == [Tick, EventsLost, Tick, Tick, EventsLost, Tick]
    assert len({type(event) for event in unusual_events()}) >= 12


# Faults.


def play(subscriber: Subscriber[Tick], count: int = 4) -> tuple[list[int], list[SubscriberFailed]]:
    """Play ticks to a subscriber, and return what it handled, and the failures."""
    recorder = Recorder()
    with SettlingBus([subscriber, recorder], allow_failures=True) as bus:
        bus.play(Tick(n=0, source=n) for n in range(count))
    return [event.n for event in recorder.all(Tock)], recorder.all(SubscriberFailed)


def test_a_raising_subscriber() -> None:
    """A subscriber raises at every n-th event, and handles the others."""
    echo = Echo()
    handled, failed = play(raising(echo, ValueError("x"), every=2))
    assert len(handled) == 2
    assert [(each.subscriber, each.error_type) for each in failed] == [("Echo", "ValueError")] * 2
    assert echo.stopped


def test_a_slow_subscriber() -> None:
    """A slow subscriber handles every event, later."""
    assert play(slow(Echo(), 0.001)) == ([0] * 4, [])


def test_a_cancelled_subscriber() -> None:
    """The calls of a subscriber are cancelled where they suspend."""

    class Suspends(Echo):
        async def handle(self, event: Tick) -> None:
            await anyio.lowlevel.checkpoint()
            await super().handle(event)

    assert play(cancelled(Suspends(), after=1)) == ([0], [])


def test_a_crashing_subscriber() -> None:
    """A subscriber ends with an exception that is not an `Exception`, after some events."""
    recorder = Recorder()
    bus = SettlingBus([crashing(Echo(), after=2), recorder], allow_failures=True)
    with pytest.raises(SystemExit), bus:
        bus.play(Tick(n=0) for _ in range(5))
    assert len(recorder.all(Tock)) == 2


def test_a_hanging_subscriber() -> None:
    """A subscriber hangs after some events, and its bus closes at the deadline."""
    recorder = Recorder()
    with SettlingBus([hanging(Echo(), after=2), recorder]) as bus:
        for n in range(5):
            bus.publish(Tick(n=0, source=n))
        report = bus.close(0.1)
    assert len(recorder.all(Tock)) == 2
    assert not report


def test_a_faulty_subscriber_of_batches() -> None:
    """A subscriber that handles batches gets batches of one event."""
    sizes: list[int] = []

    class Batches(Subscriber[Tick]):
        async def handle_batch(self, events: Sequence[Tick]) -> None:
            sizes.append(len(events))

    play(raising(Batches(), every=4))
    assert sizes == [1, 1, 1]


# Fixtures.


def test_the_fixtures(
    eventbus_bus: SettlingBus, eventbus_recorder: Recorder, eventbus_directory: Path
) -> None:
    """The bus of the fixture runs, with the recorder, and its log is in a temporary directory."""
    eventbus_bus.play([Tick(n=1)])
    assert eventbus_recorder.one(Tick).n == 1
    assert log_directory() == eventbus_directory
    assert not eventbus_directory.exists()


def test_projects_ask_for_the_plugin(tmp_path: Path) -> None:
    """A project gets fixtures and the conformance suite in one line each; pytest loads nothing by itself."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["eventbus.testing.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        "from eventbus import NodeEvent, Subscriber\n"
        "from eventbus.testing import conformance_test\n"
        "class Good(Subscriber[NodeEvent]):\n    async def handle(self, event): ...\n"
        "class Bad(Subscriber[NodeEvent]):\n    async def handle(self, event): raise ValueError('no')\n"
        "def test_fixture(eventbus_bus): ...\n"
        "test_good = conformance_test(Good)\n"
        "test_bad = conformance_test(Bad)\n"
    )
    options = "-m pytest -q -p no:cacheprovider --basetemp base test_it.py -k"
    words = [*options.split(), "fixture or replay"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "it handle of a NodeStarted raises ValueError: no" in done.stdout
    assert "2 failed, 3 passed" in done.stdout
    loaded = "import sys, pytest; pytest.main(['--version']); print('eventbus' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
