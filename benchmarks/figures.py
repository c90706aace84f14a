"""Write the tables of docs/performance.md from what a run measured.

The tables of one Python stand between two comments of the page. A run replaces the rows that it measured,
so that `--only` measures one of them again, and removes rows of targets that are gone.
"""

from __future__ import annotations

import math
import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from benchmarks.rounds import Measured, quantile
from benchmarks.targets import TARGETS, Outcome, Target, outcome_of

__all__ = ["PAGE", "reach", "rows_of", "section_of", "with_figures", "write_table"]

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_TARGETS_HEAD = (
    "| measured / compared with | reach | wall time: median (q1 to q3) | processor time | |",
    "|---|---|---|---|---|",
)
_TIMES_HEAD = ("| absolute times, medians | wall (processor) |", "|---|---|")
_WALL, _PROCESSOR = ", wall time", ", processor time"

_REAL = "Real traffic: classes in turn, new text, bursts, contended threads"
_SECTIONS = {
    "One class of events with ten known names": (
        "publish",
        "build and publish",
        "end to end",
        "store events",
    ),
    "Observing": ("Oneiric",),
    "The program, and a stored history": ("start", "commands", "import", "correlate", "report"),
}
"""The beginnings of the contests' names by section; all others are real traffic, which comes first."""


def section_of(contest: str) -> str:
    """Return the section of the table that a contest belongs to."""
    return next((name for name, begins in _SECTIONS.items() if contest.startswith(begins)), _REAL)


def write_table(measured: Iterable[Measured], outcomes: Iterable[Outcome]) -> None:
    """Write the figures of a run into the page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_figures(text, list(measured), list(outcomes)), encoding="utf-8")


def with_figures(text: str, measured: list[Measured], outcomes: list[Outcome]) -> str:
    """Return the page with the figures of a run, in the place of this Python.

    Raises:
        ValueError: The page has no place for this Python.
    """
    block = _block()
    found = block.search(text)
    if found is None:
        raise ValueError(f"{PAGE.name} has no place for the figures of CPython {_version()}")
    by_name = {each.name: each for each in measured}
    rows = rows_of(found[2]) | {each.target.name: _target_row(each, by_name) for each in outcomes}
    rows |= {f"{each.name}, {each.unit}": _times_row(each) for each in measured}
    return text[: found.start(2)] + _tables(rows) + text[found.end(2) :]


def rows_of(tables: str) -> dict[str, str]:
    """Return the rows of tables by the text of their first cell."""
    lines = [line for line in tables.splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines}


def reach(target: Target) -> str:
    """Return a target's goal as it stands in the table."""
    return f"{target.goal:,.2f}".rstrip("0").rstrip(".")


def _version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _block() -> re.Pattern[str]:
    version = re.escape(_version())
    return re.compile(rf"(<!-- figures of CPython {version} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def _tables(rows: Mapping[str, str]) -> str:
    lines = ["", f"{_machine()}:", "", *_TARGETS_HEAD]
    for section in (_REAL, *_SECTIONS):
        of_section = [each.name for each in TARGETS if section_of(each.contest) == section]
        found = [rows[name] for name in of_section if name in rows]
        lines += [f"| **{section}** | | | | |", *found] if found else []
    columns = _TIMES_HEAD[0].count("|")
    times = [row for row in rows.values() if row.count("|") == columns and row != _TIMES_HEAD[0]]
    return "\n".join([*lines, "", *_TIMES_HEAD, *times, ""])


def _machine() -> str:
    today = date.today().isoformat()  # noqa: DTZ011 - the day where it was measured
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"CPython {platform.python_version()}, {machine}, {today}"


def _target_row(outcome: Outcome, measured: Mapping[str, Measured]) -> str:
    target = outcome.target
    wall, processor = _both(target, measured)
    cells = (target.name, reach(target), wall, processor, _verdict(outcome))
    return f"| {' | '.join(cells)} |"


def _both(target: Target, measured: Mapping[str, Measured]) -> tuple[str, str]:
    """Return the figures of both clocks, each `-` where it was not measured."""
    own = measured[target.contest]
    if target.contest.endswith(_PROCESSOR):
        twin = measured.get(target.contest.removesuffix(_PROCESSOR) + _WALL)
        return "-" if twin is None else _wall(target, twin), _short(outcome_of(target, own).figure)
    twin = measured.get(target.contest.removesuffix(_WALL) + _PROCESSOR)
    if twin is not None:
        return _wall(target, own), _short(outcome_of(target, twin).figure)
    return _wall(target, own), _processor(target, own)


def _wall(target: Target, measured: Measured) -> str:
    outcome = outcome_of(target, measured)
    low, high = outcome.middle_half
    spread = f" ({_short(low)} to {_short(high)})" if len(measured.entries[target.entry]) > 1 else ""
    return _short(outcome.figure) + spread


def _processor(target: Target, measured: Measured) -> str:
    times = measured.processor_times(target.entry)
    if target.baseline is None:
        return _short(quantile(times, target.share)) if times else "-"
    theirs = measured.processor_times(target.baseline)
    ratios = [ours / other for ours, other in zip(times, theirs, strict=False)]
    return _short(statistics.median(ratios)) if ratios else "-"


def _verdict(outcome: Outcome) -> str:
    over = outcome.figure / outcome.target.goal - 1
    if over <= 0:
        return "met"
    return f"**missed** by {over:.0%}" if over < 1 else f"**missed**, {over + 1:.1f} times"


def _times_row(measured: Measured) -> str:
    entries = " · ".join(f"{entry} {_time_of(measured, entry)}" for entry in measured.entries)
    return f"| {measured.name}, {measured.unit} | {entries} |"


def _time_of(measured: Measured, entry: str) -> str:
    times = measured.processor_times(entry)
    processor = f" ({_short(statistics.median(times))})" if times else ""
    return f"**{_short(statistics.median(measured.medians(entry)))}**{processor}"


def _short(figure: float) -> str:
    """Return a figure with three digits."""
    if not math.isfinite(figure) or not figure:
        return str(figure)
    places = max(0, 2 - math.floor(math.log10(abs(figure))))
    return f"{figure:,.{min(places, 3)}f}"
