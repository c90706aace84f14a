"""``eventbus sessions``: list the sessions of a log, the latest first."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Annotated

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import elapsed, local_time
from eventbus.cli.options import AsJson, LogDirectory
from eventbus.cli.session_access import open_history
from eventbus.cli.session_json import session_line
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable
from eventbus.session_names import spell

__all__ = ["sessions"]

_MAX_NAME = 60  # on a terminal
_MIN_NAME = 8
_GAP = 2
_COLUMNS: tuple[str, ...] = ("session", "began", "took", "skills", "runs", "nodes", "failed", "outcome")
_LEFT = ("session", "began", "outcome")
_FIRST_TO_GO = ("skills", "nodes", "runs", "failed", "took", "began", "session")
_STYLES: dict[str, str] = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "skipped": "dim",
    "open": "yellow",
    "unfinished": "red",
}
_Row = dict[str, str]


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
    console = Console(highlight=False, markup=False)
    is_terminal = sys.stdout.isatty()  # rich takes a pipe for one if colors are forced
    width = console.width if is_terminal else sys.maxsize
    rows = [_row(session, _MAX_NAME if is_terminal else sys.maxsize) for session in listed]
    with console.capture() as captured:  # printing itself, rich would exit on a broken pipe
        for line in _lines(rows, width):
            console.print(line, soft_wrap=True)
        if len(rows) < count:
            note = f"{len(rows)} of {count} sessions; --limit 0 lists all"
            console.print(Text(note, style="dim"), soft_wrap=True)
    print(captured.get(), end="")


def _row(session: CorrelatedSession, max_name: int) -> _Row:
    # Of a run without nodes, or whose nodes succeeded, the run itself is what failed.
    failed = session.workflow_nodes_failed or session.workflows_failed + session.skills_failed
    took = elapsed(session.start_time, session.end_time)
    return {
        "session": printable(spell(session.session_id), max_name),
        "began": local_time(session.start_time),
        "took": "-" if session.is_unfinished else took,
        "skills": _fraction(session.skills_completed, session.skills),
        "runs": _fraction(session.workflows_ended, session.workflows),
        "nodes": str(session.workflow_nodes_completed),
        "failed": str(failed),
        "outcome": session.outcome,
    }


def _lines(rows: Sequence[_Row], width: int) -> Iterable[Text]:
    """Return the lines of a table; columns that do not fit are left out, the outcome never."""
    table: list[_Row] = [{name: name for name in _COLUMNS}, *rows]
    widths = {name: max(cell_len(row[name]) for row in table) for name in _COLUMNS}
    for name in _FIRST_TO_GO:
        others = sum(widths.values()) - widths["session"] + _GAP * (len(widths) - 1)
        # A name is shortened, but not to nothing, before a column goes.
        room = max(width - others, min(widths["session"], _MIN_NAME))
        if others + room <= width:
            widths["session"] = min(widths["session"], room)
            break
        del widths[name]
        if name == "session":
            break
    for number, row in enumerate(table):
        cells = [_cell(name, row[name], size, is_header=number == 0) for name, size in widths.items()]
        yield Text(" " * _GAP).join(cells)


def _cell(name: str, text: str, size: int, *, is_header: bool) -> Text:
    if cell_len(text) > size:
        text = set_cell_size(text, size - 1) + "…"
    padding = " " * (size - cell_len(text))
    if name == "outcome":
        return Text(text, style="bold" if is_header else _STYLES.get(text, ""))
    return Text(text + padding if name in _LEFT else padding + text, style="bold" if is_header else "")


def _fraction(part: int, whole: int) -> str:
    return str(whole) if part == whole else f"{part}/{whole}"
