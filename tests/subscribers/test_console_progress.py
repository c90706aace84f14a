"""ConsoleProgress shows progress in lines that are only appended, and never disturbs the work."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any, cast
from unittest.mock import Mock

import pytest
from eventbus_subscribers import plain_progress, progress_state, run_progress
from eventbus_subscribers.console_progress import ConsoleProgress, choose_mode
from eventbus_subscribers.plain_progress import PlainProgress
from eventbus_subscribers.progress_state import ProgressState
from hypothesis import given
from hypothesis import strategies as st

from eventbus import (
    DEFAULT_DIRECTORY,
    Event,
    EventBus,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    PatternDetected,
    ProgressMode,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    SubscriberFailed,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
    encode,
)
from tests.subscribers.examples import publish_to

NODES = ("config_cleanup", "fast_hooks", "docs", "tests", "comprehensive", "publishing")
HEADER = "eventbus: session=7f3a dir=.session-buddy\n"


def make(cls: type[Any], session: str | None = "7f3a", **fields: Any) -> Any:
    if issubclass(cls, WorkflowEvent):
        fields = {"workflow_id": "crackerjack", "run_id": "r1", **fields}
    if issubclass(cls, SkillEvent):
        fields = {"skill_name": "crackerjack-run", "invocation_id": "i1", **fields}
    return cls(session_id=session, **fields)


def done(node: str, seconds: float | None = None, **fields: Any) -> NodeCompleted:
    return cast("NodeCompleted", make(NodeCompleted, node_id=node, duration_seconds=seconds, **fields))


def shown(timeline: Iterable[tuple[float, Event]], **options: Any) -> str:
    """Return the lines that events at given times produce."""
    progress = PlainProgress(".session-buddy", **options)
    return "".join(f"{line}\n" for now, event in timeline for line in progress.lines(event, 100.0 + now))


# The lines.


def test_a_run_that_fails() -> None:
    """A run with a failure has exactly these lines: starts, ends, the failure, heartbeats, the summary."""
    progress = PlainProgress(".session-buddy")
    lines: list[str] = []

    def at(now: float, *events: Event) -> None:
        for event in events:
            lines.extend(progress.lines(event, now))
        lines.extend(progress.heartbeat_lines(now))

    at(5.0, make(WorkflowStarted, nodes=NODES), make(NodeStarted, node_id="config_cleanup"))
    at(5.2, done("config_cleanup", 0.2), make(NodeStarted, node_id="fast_hooks"))
    at(11.3, done("fast_hooks", 6.1), done("docs", status="skipped"), make(NodeStarted, node_id="tests"))
    at(21.3)
    at(23.2, make(NodeStarted, node_id="comprehensive"))
    at(33.2)
    at(33.7, done("tests", 22.4, status="failed", error_type="AssertionError"))
    at(35.0, make(NodeProgress, node_id="comprehensive", completed=3, total=10, message="mypy"))
    at(43.3)
    at(46.0, done("comprehensive", 22.8, status="cancelled"), make(WorkflowCompleted, status="failed"))
    assert "\n".join(lines) == (
        HEADER + "+0.0s  start  workflow crackerjack\n"
        "+0.2s  done   config_cleanup (0.2s)\n"
        "+6.3s  done   fast_hooks (6.1s)\n"
        "+6.3s  skip   docs\n"
        "+16.3s still  tests (10.0s)\n"
        "+28.2s still  tests (21.9s)\n"
        "+28.2s still  comprehensive (10.0s)\n"
        "+28.7s FAIL   tests (22.4s) AssertionError\n"
        "+38.3s still  comprehensive (20.1s) 3/10 mypy\n"
        "+41.0s cancel comprehensive (22.8s)\n"
        "+41.0s end    workflow crackerjack FAILED 2/6 nodes, 1 skipped, 12 events, 0 lost"
    )


def test_a_skill_around_a_run_that_succeeds() -> None:
    """A skill has a line for its start and its end, and a run without failures ends ok."""
    assert shown(
        [
            (0, make(SkillStarted, workflow_path="comprehensive")),
            (0.1, make(WorkflowStarted, nodes=("tests",))),
            (3.0, done("tests", 2.9)),
            (3.1, make(WorkflowCompleted)),
            (100.0, make(SkillCompleted, duration_seconds=100.0)),
        ]
    ) == (
        HEADER + "+0.0s  start  skill crackerjack-run (comprehensive)\n"
        "+0.1s  start  workflow crackerjack\n"
        "+3.0s  done   tests (2.9s)\n"
        "+3.1s  end    workflow crackerjack ok 1/1 nodes, 3 events, 0 lost\n"
        "+100.0s done   skill crackerjack-run (100.0s)\n"
    )


def test_an_abandoned_skill() -> None:
    """An abandoned skill is cancelled, or failed; it is shown with the type of its error."""
    event = make(SkillCompleted, completed=False, duration_seconds=0.0, error_type="KeyboardInterrupt")
    assert shown([(0, event)]) == HEADER + "+0.0s  cancel skill crackerjack-run (0.0s) KeyboardInterrupt\n"


def test_a_loss_is_shown_at_once_and_in_the_summary_of_its_run() -> None:
    """A loss has its own line, and is counted in the summary of the open run, not of the next one."""
    text = shown(
        [
            (0, make(WorkflowStarted)),
            (1, make(EventsLost, count=37, first_seq=2, last_seq=38)),
            (2, make(WorkflowCompleted, status="cancelled")),
            (3, make(WorkflowStarted, run_id="r2")),
            (4, make(WorkflowCompleted, run_id="r2")),
        ]
    )
    assert "+1.0s  lost   37 events\n" in text
    assert "+2.0s  end    workflow crackerjack CANCELLED 0/0 nodes, 2 events, 37 lost\n" in text
    assert "+4.0s  end    workflow crackerjack ok 0/0 nodes, 2 events, 0 lost\n" in text


def test_repeated_events_show_nothing() -> None:
    """An event that changes nothing shows nothing."""
    once = [make(WorkflowStarted), done("a", 1), make(SkillCompleted), make(WorkflowCompleted)]
    warning = SubscriberFailed(session_id="7f3a", subscriber="x", error_type="OSError")
    twice = [event for event in once for _ in range(2)]
    assert shown([(0, e) for e in twice]).count("\n") == shown([(0, e) for e in once]).count("\n") == 5
    assert shown([(0, warning)] * 5) == HEADER + "+0.0s  warn   subscriber x OSError\n"


def test_without_run_ids_repeated_runs_are_shown() -> None:
    """Without ids each start is another run, which is shown."""
    one = [make(WorkflowStarted, run_id=None), done("a", run_id=None), make(WorkflowCompleted, run_id=None)]
    assert shown([(0, event) for event in one * 2]).count("done   a") == 2


def test_a_retry_and_a_resumed_run_are_shown() -> None:
    """A second attempt is shown with its number; a run that is started again shows its nodes again."""
    text = shown(
        [
            (0, make(WorkflowStarted)),
            (1, done("tests", 1.0, status="failed")),
            (2, done("tests", 1.0, attempt=2)),
            (3, make(WorkflowCompleted)),
            (4, make(WorkflowStarted)),
            (5, done("tests", 1.0)),
            (6, make(WorkflowCompleted)),
        ]
    )
    assert "+1.0s  FAIL   tests (1.0s)\n+2.0s  done   tests attempt 2 (1.0s)\n" in text
    assert "ok 1/1 nodes" in text
    assert text.endswith(
        "+4.0s  start  workflow crackerjack\n"
        "+5.0s  done   tests (1.0s)\n"
        "+6.0s  end    workflow crackerjack ok 1/1 nodes, 3 events, 0 lost\n"
    )


def test_concurrent_runs_are_distinguished() -> None:
    """While several runs are open nodes are named with their workflow, and if needed with their run."""
    text = shown(
        [
            (0, make(WorkflowStarted)),
            (0, done("a")),
            (1, make(WorkflowStarted, "b", workflow_id="docs", run_id="r2")),
            (1, done("a", attempt=2)),
            (2, make(WorkflowStarted, run_id="r3")),
            (2, done("a", run_id="r3")),
            (3, make(WorkflowCompleted, run_id="r3")),
            (3, make(WorkflowCompleted, "b", workflow_id="docs", run_id="r2")),
            (4, done("z")),
        ]
    )
    assert text == (
        HEADER + "+0.0s  start  workflow crackerjack\n"
        "+0.0s  done   a\n"
        "+1.0s  start  workflow docs session=b\n"
        "+1.0s  done   crackerjack/a attempt 2\n"
        "+2.0s  start  workflow crackerjack#r3\n"
        "+2.0s  done   crackerjack#r3/a\n"
        "+3.0s  end    workflow crackerjack#r3 ok 1/1 nodes, 3 events, 0 lost\n"
        "+3.0s  end    workflow docs ok 0/0 nodes, 6 events, 0 lost\n"
        "+4.0s  done   z\n"
    )


def test_a_late_event_does_not_open_its_run_again() -> None:
    """A node that ends after its run is shown, and the next run is the only open one."""
    text = shown(
        [
            (0, make(WorkflowStarted)),
            (1, make(WorkflowCompleted)),
            (2, done("late")),
            (3, make(WorkflowStarted, run_id="r2")),
            (4, done("a", run_id="r2")),
        ]
    )
    assert text.endswith("+2.0s  done   late\n+3.0s  start  workflow crackerjack\n+4.0s  done   a\n")


def test_a_pattern_is_noted_and_other_events_are_only_counted() -> None:
    """A pattern has a line; an event of an unrelated class has none."""
    note = PatternDetected(session_id="7f3a", pattern="slow", message="tests dominate")
    assert (
        shown([(0, Event(session_id="7f3a")), (1, note)]) == HEADER + "+0.0s  note   slow: tests dominate\n"
    )
    assert shown([(0, Event())]) == ""


def test_the_heartbeat_names_the_longest_silent_few() -> None:
    """A heartbeat names up to eight nodes and counts the rest; the next is due a full interval later."""
    progress = PlainProgress("d", heartbeat=10)
    assert progress.seconds_to_heartbeat(0) is None
    for i in range(plain_progress.MAX_STILL_LINES + 3):
        progress.lines(make(NodeStarted, node_id=f"n{i}"), 0.0)
    assert progress.seconds_to_heartbeat(4.0) == 6.0
    assert progress.heartbeat_lines(9.9) == []
    lines = progress.heartbeat_lines(10.0)
    assert len(lines) == plain_progress.MAX_STILL_LINES + 1
    assert lines[-1].endswith("still  3 more nodes")
    assert progress.heartbeat_lines(19.9) == []
    assert progress.seconds_to_heartbeat(19.0) == 1.0


def test_a_heartbeat_of_zero_never_beats() -> None:
    """Without a heartbeat nothing is due, however long a node runs."""
    progress = PlainProgress("d", heartbeat=0)
    progress.lines(make(NodeStarted, node_id="a"), 0.0)
    assert (progress.seconds_to_heartbeat(1e6), progress.heartbeat_lines(1e6)) == (None, [])


def test_quiet_shows_problems_and_ends_only() -> None:
    """Quiet mode shows only failures, losses, warnings, abandoned skills and the ends of workflows."""
    text = shown(
        [
            (0, make(SkillStarted)),
            (0, make(WorkflowStarted)),
            (1, done("a")),
            (2, done("b", status="failed")),
            (3, make(EventsLost, count=1, first_seq=1, last_seq=1)),
            (4, make(WorkflowCompleted, status="failed")),
            (5, make(SkillCompleted)),
            (6, make(SkillCompleted, invocation_id="i2", completed=False)),
        ],
        quiet=True,
    )
    assert [line[7:13].strip() for line in text.splitlines()[1:]] == ["FAIL", "lost", "end", "cancel"]
    assert PlainProgress("d", quiet=True).seconds_to_heartbeat(0) is None


def test_memory_is_bounded() -> None:
    """Open runs, nodes and lines not to be repeated are forgotten beyond their limits."""
    state = ProgressState()
    for i in range(progress_state.MAX_REMEMBERED * 3):
        state.add(make(WorkflowStarted, run_id=str(i)), 0)
        state.add(make(SkillStarted, invocation_id=str(i)), 0)
        state.add(make(SkillCompleted, invocation_id=f"e{i}"), 0)
    for i in range(run_progress.MAX_NODES + 5):
        state.add(make(NodeStarted, run_id="last", node_id=str(i)), 0)
        state.add(done(f"d{i}", run_id="last", status="failed"), 0)
    assert len(state.open) == len(state.skills) == len(state._shown_once) == progress_state.MAX_REMEMBERED
    run = state.open["7f3a", "crackerjack", "last"]
    assert max(len(run.running), len(run._ended), len(run._outcomes)) <= run_progress.MAX_NODES
    assert len(run.failures) == run_progress.MAX_FAILURES


def hook(node: str, name: str, status: str, seconds: float = 5.0) -> NodeProgress:
    metadata = {"hook": name, "status": status, "duration_seconds": seconds}
    return cast("NodeProgress", make(NodeProgress, node_id=node, completed=1, metadata=metadata))


def test_a_failure_names_its_hooks() -> None:
    """The hooks that failed in the latest pass stand in the line of their node, with other words for why."""
    text = shown(
        [
            (0, hook("fast", "ruff", "failed")),
            (1, hook("fast", "ruff", "passed")),
            (2, hook("fast", "mypy", "timeout", 60.0)),
            (2, hook("fast", "codespell", "failed")),
            (3, done("fast", 3.0, status="failed", error_type="RuntimeError")),
        ]
    )
    assert text == HEADER + "+0.0s  FAIL   fast (3.0s) RuntimeError: mypy timeout 60.0s, codespell 5.0s\n"


def test_a_view_that_ends_early_says_so() -> None:
    """A run whose end was not seen has a last line, and so have lines that could not be written."""
    progress = PlainProgress("d")
    progress.lines(make(WorkflowStarted, nodes=NODES), 0.0)
    progress.lines(done("tests"), 1.0)
    assert progress.last_lines(2.0, unwritten=3) == [
        "+2.0s  open   workflow crackerjack: its end was not seen, 1/6 nodes, 2 events, 0 lost",
        "+2.0s  lost   3 lines of this progress",
    ]
    assert progress.last_lines(3.0) == []


def test_github_actions_folds_what_succeeded() -> None:
    """A node that succeeded is a group with its hooks, one that failed stays open, and one error names it."""
    text = shown(
        [
            (0, make(WorkflowStarted)),
            (1, hook("fast", "ruff", "passed")),
            (2, done("fast", 2.0)),
            (3, done("docs", status="skipped")),
            (4, hook("tests", "unit", "failed")),
            (5, done("tests", 5.0, status="failed", error_type="E")),
            (6, make(WorkflowCompleted, status="failed")),
        ],
        github=True,
    )
    assert text == (
        HEADER + "+0.0s  start  workflow crackerjack\n"
        "::group::+2.0s  done   fast (2.0s)\n"
        "       passed ruff 5.0s\n"
        "::endgroup::\n"
        "::group::+3.0s  skip   docs\n"
        "+3.0s  skip   docs\n"
        "::endgroup::\n"
        "+5.0s  FAIL   tests (5.0s) E: unit 5.0s\n"
        "+6.0s  end    workflow crackerjack FAILED 1/3 nodes, 1 skipped, 7 events, 0 lost\n"
        "::error title=crackerjack failed::tests E (unit)\n"
    )


def test_github_actions_gets_no_command_from_an_event() -> None:
    """Names are escaped as the toolkit does, and none of them is a command, of the new kind or the old."""
    name = "a%0A::set-output name=x::1,b:c ##[error]x"
    text = shown(
        [
            (0, make(WorkflowStarted, workflow_id=name)),
            (1, done(name, workflow_id=name)),
            (2, done(f"{name}\n::warning::y", workflow_id=name, status="failed", error_type=name)),
            (3, make(WorkflowCompleted, workflow_id=name, status="failed")),
        ],
        github=True,
    )
    commands = [line.split("::")[1].split()[0] for line in text.splitlines() if line.startswith("::")]
    assert commands == ["group", "endgroup", "error"]
    assert "##[" not in text
    assert "title=a%250A%3A%3Aset-output name=x%3A%3A1%2Cb%3Ac" in text
    assert "a%250A::set-output" in text


@pytest.mark.parametrize(("variable", "groups"), [("true", 1), ("", 0)])
def test_groups_are_for_github_actions_only(
    monkeypatch: pytest.MonkeyPatch, variable: str, groups: int
) -> None:
    """The lines are grouped where GITHUB_ACTIONS is true, in mode plain, and nowhere else."""
    monkeypatch.setenv("GITHUB_ACTIONS", variable)
    monkeypatch.setenv("CI", "true")
    stream = io.StringIO()
    publish_to(ConsoleProgress(stream, directory=DEFAULT_DIRECTORY), RUN)
    assert stream.getvalue().count("::group::") == groups
    quiet = io.StringIO()
    publish_to(ConsoleProgress(quiet, mode="quiet"), RUN)
    assert "::" not in quiet.getvalue()


TEXTS = st.text() | st.sampled_from(
    ["\n::error::x", "\r\x1b[2J", "\x1b]52;c;eA==\x07", "\u2028", "\x9b", "[red]"]
)


@given(texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS))
def test_no_event_is_more_than_one_printable_line(texts: tuple[str, str, str, str]) -> None:
    """An event with any strings has at most one line, after a header for the first, all printable."""
    a, b, c, d = texts
    events: list[Event] = [
        WorkflowStarted(session_id=a, workflow_id=b, run_id=c, nodes=(d,)),
        NodeProgress(session_id=a, workflow_id=b, run_id=c, node_id=d, message=a, attempt=cast("Any", b)),
        NodeCompleted(session_id=b, workflow_id=c, node_id=d, error_type=a, status=cast("Any", b)),
        SkillStarted(session_id=d, skill_name=a, workflow_path=b),
        SkillCompleted(session_id=a, skill_name=b, invocation_id=c, error_type=d, completed=False),
        PatternDetected(session_id=a, pattern=b, message=c),
        SubscriberFailed(session_id=a, subscriber=b, error_type=c),
        WorkflowCompleted(session_id=a, workflow_id=b, run_id=c, error_type=d),
    ]
    progress = PlainProgress(a)
    for number, event in enumerate(events):
        lines = [*progress.lines(event, 0.0), *progress.heartbeat_lines(0.0)]
        assert len(lines) <= (2 if number == 0 else 1)
        assert all(line.isprintable() for line in lines)
        assert all(line.startswith(("+0.0s  ", "eventbus: ")) for line in lines)


# The mode, and the stream.


@pytest.mark.parametrize(
    ("flag", "environ", "is_terminal", "columns", "mode"),
    [
        (None, {}, True, 80, "tty"),
        ("auto", {}, True, 20, "tty"),
        (None, {}, True, 19, "plain"),
        (None, {}, False, 80, "plain"),
        (None, {"CI": "true"}, True, 80, "plain"),
        (None, {"CI": ""}, True, 80, "tty"),
        (None, {"TERM": "dumb"}, True, 80, "plain"),
        (None, {"TERM": "xterm"}, True, 80, "tty"),
        (None, {"EVENTBUS_PROGRESS": "json", "CI": "1"}, True, 80, "json"),
        (None, {"EVENTBUS_PROGRESS": "auto"}, True, 80, "tty"),
        (None, {"EVENTBUS_PROGRESS": "nonsense"}, False, 80, "plain"),
        ("quiet", {"EVENTBUS_PROGRESS": "json"}, True, 80, "quiet"),
        ("auto", {"EVENTBUS_PROGRESS": "json"}, True, 80, "json"),
        ("tty", {"CI": "1"}, True, 20, "tty"),
        (None, {"EVENTBUS_PROGRESS": "tty", "CI": "1"}, True, 80, "tty"),
        ("plain", {"EVENTBUS_PROGRESS": "tty"}, False, 80, "plain"),
    ],
)
def test_the_mode(
    flag: str | None, environ: dict[str, str], is_terminal: bool, columns: int, mode: ProgressMode
) -> None:
    """The flag overrides the variable, which overrides the mode that fits the stream."""
    assert choose_mode(flag, environ, is_terminal, columns) == mode


@pytest.mark.parametrize(
    ("flag", "environ", "is_terminal", "columns", "reason"),
    [
        ("tty", {}, False, 80, "not a terminal"),
        ("tty", {"TERM": "dumb"}, True, 80, "TERM is dumb"),
        ("tty", {}, True, 19, "19 columns, fewer than 20"),
        (None, {"EVENTBUS_PROGRESS": "tty"}, False, 80, "not a terminal"),
        ("auto", {"EVENTBUS_PROGRESS": "tty"}, True, 3, "3 columns"),
    ],
)
def test_a_tty_that_was_asked_for_by_name_and_cannot_be_had_is_an_error(
    flag: str | None, environ: dict[str, str], is_terminal: bool, columns: int, reason: str
) -> None:
    """Only `auto` falls back: a live view that was asked for by name is had, or refused with a reason."""
    with pytest.raises(ValueError, match=reason):
        choose_mode(flag, environ, is_terminal, columns)


def test_a_console_that_cannot_be_live_is_reported_and_harms_nobody() -> None:
    """With mode tty and no terminal, the subscriber fails to start, and the other subscribers go on."""
    received: list[Event] = []
    console = ConsoleProgress(io.StringIO(), mode="tty")
    with EventBus([console, received.append]) as bus:
        bus.publish(RUN[0])
        report = bus.close()
    assert RUN[0] in received
    assert any(isinstance(event, SubscriberFailed) for event in received)
    assert report.complete


def test_a_live_view_without_rich_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live view that is asked for by name needs rich; the error says how to install it."""
    console = ConsoleProgress(io.StringIO(), mode="tty")
    monkeypatch.delenv("TERM", raising=False)
    monkeypatch.setattr(console._stream, "is_terminal", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", Mock(return_value=None))
    with pytest.raises(ValueError, match=r"pip install 'anyio-eventbus\[cli\]'"):
        console._chosen_mode()


def test_an_unknown_mode_is_refused() -> None:
    """An unknown mode raises ValueError at once."""
    with pytest.raises(ValueError, match="loud"):
        choose_mode("loud", {}, is_terminal=True, columns=80)
    with pytest.raises(ValueError, match="loud"):
        ConsoleProgress(mode=cast("Any", "loud"))


RUN: list[Event] = [make(WorkflowStarted), done("a", 0.2), make(WorkflowCompleted)]
RUN_SHOWN = (
    HEADER + "+0.0s  start  workflow crackerjack\n+0.0s  done   a (0.2s)\n"
    "+0.0s  end    workflow crackerjack ok 1/1 nodes, 3 events, 0 lost\n"
)


@pytest.mark.parametrize("mode", ["auto", "plain"])
def test_a_bus_shows_its_events_on_the_stream(mode: ProgressMode) -> None:
    """Published events are on the stream when the bus has closed."""
    stream = io.StringIO()
    publish_to(ConsoleProgress(stream, mode=mode, clock=lambda: 7.0, directory=DEFAULT_DIRECTORY), RUN)
    assert stream.getvalue() == RUN_SHOWN


def test_each_line_is_one_write_and_is_flushed() -> None:
    """Each line is written whole, in one call, and flushed."""
    calls: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str, /) -> int:
            calls.append(text)
            return len(text)

        def flush(self) -> None:
            calls.append("flush")

    publish_to(ConsoleProgress(Stream(), clock=lambda: 7.0, directory=DEFAULT_DIRECTORY), RUN)
    assert calls == [part for line in RUN_SHOWN.splitlines(keepends=True) for part in (line, "flush")]


