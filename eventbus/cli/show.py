"""``eventbus show``: print one session, its verdict first."""

from __future__ import annotations

import shlex
from typing import Annotated

from eventbus.cli.arguments import Argument, Option
from eventbus.cli.exit_codes import OK
from eventbus.cli.options import AsJson, LogDirectory, Remote
from eventbus.cli.screen_output import print_lines, stdout_look
from eventbus.cli.session_access import chosen_session, open_history, usual_before
from eventbus.cli.session_screen import session_lines
from eventbus.cli.timeline import timeline
from eventbus.events import encode
from eventbus.ground.session_names import name_of_argument
from eventbus.history.session_history import SessionHistory
from eventbus.views import SessionView

__all__ = ["show"]

_SHORT = 8
"""How many characters of a session's id are shown in a command, if no other session begins so."""


def show(
    session: Annotated[
        str | None,
        Argument(
            type=name_of_argument,
            metavar="SESSION",
            help="A session id, or the beginning of one. Default: the latest.",
        ),
    ] = None,
    directory: LogDirectory = None,
    remote: Remote = False,
    list_events: Annotated[bool, Option("--events", help="List its events, one a line.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show one session: what ran, how long, and what failed."""
    with open_history(directory, remote=remote, session=session) as history:
        figures = chosen_session(history, session)
        name, events = figures.session_id, history.events(figures.session_id)
        if as_json:
            for event in events:
                print(encode(event).decode())
        elif list_events:
            for line in timeline(figures, events):
                print(line)
        else:
            view = SessionView.of(events, figures)
            usual_of = usual_before(history, figures)
            print_lines(session_lines(view, figures, stdout_look(), usual_of), _next_steps(history, name))
    return OK


def _next_steps(history: SessionHistory, name: str) -> str:
    """Return a command that works as typed; nothing for a session whose id cannot be typed."""
    short = name[:_SHORT] if len(history.names(name[:_SHORT], 2)) == 1 else name
    return f"  eventbus show {shlex.quote(short)} --events" if short.isprintable() else ""
