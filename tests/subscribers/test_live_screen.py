"""The live view at every size, through a terminal emulator: what is on the screen, and what stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest
from eventbus_subscribers.live_region import LiveRegion
from eventbus_subscribers.live_screen import Look, region_rows, row_lines, summary_rows
from eventbus_subscribers.live_state import LiveState
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from eventbus import (
    Event,
    EventsLost,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    SubscriberFailed,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from tests.subscribers.terminals import Screen

SIZES = [(120, 40), (80, 24), (60, 20), (39, 10), (15, 5)]
HOSTILE = "\x1b[2J\r\n::error::x\u202e\x9b\u2028" + "名" * 30 + "é" * 200


def of(cls: type[Any], **fields: Any) -> Any:
    if issubclass(cls, WorkflowEvent):
        fields = {"workflow_id": "crackerjack", "run_id": "r1", **fields}
    return cls(session_id="7f3a", **fields)


def started(*names: str) -> list[Event]:
    return [of(NodeStarted, node_id=name) for name in names]


def ended(name: str, seconds: float = 1.0, **fields: Any) -> NodeCompleted:
    return cast("NodeCompleted", of(NodeCompleted, node_id=name, duration_seconds=seconds, **fields))


def hook(node: str, name: str, status: str, completed: int = 0) -> NodeProgress:
    metadata = {"hook": name, "status": status, "duration_seconds": 5.0}
    return cast("NodeProgress", of(NodeProgress, node_id=node, completed=completed, metadata=metadata))


class Drawn:
    """A live view on an emulated terminal, driven by hand."""

    def __init__(self, columns: int, rows: int, *, has_unicode: bool = True, **options: Any) -> None:
        self.look = Look(columns, rows, has_unicode)
        self.screen = Screen(columns, rows)
        self.state = LiveState(".session-buddy", **options)
        self.region = LiveRegion(Console(force_terminal=True, color_system="standard", _environ={}))
        self.now = 0.0

    def at(self, now: float, *events: Event) -> None:
        """Fold events, and draw a frame."""
        self.now = now
        for event in events:
            self.state.add(event, now)
        self._draw(region_rows(self.state, now, self.look))

    def end(self) -> list[str]:
        """End the view; return what is on the terminal."""
        self._draw([], list(summary_rows(self.state, self.now, self.look)))
        return self.screen.lines()

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal."""
        self.screen.resize(columns, rows)
        self.look = Look(columns, rows, self.look.has_unicode)

    def _draw(self, region: Sequence[Any], summary: Sequence[Any] = ()) -> None:
        rows = [line for row in self.state.rows for line in row_lines(row, self.now, self.look)]
        self.state.rows.clear()
        for line in (*rows, *region, *summary):
            assert cell_len(line.plain) <= max(1, self.look.columns - 1)
        self.screen.feed(self.region.frame([*rows, *summary], region, self.look.columns))
        assert self.screen.is_as_found()


def failing_run(drawn: Drawn) -> None:
    drawn.at(0.0, of(WorkflowStarted, nodes=("config", "fast_hooks", "tests")), *started("config"))
    drawn.at(0.2, ended("config", 0.2), *started("fast_hooks", "tests"))
    drawn.at(1.0, hook("fast_hooks", "codespell", "failed", 4), hook("fast_hooks", "mypy", "passed", 5))
    drawn.at(2.0, hook("fast_hooks", "ruff", "running", 0), hook("fast_hooks", "ruff", "timeout", 1))
    drawn.at(2.1, ended("fast_hooks", 55.5, status="failed", error_type="RuntimeError"))
    drawn.at(3.0, of(NodeProgress, node_id="tests", completed=3, total=10, message="test_bus"))


def _usual_of_tests(workflow: str, node: str) -> float | None:
    return 19.0 if node == "tests" else None


