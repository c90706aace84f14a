"""Make a text safe to show: one line, printable characters only, bounded.

What events carry comes from outside, and a terminal, a log file and a CI system all obey what they
are shown: escape sequences move the cursor or fill the clipboard, a line feed forges a line, a
bidirectional mark turns a name around.
"""

from __future__ import annotations

from typing import Any

from eventbus.events.json_safe import json_safe
from eventbus.events.scrubbing import scrub

__all__ = ["MAX_SHOWN", "printable"]

MAX_SHOWN = 200
"""A longer text is cut where it is shown, unless the caller says otherwise."""

_CUT = "…"
_SEARCHED_AT_LEAST = 4_096


def printable(value: Any, limit: int = MAX_SHOWN, *, scrubbed: bool = True) -> str:
    r"""Return a value as one line of printable characters, without secrets.

    Control, bidirectional and other invisible characters, line separators and lone surrogates are
    shown as escapes such as ``\x1b`` and ``\u2028``. Never raises for what the value is: of a
    foreign object only the name of its type is shown.

    Args:
        value: What to show, usually a `str`.
        limit: The most characters to return; a longer text ends in an ellipsis.
        scrubbed: Whether to take out secrets, e-mail addresses and home directories, as
            `eventbus.scrub` does. Not for a session's id: it must survive, whatever it looks like.

    Returns:
        The text itself if it is printable, short enough and harmless.
    """
    text = _text(value)
    if scrubbed:
        text = scrub(text[: max(4 * limit, _SEARCHED_AT_LEAST)])
    if len(text) <= limit and text.isprintable():
        return text
    # Cut before and after: escaping must not be made to work through megabytes, and lengthens.
    shown = "".join([char if char.isprintable() else _escape(char) for char in text[: limit + 1]])
    return shown if len(shown) <= limit else shown[: max(limit - 1, 0)] + _CUT[:limit]


def _text(value: Any) -> str:
    return value if value.__class__ is str else str(json_safe(value))


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
