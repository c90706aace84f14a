"""``eventbus report``: print the correlation report, or write a page about one session."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import OK
from eventbus.cli.extras import from_extra
from eventbus.cli.humanize import loss
from eventbus.cli.options import AsJson, LogDirectory, OneSession, Remote
from eventbus.cli.output_file import write_output
from eventbus.cli.session_access import chosen_session, open_history
from eventbus.cli.session_json import session_line
from eventbus.correlation.session_report import report_lines
from eventbus.history.session_history import SessionHistory
from eventbus.views import SessionView

__all__ = ["report"]


def report(
    session: OneSession = None,
    directory: LogDirectory = None,
    remote: Remote = False,
    as_json: AsJson = False,
    page: Annotated[
        Path | None,
        Option("--html", type=Path, metavar="FILE", help="Write a page about SESSION, or about the latest."),
    ] = None,
) -> int:
    """Print the correlation report, the latest session first."""
    with open_history(directory, remote=remote, session=session) as history:
        if page is None:
            _print(history, session, as_json=as_json)
        else:
            _write_page(history, session, page)
    return OK


def _print(history: SessionHistory, name: str | None, *, as_json: bool) -> None:
    if name is None:
        sessions, count = history.figures(), history.count()
    else:
        sessions, count = iter([chosen_session(history, name)]), 1
    notes = [loss(lost, as_sentence=True)] if (lost := history.events_lost()) else []
    for line in map(session_line, sessions) if as_json else report_lines(sessions, notes, count=count):
        print(line)


def _write_page(history: SessionHistory, name: str | None, file: Path) -> None:
    with from_extra("html", "jinja2", "markupsafe", wanted_by="a page"):
        from eventbus.cli.session_page import session_page  # noqa: PLC0415 - jinja2 is an extra
    figures = chosen_session(history, name)
    events = history.events(figures.session_id)
    view = SessionView.of(events, figures)
    write_output(file, [session_page(view, figures, events).encode()])
