"""A skill invocation is published at its start and, once, at its end."""

from __future__ import annotations

import gc
import json
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from eventbus.contracts import EventSink
from eventbus.delivery import current_bus
from eventbus.events import Event, SkillCompleted, SkillEvent, SkillStarted
from eventbus.session import session_scope
from eventbus.trackers import SkillMetricsTracker, SkillTracker, get_tracker, track_skill
from eventbus.trackers.skill_metrics import MAX_KINDS, OTHER
from tests.trackers.conftest import Hostile, RaisingSink, run_in_threads


@pytest.fixture
def tracker(sink: EventSink) -> SkillTracker:
    return SkillTracker(sink)


def only_end(published: list[Event]) -> SkillCompleted:
    (ended,) = [event for event in published if isinstance(event, SkillCompleted)]
    return ended


def test_a_block_that_is_left_normally_completes_the_skill(
    tracker: SkillTracker, published: list[Event]
) -> None:
    """Entering publishes the start and leaving the end of the same invocation."""
    with tracker.track("crackerjack-run", "comprehensive") as skill:
        assert [type(event) for event in published] == [SkillStarted]
        assert (skill.completed, skill.ended) == (False, False)
        skill.follow_up("git commit")
        skill.follow_up("git push")
    started, ended = published
    assert isinstance(started, SkillStarted)
    assert isinstance(ended, SkillCompleted)
    assert started.invocation_id == ended.invocation_id == skill.invocation_id
    assert (ended.skill_name, ended.workflow_path) == ("crackerjack-run", "comprehensive")
    assert (ended.completed, ended.error_type) == (True, None)
    assert ended.follow_up_actions == ("git commit", "git push")
    assert ended.duration_seconds is not None
    assert ended.duration_seconds >= 0
    assert (skill.completed, skill.ended) == (True, True)


@pytest.mark.parametrize("error", [ValueError("private"), KeyboardInterrupt(), SystemExit(2)])
def test_a_block_that_is_left_by_an_exception_abandons_the_skill(
    tracker: SkillTracker, published: list[Event], error: BaseException
) -> None:
    """The exception passes through unchanged; only its type is published."""
    with pytest.raises(type(error)) as raised, tracker.track("s"):
        raise error
    assert raised.value is error
    assert error.__context__ is None
    ended = only_end(published)
    assert (ended.completed, ended.error_type) == (False, type(error).__name__)
    assert "private" not in repr(published)


@pytest.mark.anyio
async def test_an_async_block_completes_the_skill(tracker: SkillTracker, published: list[Event]) -> None:
    """`async with` does the same as `with`."""
    async with tracker.track("s") as skill:
        await anyio.lowlevel.checkpoint()
    assert only_end(published).completed
    assert skill.completed


@pytest.mark.anyio
async def test_a_cancelled_block_abandons_the_skill(tracker: SkillTracker, published: list[Event]) -> None:
    """The cancellation is published and not swallowed."""
    after = False
    with anyio.CancelScope() as scope:
        async with tracker.track("s"):
            scope.cancel()
            await anyio.sleep_forever()
        after = True  # pyright: ignore[reportUnreachable]
    assert scope.cancelled_caught
    assert not after
    ended = only_end(published)
    assert not ended.completed
    assert ended.error_type in {"CancelledError", "Cancelled"}


def test_completing_inside_the_block_ends_it_once(tracker: SkillTracker, published: list[Event]) -> None:
    """The explicit call wins over how the block is left."""
    with tracker.track("s") as skill:
        skill.complete(completed=False, error_type="UserGaveUp")
        skill.follow_up("too late")
    ended = only_end(published)
    assert (ended.completed, ended.error_type, ended.follow_up_actions) == (False, "UserGaveUp", ())


def test_a_completer_ends_the_skill_once(tracker: SkillTracker, published: list[Event]) -> None:
    """A second call publishes nothing and counts nothing."""
    complete = tracker.track_invocation("s", "daily")
    complete(completed=True, follow_up_actions=["git commit"])
    complete(completed=False)
    assert only_end(published).follow_up_actions == ("git commit",)
    metrics = tracker.get_skill_metrics("s")
    assert metrics is not None
    assert (metrics.total_invocations, metrics.completed_invocations) == (1, 1)
    assert len(tracker.invocations) == 1


