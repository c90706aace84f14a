"""``eventbus report``: print the correlation report."""

from __future__ import annotations

from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import loss
from eventbus.cli.options import AsJson, LogDirectory, OneSession
from eventbus.cli.session_access import find_session, open_history
from eventbus.cli.session_json import session_line
from eventbus.correlation.session_report import report_lines

__all__ = ["report"]


def report(session: OneSession = None, directory: LogDirectory = None, as_json: AsJson = False) -> int:
    """Print the correlation report, the latest session first."""
    with open_history(directory) as history:
        if session is None:
            sessions, count = history.figures(), history.count()
        else:
            found = history.figures_of(find_session(history, session))
            sessions, count = iter([found] if found else []), 1
        notes = [loss(lost, as_sentence=True)] if (lost := history.events_lost()) else []
        for line in map(session_line, sessions) if as_json else report_lines(sessions, notes, count=count):
            print(line)
    return OK
