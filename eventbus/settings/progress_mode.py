"""In which mode progress is shown: pure, so that every case is a row of a test's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from eventbus.settings.values import ProgressMode

__all__ = ["MIN_COLUMNS", "choose_mode"]

MODE_VARIABLE = "EVENTBUS_PROGRESS"
"""The environment variable that sets the mode, unless the program sets it."""

MIN_COLUMNS = 20
"""A narrower terminal gets plain lines."""


def choose_mode(
    flag: str | None, environ: Mapping[str, str], is_terminal: bool, columns: int
) -> ProgressMode:
    """Return the mode in which to show progress; pure.

    Args:
        flag: The mode the program or its user asked for; None or ``"auto"`` for the default.
        environ: The environment: ``EVENTBUS_PROGRESS``, ``CI`` and ``TERM`` matter, in this order. An
            unknown mode in the first counts as unset.
        is_terminal: Whether the stream is a terminal.
        columns: The width of the terminal.

    Returns:
        Any mode except ``"auto"``.

    Raises:
        ValueError: `flag` is not a mode, or ``"tty"`` was asked for by name and cannot be had: only
            ``"auto"`` falls back to plain lines.
    """
    modes: dict[str, ProgressMode] = {mode: mode for mode in get_args(ProgressMode)}
    if flag is not None and flag not in modes:
        raise ValueError(f"mode={flag!r} is not a mode. Pass one of {', '.join(modes)}")
    missing = _missing(environ, is_terminal, columns)
    for asked in (flag, environ.get(MODE_VARIABLE)):
        if asked == "tty" and missing:
            raise ValueError(f"progress cannot be shown as tty: {missing}. Ask for plain, or auto")
        if asked is not None and modes.get(asked, "auto") != "auto":
            return modes[asked]
    return "plain" if missing or environ.get("CI") else "tty"


def _missing(environ: Mapping[str, str], is_terminal: bool, columns: int) -> str:
    """Return what a live view lacks; nothing if it lacks nothing."""
    if not is_terminal:
        return "stderr is not a terminal"
    if environ.get("TERM") == "dumb":
        return "TERM is dumb"
    return f"the terminal has {columns} columns, fewer than {MIN_COLUMNS}" if columns < MIN_COLUMNS else ""
