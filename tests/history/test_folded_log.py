"""fold_log: the figures of all sessions from one pass, or None where only the index gives them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus.correlation import Correlation
from eventbus.events import Event, EventsLost, SessionLinked, WorkflowCompleted, WorkflowStarted
from eventbus.history import EventLog, folded_log
from eventbus.history.session_history import SessionHistory
from eventbus.history.unfinished import all_unfinished
from tests.history.log_examples import START, Segments


def run(session: str | None, number: int, *, ends: bool = True) -> list[Event]:
    """Return a run of a session, `number` minutes after START."""
    at = START + timedelta(minutes=number)
    known: dict[str, Any] = {"session_id": session, "workflow_id": "ci", "run_id": f"r{number}"}
    start = WorkflowStarted(**known, timestamp=at)
    end = WorkflowCompleted(**known, timestamp=at + timedelta(seconds=1), duration_seconds=1.0)
    return [start, end] if ends else [start]


LINK = SessionLinked(session_id="a", other="b", timestamp=START)
SECOND_LINK = SessionLinked(session_id="a", other="c", timestamp=START)
LOST = EventsLost(count=3, first_seq=1, last_seq=3, timestamp=START)


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one session be in memory: the next one evicts it."""
    monkeypatch.setattr(folded_log, "_MAX_FOLDS", 1)


@pytest.mark.parametrize(
    "events",
    [
        [*run("a", 1), *run("b", 2), *run("c", 3)],
        [*run("b", 1), *run("a", 2)],
        [*run("a", 1), *run("b", 2, ends=False)],
        [LINK, *run("a", 1)],
        [],
    ],
    ids=["several", "in another order", "the last is unfinished", "a link of the only one", "none"],
)
def test_one_pass_is_enough(tmp_path: Path, segment: Segments, events: list[Event]) -> None:
    """Sessions that are over leave memory, and their figures are those of correlation, the latest first."""
    segment(events)
    log = EventLog(tmp_path)
    live = Correlation()
    live.add_all(events)
    expected = [all_unfinished(each) if each.is_open else each for each in live.all_figures().values()]
    folded = folded_log.fold_log(log)
    assert folded is not None
    assert list(folded.figures()) == sorted(expected, key=lambda each: each.start_time, reverse=True)
    assert folded.count() == len(expected)
    assert [folded.figures_of(each.session_id) for each in expected] == expected
    assert folded.figures_of("?") is None


@pytest.mark.parametrize(
    "events",
    [
        [*run("a", 1), *run("b", 2), *run("a", 3)],
        [*run("a", 1), *run("b", 2), *run("a", 3), *run("c", 4)],
        [*run("a", 1, ends=False), *run("b", 2)],
        [*run(None, 1), *run("b", 2)],
        [LINK, *run("a", 1), *run("b", 2), *run("c", 3)],
        [*run("a", 1), *run("b", 2), *run("c", 3), LINK],
        [LINK, SECOND_LINK, *run("a", 1)],
        [LOST, *run("a", 1)],
    ],
    ids=[
        "the first goes on",
        "the first goes on, and is over again",
        "an open one left memory",
        "a run without a session left memory",
        "a link",
        "a link at last",
        "more links than are remembered",
        "lost events",
    ],
)
def test_one_pass_is_not_enough(tmp_path: Path, segment: Segments, events: list[Event]) -> None:
    """Where a session that left memory may have further events, the index is asked."""
    segment(events)
    log = EventLog(tmp_path)
    assert folded_log.fold_log(log) is None
    with SessionHistory(log) as history:
        assert list(history.figures())


def test_an_index_is_faster(tmp_path: Path, segment: Segments) -> None:
    """Where the index is up to date, it is asked."""
    segment(run("a", 1))
    log = EventLog(tmp_path)
    with SessionHistory(log):
        pass
    assert folded_log.fold_log(log) is None
