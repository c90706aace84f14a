"""Columns of texts."""

from __future__ import annotations

import pytest
from rich.cells import cell_len as columns_by_rich

from eventbus.cli.text_width import cell_len, cut
from eventbus.events.words import OUTCOME_MARKS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "é",
        "表",
        "e\N{COMBINING ACUTE ACCENT}",
        "✓ 表",
        "a…b · c",
        "▁▂▃▄▅▆▇█",
        *(mark for mark, _ in OUTCOME_MARKS.values()),
    ],
)
def test_columns_are_richs(text: str) -> None:
    """A text takes the columns that rich counts, our marks and bars included."""
    assert cell_len(text) == columns_by_rich(text)


@pytest.mark.parametrize("columns", range(8))
def test_a_text_is_cut(columns: int) -> None:
    """A text that is too wide is cut to the columns there are, a shorter one is left as it is."""
    assert cut("表abc表", columns) == ["", " ", "表", "表a", "表ab", "表abc", "表abc ", "表abc表"][columns]
    assert cut("✓", columns) == "✓"[:columns]
