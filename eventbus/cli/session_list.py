"""``eventbus sessions``: list the sessions of a log, the latest first."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated

from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import OUTCOME_STYLES, elapsed, local_time
from eventbus.cli.options import AsJson, LogDirectory, Remote, count
from eventbus.cli.session_access import open_history
from eventbus.cli.session_json import session_line
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable
from eventbus.ground.session_names import spell

__all__ = ["sessions"]

_MAX_NAME = 60  # on a terminal
_MIN_NAME = 8
_MAX_STYLED = 200  # rows: rich takes a millisecond for each
_GAP = 2
_COLUMNS: tuple[str, ...] = ("session", "began", "took", "skills", "runs", "nodes", "failed", "outcome")
_LEFT = ("session", "began", "outcome")
_FIRST_TO_GO = ("skills", "nodes", "runs", "failed", "took", "began", "session")
_Row = dict[str, str]
_Line = list[tuple[str, str]]
"""Texts, each with its style."""


def sessions(
    directory: LogDirectory = None,
    remote: Remote = False,
    limit: Annotated[
        int,
        Option(
            type=count, metavar="N", help="Number of sessions to list; 0 lists all (default: %(default)s)."
        ),
    ] = 20,
    as_json: AsJson = False,
) -> int:
    """List the sessions of the log, the latest first."""
    with open_history(directory, remote=remote) as history:
        listed = islice(history.figures(), limit or None)
        if as_json:
            for session in listed:
                print(session_line(session))
        else:
            _print_table(listed, history.count())
    return OK


def _print_table(listed: Iterable[CorrelatedSession], count: int) -> None:
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else sys.maxsize
    rows = [_row(session, _MAX_NAME if is_terminal else sys.maxsize) for session in listed]
    lines = list(_lines(rows, width))
    if len(rows) < count:
        lines.append([(f"{len(rows)} of {count} sessions; --limit 0 lists all", "dim")])
    is_styled = len(rows) <= _MAX_STYLED and (is_terminal or "FORCE_COLOR" in os.environ)
    text_of = _styled if is_styled else _plain
    print("\n".join(map(text_of, lines)))


def _plain(line: _Line) -> str:
    return "".join([text for text, _ in line])


def _styled(line: _Line) -> str:
    from rich.console import Console  # noqa: PLC0415 - a third of the command's start, for a pipe in vain
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    with console.capture() as captured:  # printing itself, rich would exit on a broken pipe
        console.print(Text.assemble(*line), soft_wrap=True, end="")
    return captured.get()


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


def _lines(rows: Sequence[_Row], width: int) -> Iterator[_Line]:
    """Yield the lines of a table; columns that do not fit are left out, the outcome never."""
    table: list[_Row] = [{name: name for name in _COLUMNS}, *rows]
    widths = {name: max([_cell_len(row[name]) for row in table]) for name in _COLUMNS}
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
        yield _line(row, widths, is_header=number == 0)


def _line(row: _Row, widths: dict[str, int], *, is_header: bool) -> _Line:
    *others, outcome = [_cell(name, row[name], size) for name, size in widths.items()]
    before = "".join([cell + " " * _GAP for cell in others])
    if is_header:
        return [(before + outcome, "bold")]
    return [(before, ""), (outcome, OUTCOME_STYLES.get(outcome, ""))]


def _cell(name: str, text: str, size: int) -> str:
    length = _cell_len(text)
    if length > size:
        from rich.cells import set_cell_size  # noqa: PLC0415 - for names that do not fit

        text, length = set_cell_size(text, size - 1) + "…", size
    if name == "outcome":
        return text
    padding = " " * (size - length)
    return text + padding if name in _LEFT else padding + text


def _cell_len(text: str) -> int:
    if text.isascii():  # and printable
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - for names in other scripts

    return cell_len(text)


def _fraction(part: int, whole: int) -> str:
    return str(whole) if part == whole else f"{part}/{whole}"