def test_many_threads_complete_a_skill_once(tracker: SkillTracker, published: list[Event]) -> None:
    """The first call ends it."""
    for _ in range(50):
        complete = tracker.track_invocation("s")
        run_in_threads(4, complete)
    assert len([event for event in published if isinstance(event, SkillCompleted)]) == 50
    assert tracker.get_summary()["total_invocations"] == 50


def test_follow_up_actions_given_at_the_end_come_after_those_noted_before(
    tracker: SkillTracker, published: list[Event]
) -> None:
    """Both are published, in order."""
    with tracker.track("s") as skill:
        skill.follow_up("a")
        skill.complete(follow_up_actions=["b"])
    assert only_end(published).follow_up_actions == ("a", "b")


def test_follow_up_actions_are_bounded(tracker: SkillTracker, published: list[Event]) -> None:
    """At most 256 actions are kept."""
    with tracker.track("s") as skill:
        for n in range(1_000):
            skill.follow_up(str(n))
    assert len(only_end(published).follow_up_actions) == 256


def test_a_completer_that_is_garbage_collected_abandons_its_skill(
    tracker: SkillTracker, published: list[Event]
) -> None:
    """The invocation can no longer be completed."""
    complete = tracker.track_invocation("s")
    gc.collect()
    assert tracker.invocations == []
    del complete
    gc.collect()
    assert not only_end(published).completed
    metrics = tracker.get_skill_metrics("s")
    assert metrics is not None
    assert (metrics.total_invocations, metrics.abandoned_invocations) == (1, 1)


def test_a_completed_skill_is_not_abandoned_too(tracker: SkillTracker, published: list[Event]) -> None:
    """Collecting the handle afterwards changes nothing."""
    complete = tracker.track_invocation("s")
    complete()
    del complete
    gc.collect()
    assert only_end(published).completed


def test_a_skill_abandoned_while_another_is_counted_is_counted_too(tracker: SkillTracker) -> None:
    """A finalizer may interrupt the thread that counts: it does not wait, and its invocation is not lost."""
    complete = tracker.track_invocation("inner")
    with tracker._counting:
        del complete
        gc.collect()
    tracker.track_invocation("outer")()
    assert {each.skill_name for each in tracker.invocations} == {"inner", "outer"}
    assert tracker.get_summary()["total_invocations"] == 2


def test_ending_does_not_wait_for_a_reader(tracker: SkillTracker) -> None:
    """A thread that reads the counts delays no other thread."""
    complete = tracker.track_invocation("s")
    with tracker._counting:
        ender = threading.Thread(target=complete)
        ender.start()
        ender.join(10)
        assert not ender.is_alive()
    assert tracker.get_summary()["total_invocations"] == 1


AT_EXIT = """
import sys
from eventbus.trackers import SkillTracker

class Printing:
    def publish(self, event):
        print(type(event).__name__, getattr(event, "completed", None), flush=True)
        return True

complete = SkillTracker(Printing()).track_invocation("s")
{then}
"""


@pytest.mark.parametrize(
    ("then", "code", "end"),
    [
        ("", 0, "SkillCompleted False"),
        ("sys.exit(3)", 3, "SkillCompleted False"),
        ("raise ValueError", 1, "SkillCompleted False"),
        ("complete()", 0, "SkillCompleted True"),
        ("import os; os.fork() or sys.exit(0); os.wait()", 0, "SkillCompleted False"),
    ],
)
def test_interpreter_exit_abandons_open_invocations(then: str, code: int, end: str) -> None:
    """On any exit each invocation ends once, and the exit code is unchanged.

    A forked child does not end its parent's invocations.
    """
    program = AT_EXIT.format(then=then)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines() == ["SkillStarted None", end]
    assert run.returncode == code