def test_a_failing_run_at_80_columns() -> None:
    """A failure is shown when it happens with its hooks, and is repeated in the last summary."""
    drawn = Drawn(80, 24, usual=_usual_of_tests)
    failing_run(drawn)
    above = [
        "eventbus: session=7f3a dir=.session-buddy",
        "    0.2s  ✓ config",
        "   55.5s  ✗ fast_hooks  RuntimeError",
        "            ✗ codespell 5.0s · ruff timeout 5.0s  (2 passes)",
    ]
    assert drawn.screen.lines() == [
        *above,
        "    2.8s  ⠋ tests  ███░░░░░░░ 3/10 test_bus  (usual 19.0s)",
        "    3.0s  ▸ crackerjack 1/3 nodes, 1 failed",
    ]
    drawn.at(4.0, ended("tests", 3.8), of(WorkflowCompleted, status="failed", duration_seconds=4.0))
    assert drawn.end() == [
        *above,
        "    3.8s  ✓ tests",
        "✗ crackerjack failed after 4.0s  2/3 nodes, 13 events, 0 lost",
        *above[2:],
    ]


def test_a_run_that_succeeds_ends_with_its_verdict() -> None:
    """A row for each node, a row for the skill, and the verdict: nothing is shown twice."""
    drawn = Drawn(120, 40)
    drawn.at(0.0, of(SkillStarted, skill_name="quality", invocation_id="i", workflow_path="fast"))
    drawn.at(0.0, of(WorkflowStarted, nodes=("a",)), *started("a"))
    drawn.at(1.0, ended("a", 61.0), of(WorkflowCompleted, duration_seconds=62.0))
    drawn.at(1.1, of(SkillCompleted, skill_name="quality", invocation_id="i", duration_seconds=62.0))
    assert drawn.end() == [
        "eventbus: session=7f3a dir=.session-buddy",
        "          start  skill quality (fast)",
        "   1m01s  ✓ a",
        "   1m02s  ✓ skill quality",
        "✓ crackerjack succeeded in 1m02s  1/1 nodes, 4 events, 0 lost",
    ]


def test_a_view_that_ends_before_its_run_says_so() -> None:
    """After Ctrl-C without the end of a run, the summary says that its end was not seen."""
    drawn = Drawn(80, 24)
    drawn.at(0.0, of(WorkflowStarted, nodes=("a", "b")), *started("a"))
    drawn.at(2.0, ended("a", status="cancelled"))
    assert drawn.end()[-3:] == [
        "    1.0s  ⊘ a",
        "▸ crackerjack open after 2.0s: its end was not seen  0/2 nodes, 3 events, 0",
        "  lost",
    ]


def test_200_nodes_take_a_third_of_the_rows() -> None:
    """Of many running nodes the oldest are shown, in a third of the rows, and the others are counted."""
    drawn = Drawn(80, 24)
    drawn.at(0.0, of(WorkflowStarted), *started(*(f"node-{number}" for number in range(200))))
    region = drawn.screen.lines()[1:]
    assert len(region) == 24 // 3 + 2
    assert region[0] == "    0.0s  ⠋ node-0"
    assert region[-2:] == [
        "          … 192 more",
        "    0.0s  ▸ crackerjack 0/200 nodes, 200 running",
    ]
    drawn.at(1.0, *(ended(f"node-{number}") for number in range(200)))
    assert sum("✓ node-" in line for line in drawn.end()) == 200


def test_parallel_runs_are_told_apart() -> None:
    """While several runs are open nodes are named with their workflow, and the status counts the runs."""
    drawn = Drawn(80, 24)
    drawn.at(0.0, of(WorkflowStarted), of(WorkflowStarted, workflow_id="docs", run_id="r2"))
    drawn.at(1.0, of(NodeStarted, workflow_id="docs", run_id="r2", node_id="build"), *started("tests"))
    assert drawn.screen.lines()[1:] == [
        "    0.0s  ⠋ crackerjack/tests",
        "    0.0s  ⠋ docs/build",
        "    1.0s  ▸ 2 runs, 2 running",
    ]
    drawn.at(
        2.0, of(WorkflowCompleted, duration_seconds=2.0), ended("build", workflow_id="docs", run_id="r2")
    )
    drawn.at(3.0, of(WorkflowCompleted, workflow_id="docs", run_id="r2", status="failed"))
    summary = drawn.end()[-2:]
    assert [line.split("  ")[0] for line in summary] == [
        "✓ crackerjack succeeded in 2.0s",
        "✗ docs failed after 3.0s",
    ]