def test_stderr_is_looked_up_when_a_line_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """If `sys.stderr` is replaced, even after the start, lines go to the new one."""
    console = ConsoleProgress(clock=lambda: 7.0, directory=DEFAULT_DIRECTORY)
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    with EventBus([console]) as bus:
        bus.publish(RUN[0])
        while not first.getvalue().endswith("crackerjack\n"):
            pass
        monkeypatch.setattr(sys, "stderr", second)
        bus.publish(RUN[1])
        bus.publish(RUN[2])
    assert first.getvalue() + second.getvalue() == RUN_SHOWN
    assert second.getvalue().startswith("+")


def test_without_a_stderr_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `sys.stderr`, as under pythonw, lines are counted as unwritten."""
    monkeypatch.setattr(sys, "stderr", None)
    console = ConsoleProgress()
    publish_to(console, RUN)
    assert console.unwritten == 4


def test_json_mode_writes_each_event_as_one_line_of_ascii() -> None:
    """Each event is one line that decodes to the event, without characters that control a terminal."""
    stream = io.StringIO()
    events = [make(WorkflowStarted, workflow_id="\x7f\x9b\u2028\u202e\U0001f600é"), Event(session_id="7f3a")]
    publish_to(ConsoleProgress(stream, mode="json"), events)
    lines = stream.getvalue().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(encode(event)) for event in events]
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_character_that_the_stream_cannot_encode_is_escaped(encoding: str) -> None:
    """A stream with another encoding than UTF-8 receives the whole line, with escapes."""
    raw = io.BytesIO()
    console = ConsoleProgress(io.TextIOWrapper(raw, encoding=encoding), clock=lambda: 7.0)
    publish_to(console, [done("tests ✓")])
    expected = "tests ✓" if encoding == "utf-8" else "tests \\u2713"
    assert raw.getvalue().decode(encoding).endswith(f"done   {expected}\n")
    assert console.unwritten == 0


class Broken(io.StringIO):
    """A pipe without a reader."""

    attempts = 0

    def write(self, text: str, /) -> int:
        """Fail."""
        self.attempts += 1
        raise BrokenPipeError(32, "Broken pipe")


def test_a_broken_stream_is_left_alone() -> None:
    """After a failed write no other is tried; lines are counted as unwritten, and nothing is raised."""
    stream = Broken()
    console = ConsoleProgress(stream)
    with EventBus([console]) as bus:
        for event in RUN:
            bus.publish(event)
        report = bus.close()
    assert (stream.attempts, console.unwritten) == (1, 4)
    assert report.complete
    assert report.subscriptions["console_progress"].failed == 0


def test_a_closed_stream_is_left_alone() -> None:
    """A closed stream raises nothing into the bus."""
    stream = io.StringIO()
    stream.close()
    console = ConsoleProgress(stream)
    publish_to(console, RUN)
    assert console.unwritten == 4


def test_an_event_with_fields_of_wrong_types_is_left_out() -> None:
    """An event that cannot be shown, because a field has a wrong type, does not prevent others."""
    stream = io.StringIO()
    console = ConsoleProgress(stream, clock=lambda: 7.0)
    publish_to(console, [make(WorkflowStarted, nodes=cast("Any", 3), run_id="bad"), done("a", run_id="good")])
    assert "done" in stream.getvalue()


def test_a_full_pipe_does_not_block_the_bus() -> None:
    """With a full pipe the bus closes in time, and only whole lines that did not fit are missing."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        console = ConsoleProgress(stream, mode="plain", heartbeat=0)
        with EventBus([console]) as bus:
            for i in range(2_000):
                bus.publish(done(f"node-{i}-{'x' * 100}", run_id=None))
            report = bus.close(timeout=4)
        assert report.complete
        assert console.unwritten > 0
        os.set_blocking(reader, False)
        got = b"".join(iter(lambda: _read(reader), b"")).decode()
    os.close(reader)
    assert got.endswith("\n")
    assert got.count("\n") == 2_001 - console.unwritten


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except BlockingIOError:
        return b""


