"""``eventbus sessions``: the sessions of a log, the latest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import began, took
from eventbus.cli.session_access import AsJson, LogDirectory, opened_history
from eventbus.cli.session_json import figures_line
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable

__all__ = ["list_sessions", "sessions"]

_PIPE_WIDTH = 1_000
_MAX_NAME = 60


def sessions(
    directory: LogDirectory = None,
    limit: Annotated[int, typer.Option(min=0, help="How many; 0 for all.")] = 20,
    as_json: AsJson = False,
) -> Callable[[], int]:
    """List the sessions of a log, the latest first."""
    return partial(list_sessions, directory, limit, as_json)


def list_sessions(directory: Path | None, limit: int, as_json: bool) -> int:
    """Print sessions; return the exit code.

    Args:
        directory: Where the log lives; by default where the settings say.
        limit: How many; 0 for all.
        as_json: One JSON object a line, instead of a table.

    Raises:
        CommandError: There is no log, or it cannot be read.
    """
    with opened_history(directory) as history:
        found = islice(history.figures(), limit or None)
        if as_json:
            for session in found:
                print(figures_line(session))
        else:
            _print_table(found, history.count())
    return OK


def _print_table(found: Iterable[CorrelatedSession], count: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("session", no_wrap=True, overflow="ellipsis")
    table.add_column("began", no_wrap=True)
    for name in ("took", "skills", "runs", "nodes", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for session in found:
        table.add_row(*_cells(session))
    console = Console(highlight=False, markup=False)
    with console.capture() as captured:  # rich ends the program itself when the reader of a pipe has left
        console.print(table, width=None if console.is_terminal else _PIPE_WIDTH, crop=False)
        if table.row_count < count:
            left_out = f"{table.row_count} of {count} sessions; all of them: --limit 0"
            console.print(Text(left_out, style="dim"))
    print(captured.get(), end="")


def _cells(session: CorrelatedSession) -> list[Text]:
    failed = session.workflow_nodes_failed
    return [
        Text(printable(session.session_id, _MAX_NAME)),
        Text(began(session.start_time)),
        Text(took(session.start_time, session.end_time), style="yellow" if session.is_open else ""),
        Text(_of(session.skills_completed, session.skills)),
        Text(_of(session.workflows_ended, session.workflows)),
        Text(str(session.workflow_nodes_completed)),
        Text(str(failed), style="red" if failed else "dim"),
    ]


def _of(part: int, whole: int) -> str:
    return str(whole) if part == whole else f"{part}/{whole}"
