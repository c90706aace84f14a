"""Make a text safe to show: one line, printable characters only, bounded.

The texts of events come from outside, and terminals, log files and CI systems interpret them: escape
sequences move the cursor or fill the clipboard, a line feed forges a line, a bidirectional mark
reverses a name.
"""

from __future__ import annotations

from typing import Any

from eventbus.events.json_safe import json_safe
from eventbus.events.scrubbing import scrub

__all__ = ["MAX_SHOWN", "printable"]

MAX_SHOWN = 200
"""The default limit, in characters."""

_ELLIPSIS = "…"
_MIN_SCRUBBED = 4_096


def printable(value: Any, limit: int = MAX_SHOWN, *, scrubbed: bool = True) -> str:
    r"""Return a value as one line of printable characters, without secrets.

    Control, bidirectional and other invisible characters, line separators and lone surrogates are
    replaced by escapes such as ``\x1b`` and ``\u2028``. Never raises: of a foreign object only the
    name of its type is shown.

    Args:
        value: The value, usually a `str`.
        limit: The most characters to return; a longer text ends in an ellipsis.
        scrubbed: True to remove secrets, e-mail addresses and home directories, as `eventbus.scrub`
            does. Pass False for a session id, which must survive whatever it looks like.

    Returns:
        The text itself if it is printable, short and without secrets.
    """
    text = value if type(value) is str else str(json_safe(value))
    if scrubbed:
        text = scrub(text[: max(4 * limit, _MIN_SCRUBBED)])
    if len(text) <= limit and text.isprintable():
        return text
    # Cut before, so that escaping does not process megabytes, and after, since escaping lengthens.
    shown = "".join([char if char.isprintable() else _escape(char) for char in text[: limit + 1]])
    return shown if len(shown) <= limit else shown[: max(limit - 1, 0)] + _ELLIPSIS[:limit]


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
