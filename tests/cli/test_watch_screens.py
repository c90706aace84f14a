"""What `eventbus watch` draws, on terminals of several sizes that are emulated."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from eventbus.cli.full_screen import FullScreen
from eventbus.cli.watch import _Watching
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from eventbus.history import EventLog
from tests.cli.test_watch import RUN, log_of

pytest.importorskip("pyte", reason="SKIPPED: pyte is not installed: no terminal is emulated")
from tests.subscribers.terminals import Screen, TerminalStream

SIZES = [(120, 40), (80, 24), (60, 20), (39, 10), (15, 5)]
HOSTILE = "\x1b[2J\x9b31m‮n\r\n[bold]{{x}}名前" + "x" * 200
HOSTILE_RUN: dict[str, Any] = RUN | {"workflow_id": HOSTILE}
CANCELLED: dict[str, Any] = RUN | {"status": "cancelled", "success": False}
FOOTER = "q leaves; the session goes on"


def node(name: str, **fields: Any) -> list[Event]:
    end: dict[str, Any] = {"node_id": name, "duration_seconds": 1.5} | fields
    return [NodeStarted(**RUN, node_id=name), NodeCompleted(**RUN, **end)]


def hook(name: str, status: str) -> NodeProgress:
    details = {"hook": name, "status": status, "duration_seconds": 0.5}
    return NodeProgress(**RUN, node_id="fast_hooks", completed=1, total=2, metadata=details)


SCENES: dict[str, list[Event]] = {
    "good": [
        WorkflowStarted(**RUN, nodes=("lint",)), *node("lint"), WorkflowCompleted(**RUN, duration_seconds=2),
    ],
    "failing": [
        WorkflowStarted(**RUN, nodes=("configuration", "fast_hooks", "tests")),
        *node("configuration"), hook("codespell", "failed"), hook("mdformat", "passed"),
        *node("fast_hooks", success=False, error_type="RuntimeError"),
        WorkflowCompleted(**RUN, success=False, duration_seconds=3),
    ],
    "interrupted": [
        WorkflowStarted(**RUN, nodes=("lint",)), NodeStarted(**RUN, node_id="lint"),
        WorkflowCompleted(**CANCELLED, duration_seconds=2),
    ],
    "parallel": [
        WorkflowStarted(**RUN, nodes=("a", "b", "c", "d")), *node("a"),
        *(NodeStarted(**RUN, node_id=name) for name in "bcd"),
        NodeProgress(**RUN, node_id="c", completed=3, total=9, message="step"),
    ],
    "200 nodes": [
        WorkflowStarted(**RUN), *(event for n in range(199) for event in node(f"node_{n}")),
        NodeStarted(**RUN, node_id="the_one_that_runs"),
    ],
    "hostile names": [
        WorkflowStarted(**HOSTILE_RUN, nodes=(HOSTILE,)),
        *node(HOSTILE, success=False, error_type=HOSTILE, error_message=HOSTILE),
        WorkflowCompleted(**HOSTILE_RUN, success=False, duration_seconds=3),
    ],
}  # fmt: skip


def _stays(screen: FullScreen) -> bool:
    return False


def _small(screen: FullScreen) -> tuple[int, int]:
    return 30, 5


class Drawn:
    """A session on an emulated terminal."""

    def __init__(self, directory: Path, scene: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.size = (0, 0)
        self.stream = TerminalStream()
        monkeypatch.setattr(sys, "stdout", self.stream)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setattr(FullScreen, "size", self._size)
        monkeypatch.setattr(FullScreen, "wants_to_leave", _stays)
        options = {"fail_fast": False, "compact": False} | options
        self.watching = _Watching(EventLog(log_of(directory, *SCENES[scene])), "s1", **options)
        self.watching.load()
        if scene in ("parallel", "200 nodes"):  # its writer is not asked for
            assert self.watching._session is not None
            self.watching._session.view = type(self.watching._session.view).of(SCENES[scene])
            self.watching._figures = self.watching._session.figures()
        self.screen = Screen(80, 24)

    def _size(self) -> tuple[int, int]:
        return self.size

    def rows(self, columns: int, rows: int) -> list[str]:
        """Draw at a size, and return the rows."""
        self.size = columns, rows
        self.screen.resize(columns, rows)
        self.watching._draw(FullScreen())
        self.screen.feed("".join(self.stream.frames))
        self.stream.frames.clear()
        return self.screen.lines()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_fits_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: str, size: tuple[int, int]
) -> None:
    """A frame has no more rows and columns than the terminal; the verdict is first, how to leave last."""
    drawn = Drawn(tmp_path, scene, monkeypatch)
    rows = drawn.rows(*size)
    assert len(rows) <= size[1]
    assert all(len(row) <= size[0] for row in rows)
    assert rows[0][0] in "✓✗⊘▸"
    assert rows[-1] == FOOTER[: size[0]].rstrip()
    assert "\n".join(rows).replace("\n", "").isprintable()
    text = " ".join(" ".join(rows).split())
    if scene == "failing" and size[0] >= 39:
        assert "✗ fast_hooks" in text
        assert "codespell" in text
    if scene == "200 nodes" and size[0] >= 39:
        assert "the_one_that_runs" in text  # what runs comes before what is done
        assert rows[-3].endswith("more lines")
    if scene == "interrupted" and size[0] >= 39:
        assert "cancelled" in text


@pytest.mark.parametrize("scene", ["good", "failing", "interrupted", "hostile names"])
def test_a_resize_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: str) -> None:
    """After a change of the size a frame is what it would be on a terminal that always had that size."""
    drawn = Drawn(tmp_path, scene, monkeypatch)
    for size in [*SIZES, *reversed(SIZES)]:
        rows = drawn.rows(*size)
        drawn.screen = Screen(*size)
        drawn.watching._size = None
        assert drawn.rows(*size) == rows


def test_compact_leaves_out_what_went_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --compact only nodes that run, or did not succeed, are shown; the verdict counts all."""
    text = "\n".join(Drawn(tmp_path, "failing", monkeypatch, compact=True).rows(80, 24))
    assert "fast_hooks" in text
    assert "codespell" in text
    assert "1 of 3 nodes succeeded" in text
    assert "configuration" not in text
    assert "tests" not in text


def test_colors_are_those_of_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row looks as rich prints it, with pieces of several styles, gaps, wide characters and a cut."""
    stream = TerminalStream()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(FullScreen, "size", _small)
    rows = [
        Text.assemble("  1.5s  ", ("✗", "red"), " ", ("名前", "bold"), " end ", ("dim at the end", "dim")),
        Text("whole", "green"),
        Text(),
    ]
    FullScreen().draw([*rows], Text("footer", "dim"))
    screen = Screen(30, 5)
    screen.feed(stream.frames[-1])
    assert screen.lines() == ["  1.5s  ✗ 名前 end dim at the", "whole", "", "", "footer"]
    cells = screen._screen.buffer[0]
    assert (cells[8].fg, cells[10].bold, cells[0].fg) == ("red", True, "default")
    assert screen._screen.buffer[1][0].fg == "green"


def test_the_log_is_looked_at_once_for_each_frame(tmp_path: Path) -> None:
    """All records of a frame come by one look at the log: entering a scope for each was the cost of it."""
    looks, batch = 0, 20
    watching = _Watching(EventLog(log_of(tmp_path, *SCENES["good"])), "s1", fail_fast=False, compact=False)

    class Counted:
        async def poll(self) -> list[Any]:
            nonlocal looks
            looks += 1
            return [*EventLog(tmp_path).records()] * batch

    asyncio.run(watching._add_new(Counted(), None))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert looks == 1