AT_EXIT_WITH_A_BUS = """
import tempfile
from eventbus.bus import EventBus
from eventbus.contracts import Subscriber
from eventbus.events import SkillCompleted
from eventbus.trackers import track_skill

class Printer(Subscriber[SkillCompleted]):
    events = SkillCompleted
    async def handle(self, event):
        print(event.skill_name, event.completed, flush=True)

earlier = tempfile.TemporaryDirectory()  # its finalizer registers the exit hook of all finalizers
bus = EventBus([Printer()])
bus.__enter__()
complete = track_skill("s")
"""


def test_a_bus_that_is_open_at_exit_delivers_abandoned_invocations() -> None:
    """The end is published before the bus closes."""
    run = subprocess.run(
        [sys.executable, "-c", AT_EXIT_WITH_A_BUS], capture_output=True, text=True, check=False
    )
    assert (run.stdout.splitlines(), run.stderr) == (["s False"], "")


def test_a_skill_keeps_the_session_it_began_in(tracker: SkillTracker, published: list[Event]) -> None:
    """Start and end carry the same session, also if the end comes in another one."""
    with session_scope("begin"):
        complete = tracker.track_invocation("s")
    with session_scope("end"):
        complete()
    assert [event.session_id for event in published] == ["begin", "begin"]
    assert [each.session_id for each in tracker.invocations] == ["begin"]


def test_a_skill_without_a_session_gets_none_later(tracker: SkillTracker, published: list[Event]) -> None:
    """The session of the end is not used."""
    complete = tracker.track_invocation("s")
    with session_scope("end"):
        complete()
    assert [event.session_id for event in published] == [None, None]


def test_the_session_of_the_tracker_wins_over_that_of_the_context(
    sink: EventSink, published: list[Event]
) -> None:
    """An explicit session is used."""
    with session_scope("context"):
        SkillTracker(sink, session_id="explicit").track("s").complete()
    assert [event.session_id for event in published] == ["explicit", "explicit"]


def test_without_a_bus_the_current_one_is_looked_up_at_each_event(
    sink: EventSink, published: list[Event]
) -> None:
    """A bus that starts later gets later events; without a bus, invocations are still counted."""
    tracker = SkillTracker()
    with tracker.track("s"):
        assert published == []
        current_bus.register(sink)
        token = current_bus.push(sink)
    current_bus.pop(token)
    current_bus.unregister(sink)
    tracker.track("s").complete()
    assert [type(event) for event in published] == [SkillCompleted]
    assert tracker.get_summary()["total_invocations"] == 2


def test_a_broken_bus_changes_nothing_for_the_skill() -> None:
    """Its invocations are counted, and so are the exceptions."""
    tracker = SkillTracker(RaisingSink())
    with tracker.track("s"):
        pass
    tracker.track_invocation("s")()
    assert tracker.get_summary()["total_invocations"] == 2
    assert tracker.publish_failures == 4


def test_the_exception_of_a_broken_bus_does_not_hide_that_of_the_block() -> None:
    """The caller gets the exception of the block."""
    with pytest.raises(ValueError, match="mine"), SkillTracker(RaisingSink()).track("s"):
        raise ValueError("mine")


def test_hostile_arguments_do_not_raise(tracker: SkillTracker, published: list[Event]) -> None:
    """Arguments that are not texts become texts."""
    bad: Any = Hostile()
    with tracker.track(bad, bad) as skill:
        skill.follow_up(bad)
        skill.complete(bad, bad, bad)
    ended = only_end(published)
    assert (ended.skill_name, ended.follow_up_actions) == ("<Hostile>", ("<Hostile>",))
    assert tracker.publish_failures == 0


def test_only_the_latest_invocations_are_kept(sink: EventSink) -> None:
    """The history is bounded; the totals count all invocations."""
    tracker = SkillTracker(sink, history=3)
    for n in range(5):
        tracker.track(f"s{n}").complete()
    assert [each.skill_name for each in tracker.invocations] == ["s2", "s3", "s4"]
    assert tracker.get_summary()["total_invocations"] == 5


def test_an_open_invocation_is_not_counted(tracker: SkillTracker) -> None:
    """It has no outcome yet."""
    with tracker.track("s"):
        assert tracker.invocations == []
        assert tracker.get_skill_metrics("s") is None


