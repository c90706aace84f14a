"""The words, marks, styles and durations in which every screen reports a change: the one table of them.

The live progress, ``eventbus show``, ``eventbus watch`` and ``eventbus cat --format text`` take theirs from
here, so that a word that was read on one screen is found with grep in the output of another.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["OUTCOME_MARKS", "OUTCOME_STYLES", "OUTCOME_VERBS", "Word", "duration_text"]

_MINUTE, _HOUR = 60, 3_600


class Word(StrEnum):
    """The first word of a line that reports anything except the end of a node or a skill."""

    STARTED = "start"
    GOING = "still"
    ENDED = "end"
    OPEN = "open"
    LOST = "lost"
    WARNING = "warn"
    NOTE = "note"
    FOLLOWED = "then"
    LINKED = "join"
    OTHER = "event"


OUTCOME_VERBS: Final[dict[str, str]] = {
    "succeeded": "done",
    "failed": "FAIL",
    "cancelled": "cancel",
    "skipped": "skip",
}
"""The first word of the line for the end of a node or a skill, by its outcome."""

OUTCOME_MARKS: Final[dict[str, tuple[str, str]]] = {
    "succeeded": ("✓", "[ok]"),
    "failed": ("✗", "[FAIL]"),
    "cancelled": ("⊘", "[stop]"),
    "skipped": ("↷", "[skip]"),
    "open": ("▸", "[..]"),
    "unfinished": ("✗", "[gone]"),
    "not run": ("·", "[-]"),
}
"""The mark of each outcome; the second for terminals without UTF-8."""

OUTCOME_STYLES: Final[dict[str, str]] = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "open": "yellow",
    "unfinished": "red",
    "skipped": "dim",
    "not run": "dim",
}
"""How a terminal paints each outcome, in rich's words."""


def duration_text(seconds: float) -> str:
    """Return a duration such as ``0.2s``, ``1m05s`` or ``2h03m``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)}m{int(seconds % _MINUTE):02}s"
    return f"{int(seconds // _HOUR)}h{int(seconds % _HOUR // _MINUTE):02}m"