def test_the_summary_of_a_run_is_printed_before_the_next_begins() -> None:
    """An ended run waits in the status line for the end, or for the next run, which prints its summary."""
    drawn = Drawn(80, 24)
    drawn.at(0.0, of(WorkflowStarted), of(WorkflowCompleted, duration_seconds=1.0))
    drawn.at(5.0)
    assert drawn.screen.lines()[1].startswith("✓ crackerjack succeeded in 1.0s")
    drawn.at(6.0, of(WorkflowStarted, run_id="r2"))
    assert drawn.screen.lines()[1].startswith("✓ crackerjack succeeded in 1.0s")
    assert drawn.screen.lines()[2] == "    0.0s  ▸ crackerjack 0/0 nodes"


def test_losses_and_quarantine_and_logged_warnings_are_shown() -> None:
    """A loss, a subscriber that failed and a log that cannot be written are shown, and again at the end."""
    drawn = Drawn(80, 24)
    drawn.at(0.0, of(WorkflowStarted), of(EventsLost, count=37, first_seq=1, last_seq=37))
    drawn.at(1.0, SubscriberFailed(subscriber="slow", error_type="OSError", quarantined=True))
    drawn.state.warn("the event log in /x cannot be written: No space left on device")
    drawn.at(2.0)
    assert drawn.screen.lines()[1:] == [
        "          lost   37 events",
        "          warn   subscriber slow OSError (quarantined)",
        "          warn   the event log in /x cannot be written: No space left on device",
        "    2.0s  ▸ crackerjack 0/0 nodes, 37 lost",
    ]
    drawn.at(3.0, of(WorkflowCompleted, duration_seconds=3.0))
    assert drawn.end()[-3:] == [
        "✓ crackerjack succeeded in 3.0s  0/0 nodes, 3 events, 37 lost",
        "          warn   the event log in /x cannot be written: No space left on device",
        "          lost   37 events",
    ]


@pytest.mark.parametrize(("columns", "rows"), SIZES)
@pytest.mark.parametrize("has_unicode", [True, False])
def test_every_size_shows_the_failure(columns: int, rows: int, has_unicode: bool) -> None:
    """At every size rows are shorter than the screen, the region leaves room, and the failure is told."""
    drawn = Drawn(columns, rows, has_unicode=has_unicode)
    failing_run(drawn)
    region = region_rows(drawn.state, 3.0, drawn.look)
    assert len(region) == (2 if columns >= 40 else 1 if columns >= 20 else 0)
    bars = "█" if has_unicode else "#"
    assert (bars in "".join(row.plain for row in region)) == (columns >= 80)
    drawn.at(4.0, of(WorkflowCompleted, status="failed", duration_seconds=4.0))
    shown = "\n".join(drawn.end())
    assert shown.count("✗" if has_unicode else "[FAIL]") == 5  # the run; twice the node, and its hooks
    assert has_unicode or shown.isascii()
    if columns >= 39:
        assert "Runti" in shown
        assert "codespell 5.0s" in shown


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_hostile_names_draw_nothing_else(columns: int, rows: int) -> None:
    """Names with control characters, wide characters and of any length take a row each, and do nothing."""
    drawn = Drawn(columns, rows)
    fields: dict[str, Any] = {"workflow_id": HOSTILE, "run_id": "r"}
    drawn.at(0.0, of(WorkflowStarted, nodes=(HOSTILE,), **fields), of(NodeStarted, node_id=HOSTILE, **fields))
    drawn.at(1.0, of(NodeProgress, node_id=HOSTILE, message=HOSTILE, completed=1, total=3, **fields))
    drawn.at(2.0, ended(HOSTILE, status="failed", error_type=HOSTILE, error_message=HOSTILE, **fields))
    drawn.at(3.0, of(WorkflowCompleted, status="failed", **fields))
    lines = drawn.end()
    assert lines[0].startswith("eventbus: sess"[: columns - 1])
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("sizes", [[(78, 24), (40, 24), (120, 40), (15, 5), (60, 20)]])
def test_a_resize_leaves_no_second_region(sizes: list[tuple[int, int]]) -> None:
    """While it is drawn at changing sizes there is one region, and what was finished stays."""
    drawn = Drawn(*sizes[0])
    failing_run(drawn)
    for columns, rows in sizes[1:]:
        drawn.resize(columns, rows)
        drawn.at(drawn.now + 1)
        drawn.at(drawn.now + 1)
        if columns >= 40:
            assert sum("▸" in line for line in drawn.screen.lines()) == 1


