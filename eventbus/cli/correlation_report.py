"""``eventbus report``: what skills and workflows did together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from eventbus.cli.exit_codes import OK
from eventbus.cli.session_access import AsJson, LogDirectory, OneSession, find_session, opened_history
from eventbus.cli.session_json import figures_line
from eventbus.correlation.correlated_session import report_lines

__all__ = ["print_report", "report"]


def report(
    session: OneSession = None, directory: LogDirectory = None, as_json: AsJson = False
) -> Callable[[], int]:
    """Tell what skills and workflows did together, by session, the latest first."""
    return partial(print_report, directory, session, as_json)


def print_report(directory: Path | None, name: str | None, as_json: bool) -> int:
    """Print the correlation report; return the exit code.

    Args:
        directory: Where the log lives; by default where the settings say.
        name: A session, or the beginning of its name; None for all.
        as_json: The figures of each session, one JSON object a line.

    Raises:
        CommandError: There is no log, or no such session, or there are several.
    """
    with opened_history(directory) as history:
        if name is None:
            sessions, count = history.figures(), history.count()
        else:
            session = history.figures_of(find_session(history, name))
            sessions, count = iter([session] if session else []), 1
        for line in map(figures_line, sessions) if as_json else report_lines(sessions, count=count):
            print(line)
    return OK
