"""``eventbus sessions``: list the sessions of a log, the latest first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import elapsed, local_time
from eventbus.cli.options import AsJson, LogDirectory
from eventbus.cli.session_access import open_history
from eventbus.cli.session_json import session_line
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable

__all__ = ["sessions"]

_PIPE_WIDTH = 1_000
_MAX_NAME = 60


def sessions(
    directory: LogDirectory = None,
    limit: Annotated[int, typer.Option(min=0, help="Number of sessions to list; 0 lists all.")] = 20,
    as_json: AsJson = False,
) -> int:
    """List the sessions of the log, the latest first."""
    with open_history(directory) as history:
        listed = islice(history.figures(), limit or None)
        if as_json:
            for session in listed:
                print(session_line(session))
        else:
            _print_table(listed, history.count())
    return OK


def _print_table(listed: Iterable[CorrelatedSession], count: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("session", no_wrap=True, overflow="ellipsis")
    table.add_column("began", no_wrap=True)
    for name in ("took", "skills", "runs", "nodes", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for session in listed:
        table.add_row(*_cells(session))
    console = Console(highlight=False, markup=False)
    with console.capture() as captured:  # printing itself, rich would exit on a broken pipe
        console.print(table, width=None if console.is_terminal else _PIPE_WIDTH, crop=False)
        if table.row_count < count:
            note = f"{table.row_count} of {count} sessions; --limit 0 lists all"
            console.print(Text(note, style="dim"))
    print(captured.get(), end="")


def _cells(session: CorrelatedSession) -> list[Text]:
    failed = session.workflow_nodes_failed
    return [
        Text(printable(session.session_id, _MAX_NAME)),
        Text(local_time(session.start_time)),
        Text(elapsed(session.start_time, session.end_time), style="yellow" if session.is_open else ""),
        Text(_fraction(session.skills_completed, session.skills)),
        Text(_fraction(session.workflows_ended, session.workflows)),
        Text(str(session.workflow_nodes_completed)),
        Text(str(failed), style="red" if failed else "dim"),
    ]


def _fraction(part: int, whole: int) -> str:
    return str(whole) if part == whole else f"{part}/{whole}"