def test_old_rows_are_cleared_by_the_rows_they_take_now() -> None:
    """After narrowing, a row of 60 cells takes two rows of 40 columns, and both are cleared."""
    region = LiveRegion(Console(force_terminal=True, no_color=True))
    region.frame([], [Text("x" * 60), Text("y" * 80), Text("z")], 81)
    assert "\x1b[5A" in region.frame([], [Text("a")], 40)


def test_a_frame_that_changes_nothing_is_not_written() -> None:
    """What the screen shows already is not drawn again."""
    drawn = Drawn(80, 24)
    drawn.at(0.0, of(WorkflowStarted), of(WorkflowCompleted, duration_seconds=1.0))
    assert drawn.region.frame([], region_rows(drawn.state, 9.0, drawn.look), 80) == ""


TEXTS = st.text() | st.sampled_from(["\x1b[2J", "\u202e", "\r", "名前" * 40, "e\u0301" * 90, "", "[red]"])
NUMBERS = st.none() | st.floats() | st.integers() | TEXTS


def _event(kind: type[Event], name: str, number: Any, status: str, second: str) -> Event:
    """Return an event of a class, with these values in the fields that it has."""
    values: dict[str, Any] = {
        "node_id": name,
        "attempt": number,
        "status": status,
        "error_type": second,
        "duration_seconds": number,
        "completed": number,
        "total": second if status == "ok" else number,
        "message": second,
        "nodes": (name, second),
        "metadata": {"hook": second, "status": status},
    }
    fields = {key: value for key, value in values.items() if key in kind.__struct_fields__}
    if kind is NodeCompleted:
        del fields["attempt"]
    return cast("Event", of(kind, **fields))


KINDS: list[type[Event]] = [NodeStarted, NodeCompleted, NodeProgress, WorkflowStarted, WorkflowCompleted]
STATUSES = st.sampled_from(["ok", "failed", "skipped", "cancelled", "new"])


@given(
    events=st.lists(st.builds(_event, st.sampled_from(KINDS), TEXTS, NUMBERS, STATUSES, TEXTS), max_size=12),
    size=st.sampled_from(SIZES),
    has_unicode=st.booleans(),
)
def test_whatever_happens_no_row_is_too_long(
    events: Iterable[Event], size: tuple[int, int], has_unicode: bool
) -> None:
    """Events with fields of any value, in any order, give rows that are printable and fit."""
    drawn = Drawn(*size, has_unicode=has_unicode)
    for now, event in enumerate(events):
        drawn.at(float(now), event)
    drawn.end()


def test_the_usual_duration_is_asked_for_once_and_may_fail() -> None:
    """What is usual is asked for once a node; an exception of the function harms nothing."""
    asked: list[tuple[str, str]] = []

    def usual(workflow: str, node: str) -> float:
        asked.append((workflow, node))
        raise OSError

    drawn = Drawn(80, 24, usual=usual)
    for now in range(3):
        drawn.at(float(now), of(WorkflowStarted), *started("a"))
    assert asked == [("crackerjack", "a")]


def test_colors_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR rows are not painted."""
    monkeypatch.setenv("NO_COLOR", "1")
    drawn = Drawn(80, 24)
    drawn.region = LiveRegion()
    drawn.state.add(ended("a", status="failed"), 0.0)
    rows = [line for row in drawn.state.rows for line in row_lines(row, 0.0, drawn.look)]
    assert "\x1b[3" not in drawn.region.frame(rows, [], 80)