def test_the_exit_code_survives_a_full_stderr() -> None:
    """A program whose stderr is a full pipe ends with its own exit code."""
    program = """
import sys, time
from eventbus import EventBus, NodeCompleted
from eventbus_subscribers.console_progress import ConsoleProgress
bus = EventBus([ConsoleProgress(heartbeat=0)])
bus.__enter__()
for i in range(2000):
    bus.publish(NodeCompleted(workflow_id="w", node_id=f"{i}" * 20))
sys.exit(7)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert child.stderr is not None
    try:
        assert child.wait(20) == 7
    finally:
        child.kill()
        child.stderr.close()


def test_the_heartbeat_needs_no_events() -> None:
    """A running node is shown again without any event, even while the bus's loop is blocked."""
    beats = threading.Event()
    blocked = threading.Event()
    ticks = itertools.count()

    class Stream(io.StringIO):
        def write(self, text: str, /) -> int:
            if "still  tests" in text:
                beats.set()
            return len(text)

    def block(_: NodeStarted) -> None:
        blocked.set()
        assert beats.wait(5)

    console = ConsoleProgress(Stream(), heartbeat=0.01, clock=lambda: next(ticks) * 0.004)
    with EventBus([console]) as bus:
        bus.publish(make(NodeStarted, node_id="tests"))
        assert beats.wait(5)
        beats.clear()
        bus.subscribe(block)
        bus.publish(make(NodeStarted, node_id="other"))
        assert blocked.wait(5)
    assert beats.is_set()


@pytest.mark.anyio
async def test_a_batch_looks_for_due_heartbeats_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch, which looks for due heartbeats itself, the idle thread does not look again."""
    calls: list[float] = []

    def heartbeat_lines(_: PlainProgress, now: float) -> list[str]:
        calls.append(now)
        return []

    monkeypatch.setattr(PlainProgress, "heartbeat_lines", heartbeat_lines)
    console = ConsoleProgress(io.StringIO(), clock=lambda: 7.0)
    await console.handle_batch([make(NodeStarted, node_id="a"), done("b")])
    await console._thread.run(abs, 0)  # the thread has been idle before this call
    await console.stop()
    assert calls == [7.0]


def test_its_thread_ends_with_the_bus() -> None:
    """After close its thread ends, even if a node is still running."""
    publish_to(ConsoleProgress(io.StringIO(), heartbeat=0.01), [make(NodeStarted, node_id="a")])
    for thread in threading.enumerate():
        if thread.name == "eventbus-console-progress":
            thread.join(5)
            assert not thread.is_alive()
