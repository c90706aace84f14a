"""The screen of `eventbus stats`, at every width."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.cells import cell_len

from eventbus.cli.statistics_screen import attempt_lines, figures_of, latest_ends, statistics_lines
from eventbus.views.durations import Attempt, Subject

DAY = 86_400.0
NOON = 1_795_694_400.0  # 26 November 2026
EVIL = "\u202e\x1b[2J" + "\u8868" * 60
SUBJECTS = {
    Subject("run", "crackerjack"): 30.0,
    Subject("node", "crackerjack", "lint"): 0.5,
    Subject("node", "crackerjack", "tests"): 20.0,
    Subject("node", "crackerjack", EVIL): 3.0,
    Subject("run", "make"): 1.0,
    Subject("skill", "release"): 60.0,
    Subject("action", "release", "git commit"): 0.0,
}
FIGURES = [
    figures_of(
        subject,
        [
            Attempt(
                NOON - (28 - day) * DAY, seconds * (1.5 if day >= 22 and subject.node == "tests" else 1),
                "failed" if day == 27 and subject.node != "lint" else "succeeded", f"s{day}",
            )
            for day in range(28)
        ],
        NOON,
    )
    for subject, seconds in SUBJECTS.items()
]  # fmt: skip


def test_the_last_week_is_beside_the_one_before() -> None:
    """What became slower comes first, with how much and since when, then what failed."""
    lines = list(statistics_lines([each for each in FIGURES if each["node"] != EVIL]))
    assert lines == [
        "crackerjack   6 runs: 5 succeeded, 1 failed   before: 7, 7 succeeded",
        "  node   runs  failed  median    p90  4 weeks  change",
        "  tests     6       1   30.0s  30.0s  ▆▆▆▆▆▇█  +50 %  slower since 20 Nov",
        "  lint      6       0    0.5s   0.5s  ███████  =",
        "command  runs  failed  median   p90  4 weeks  change",
        "make        6       1    1.0s  1.0s  ███████  =",
        "skill release   5 of 6 completed, 1 abandoned; after it: git commit 6",
    ]


@pytest.mark.parametrize("columns", [200, 120, 80, 60, 39, 15])
@pytest.mark.parametrize("has_unicode", [True, False])
def test_no_line_is_as_wide_as_the_terminal(columns: int, has_unicode: bool) -> None:
    """Columns are left out where they do not fit, the name never; nothing unprintable is shown."""
    lines = list(statistics_lines(FIGURES, columns, has_unicode=has_unicode))
    assert max(map(cell_len, lines)) < columns
    assert all(line.isprintable() for line in lines)
    assert any(line.lstrip().startswith("tests") for line in lines)


TESTS, HOSTILE = Subject("node", "crackerjack", "tests"), Subject("node", EVIL, EVIL)
ENDS = {
    TESTS: [
        Attempt(NOON - n * DAY, 20.0 + n, "failed" if n == 1 else "succeeded", f"s{n}") for n in range(12)
    ],
    Subject("action", "release", "git commit"): [Attempt(NOON, None, "succeeded", "s")],
}


def test_the_latest_ends_of_a_node() -> None:
    """The last ten ends are shown, the latest first: when, how long, how, and in which session."""
    latest = latest_ends(ENDS)
    assert [each["session_id"] for each in latest] == [f"s{n}" for n in range(10)]
    now = datetime.fromtimestamp(NOON, UTC).astimezone()
    lines = list(attempt_lines(latest, 80, now, has_unicode=True))
    assert [line.split()[0] for line in lines[:2]] == ["today", "yesterday"]
    assert [line.split()[2:] for line in lines[:2]] == [
        ["20.0s", "✓", "succeeded", "s0"],
        ["21.0s", "✗", "failed", "s1"],
    ]


@pytest.mark.parametrize("columns", [200, 120, 80, 60, 39, 15])
@pytest.mark.parametrize("has_unicode", [True, False])
def test_no_end_is_as_wide_as_the_terminal(columns: int, has_unicode: bool) -> None:
    """Of several workflows each end says its own; nothing unprintable is shown, and nothing is too wide."""
    latest = latest_ends({**ENDS, HOSTILE: [Attempt(NOON, None, "cancelled", EVIL)]})
    lines = list(attempt_lines(latest, columns, None, has_unicode=has_unicode))
    assert max(map(cell_len, lines)) < columns
    assert all(line.isprintable() for line in lines)
    assert columns < 200 or "crackerjack tests" in lines[-1]
