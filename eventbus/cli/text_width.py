"""How many columns of a terminal a text takes, without rich where that is certain."""

from __future__ import annotations

from eventbus.events.words import OUTCOME_MARKS

__all__ = ["cell_len", "cut"]

_OURS = dict.fromkeys(map(ord, "".join(mark for mark, _ in OUTCOME_MARKS.values()) + "▁▂▃▄▅▆▇█…·"))
"""The characters beyond ASCII that our screens draw; each takes one column."""


def cell_len(text: str) -> int:
    """Return how many columns a printable text takes."""
    if text.isascii() or text.translate(_OURS).isascii():
        return len(text)
    from rich.cells import cell_len as length  # noqa: PLC0415 - for names in other scripts

    return length(text)


def cut(text: str, columns: int) -> str:
    """Return as much of a printable text as these columns can show."""
    if cell_len(text) <= columns:
        return text
    from rich.cells import set_cell_size  # noqa: PLC0415 - for texts that do not fit

    return set_cell_size(text, max(columns, 0))