def test_returned_values_are_copies(tracker: SkillTracker) -> None:
    """Changing them does not change the tracker."""
    tracker.track("s").complete(follow_up_actions=["a"])
    tracker.invocations[0].follow_up_actions.append("b")
    tracker.get_all_metrics()["s"].total_invocations = 99
    tracker.get_all_metrics().clear()
    assert tracker.invocations[0].follow_up_actions == ["a"]
    metrics = tracker.get_skill_metrics("s")
    assert metrics is not None
    assert metrics.total_invocations == 1


def test_generated_skill_names_do_not_fill_the_memory(sink: EventSink) -> None:
    """Skills beyond the limit are counted together."""
    tracker = SkillTracker(sink)
    for n in range(MAX_KINDS + 5):
        tracker.track(f"s{n}").complete()
    metrics = tracker.get_all_metrics()
    assert len(metrics) == MAX_KINDS + 1
    assert metrics[OTHER].total_invocations == 5


def test_a_wall_clock_that_is_set_back_gives_no_negative_duration(
    tracker: SkillTracker, published: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durations come from the monotonic clock."""
    complete = tracker.track_invocation("s")
    monkeypatch.setattr("time.time", lambda: 0.0)
    complete()
    duration = only_end(published).duration_seconds
    assert duration is not None
    assert 0 <= duration < 60


def test_track_skill_uses_the_tracker_of_the_process(sink: EventSink, published: list[Event]) -> None:
    """That tracker publishes to the current bus."""
    before = get_tracker().get_summary()["total_invocations"]
    current_bus.register(sink)
    token = current_bus.push(sink)
    try:
        complete = track_skill("crackerjack-run", "daily")
        complete(completed=True, follow_up_actions=["git commit"])
    finally:
        current_bus.pop(token)
        current_bus.unregister(sink)
    assert [type(event) for event in published] == [SkillStarted, SkillCompleted]
    assert get_tracker() is get_tracker()
    assert get_tracker().get_summary()["total_invocations"] == before + 1


def test_the_older_name_is_the_same_class() -> None:
    """Code that uses `SkillMetricsTracker` works."""
    assert SkillMetricsTracker is SkillTracker


def test_metrics_are_exported_atomically_and_privately(tracker: SkillTracker, tmp_path: Path) -> None:
    """The export is one JSON file that only its owner can read; no other file is left beside it."""
    tracker.track("s", "daily").complete()
    output = tmp_path / "new" / "metrics.json"
    tracker.export_metrics(output)
    tracker.export_metrics(output)
    document = json.loads(output.read_text())
    assert document["summary"]["most_used_skill"] == "s"
    assert document["skills"]["s"]["workflow_paths"] == {"daily": 1}
    assert len(document["invocations"][0]) == 7
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert list(output.parent.iterdir()) == [output]


def test_an_export_that_fails_raises_and_leaves_no_file(tracker: SkillTracker, tmp_path: Path) -> None:
    """A directory has the name of the file."""
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(OSError, match=r"metrics\.json"):
        tracker.export_metrics(tmp_path / "metrics.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "metrics.json"]


def test_the_report_is_text(tracker: SkillTracker) -> None:
    """It can be read with and without a skill."""
    assert tracker.generate_report() == "No skill was tracked."
    tracker.track("s").complete()
    assert "s: 1 invocations" in tracker.generate_report()


def test_many_threads_lose_no_count(sink: EventSink, published: list[Event]) -> None:
    """Every invocation is published twice and counted once."""
    tracker = SkillTracker(sink)

    def work() -> None:
        for n in range(200):
            with tracker.track(f"s{n % 3}") as skill:
                skill.follow_up("a")

    run_in_threads(8, work)
    summary = tracker.get_summary()
    assert (summary["total_invocations"], summary["overall_completion_rate"]) == (1_600, 100.0)
    assert sum(metrics.follow_up_actions["a"] for metrics in tracker.get_all_metrics().values()) == 1_600
    ids = [event.invocation_id for event in published if isinstance(event, SkillEvent)]
    assert (len(ids), len(set(ids))) == (3_200, 1_600)
