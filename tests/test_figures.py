"""The tables of docs/performance.md, which the benchmarks write."""

from __future__ import annotations

import platform
import re

import pytest

from benchmarks.__main__ import CONTESTS
from benchmarks.figures import PAGE, reach, rows_of, section_of, with_figures
from benchmarks.rounds import Measured, Samples, Timing
from benchmarks.targets import TARGETS, Target, judge

BLOCK = re.compile(r"<!-- figures of CPython (.*?) -->\n(.*?)<!-- end -->", re.DOTALL)
PAGE_TEXT = PAGE.read_text("utf-8")
HERE = ".".join(platform.python_version_tuple()[:2])
EMPTY = f"before\n<!-- figures of CPython {HERE} -->\n<!-- end -->\nafter\n"


def figures(text: str = PAGE_TEXT) -> dict[str, list[str]]:
    """Return the cells of each row of figures by the first."""
    rows = [row for _, tables in BLOCK.findall(text) for row in rows_of(tables).values()]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {name: others for name, *others in cells if not name.startswith(("**", "measured", "absolute"))}


def test_each_reach_of_the_page_is_the_one_of_its_target() -> None:
    """A row with a reach is of a target, and its reach is the target's."""
    goals = {each.name: reach(each) for each in TARGETS}
    stated = {name: cells[0] for name, cells in figures().items() if len(cells) == 4}
    assert stated == {name: goals.get(name) for name in stated}


def test_each_contest_of_the_page_exists() -> None:
    """A row of absolute times is of a contest that is measured."""
    contests = {f"{each.name}, {each.unit}" for each in CONTESTS}
    listed = {name for name, cells in figures().items() if len(cells) == 1 and not name.startswith("Oneiric")}
    assert listed <= contests


def test_the_page_has_a_place_for_each_python() -> None:
    """There are tables for the oldest supported Python, and for a newer one."""
    assert [version for version, _ in BLOCK.findall(PAGE_TEXT)] == ["3.11", "3.13"]


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be one target of real traffic, and one of publishing."""
    goals = [
        Target("publishing", "publish to 3", "ours", 1.5, "theirs"),
        Target("two classes in turn", "classes in turn", "ours", 2.0, "theirs"),
    ]
    monkeypatch.setattr("benchmarks.figures.TARGETS", goals)
    monkeypatch.setattr("benchmarks.targets.TARGETS", goals)


def written(text: str, contest: str, ours: float, theirs: float) -> str:
    """Return a page with the figures of a run of one contest, whose processor time is half its wall time."""
    entries = {"ours": ours, "theirs": theirs}
    rounds: dict[str, list[Samples]] = {
        name: [(Timing(time, time / 2),)] * 3 for name, time in entries.items()
    }
    measured = [Measured(contest, "ns", rounds)]
    return with_figures(text, measured, judge(measured))


@pytest.mark.usefixtures("targets")
def test_a_run_replaces_the_rows_that_it_measured() -> None:
    """A row has the reach, both times and the verdict; rows that were not measured stay as they are."""
    once = written(EMPTY, "publish to 3", 300, 200)
    twice = written(once, "classes in turn", 5_000, 1_000)
    assert figures(written(once, "publish to 3", 200, 200))["publishing"][1] == "1.00 (1.00 to 1.00)"
    assert figures(twice) == {
        "publishing": ["1.5", "1.50 (1.50 to 1.50)", "1.50", "met"],
        "two classes in turn": ["2", "5.00 (5.00 to 5.00)", "5.00", "**missed**, 2.5 times"],
        "publish to 3, ns": ["ours **300** (150) · theirs **200** (100)"],
        "classes in turn, ns": ["ours **5,000** (2,500) · theirs **1,000** (500)"],
    }
    assert twice.startswith("before\n")
    assert twice.endswith("<!-- end -->\nafter\n")


@pytest.mark.usefixtures("targets")
def test_real_traffic_leads() -> None:
    """Targets of real traffic stand before those of one class, whatever their order in the code is."""
    text = written(written(EMPTY, "publish to 3", 3, 2), "classes in turn", 3, 2)
    assert list(figures(text))[:2] == ["two classes in turn", "publishing"]
    assert section_of("classes in turn") != section_of("publish to 3")


@pytest.mark.usefixtures("targets")
def test_the_row_of_a_target_that_is_gone_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a target was removed or renamed, the next run removes its row."""
    text = written(EMPTY, "publish to 3", 3, 2)
    monkeypatch.setattr("benchmarks.figures.TARGETS", TARGETS[:0])
    assert "publishing" not in figures(written(text, "classes in turn", 3, 2))


def test_a_python_without_a_place_is_an_error() -> None:
    """The error names the Python for which the page has no place."""
    with pytest.raises(ValueError, match=f"no place for the figures of CPython {re.escape(HERE)}"):
        with_figures("nothing", [], [])
