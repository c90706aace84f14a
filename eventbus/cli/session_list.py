"""``eventbus sessions``: list the sessions of a log, the latest first."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice, takewhile
from typing import Annotated

from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import OK
from eventbus.cli.humanize import duration, quantity, when
from eventbus.cli.options import AsJson, LogDirectory, Remote, count, parse_time
from eventbus.cli.session_access import open_history
from eventbus.cli.session_json import session_line
from eventbus.cli.terminal import shows_unicode
from eventbus.cli.text_width import cell_len, cut
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable
from eventbus.events.words import OUTCOME_MARKS, OUTCOME_STYLES
from eventbus.ground.session_names import spell
from eventbus.history.session_history import SessionHistory
from eventbus.views.durations import Durations, Subject, Usual

__all__ = ["sessions"]

_MAX_NAME = 30  # on a terminal
_MIN_NAME = 8
_MAX_STYLED = 200  # rows: rich takes a millisecond for each
_GAP = 2
_COLUMNS: tuple[str, ...] = ("mark", "session", "when", "what", "result", "took", "usual", "skill")
_RIGHT = ("took",)
_FIRST_TO_GO = ("skill", "usual", "when", "took", "what", "session")
_MARK = "mark"
_FAILED = ("failed", "unfinished")
_Row = dict[str, str]
_Line = list[tuple[str, str]]
"""Texts, each with its style."""


def sessions(  # noqa: PLR0917 - its options
    directory: LogDirectory = None,
    remote: Remote = False,
    failed: Annotated[bool, Option(help="List only those that failed, or never ended.")] = False,
    since: Annotated[
        datetime | None,
        Option(type=parse_time, metavar="TIME", help="Leave out what began before: a time, or 90m, 24h, 7d."),
    ] = None,
    workflow: Annotated[
        str | None, Option(metavar="NAME", help="List only sessions with a run of this workflow.")
    ] = None,
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
        first = since.timestamp() if since else -math.inf
        chosen = takewhile(lambda each: _time(each) >= first, history.figures())
        listed = (
            each
            for each in chosen
            if (not failed or each.outcome in _FAILED) and (workflow is None or workflow in each.workflow_ids)
        )
        compared = _compared(islice(listed, limit or None), history)
        if as_json:
            for session, usual in compared:
                print(session_line(session, **_comparison(session, usual)))
        else:
            more = {"--failed": failed, "--since 7d": since, "--limit 0": not limit}
            _print_table(compared, history.count(), [each for each, is_given in more.items() if not is_given])
    return OK


def _compared(
    listed: Iterable[CorrelatedSession], history: SessionHistory
) -> Iterator[tuple[CorrelatedSession, Usual | None]]:
    """Yield each session with what was usual before for its run, if it has one run."""
    known: dict[str, Durations] = {}
    for session in listed:
        if session.workflows != 1 or len(session.workflow_ids) != 1:
            yield session, None
            continue
        (name,) = session.workflow_ids
        if name not in known:
            known[name] = history.durations(Subject("run", name))
        yield session, known[name].usual(_time(session))


def _time(session: CorrelatedSession) -> float:
    return datetime.fromisoformat(session.start_time).timestamp()


def _took(session: CorrelatedSession) -> float | None:
    """Return how long the only run took, otherwise the time between start and end; None without an end."""
    if session.workflows == session.workflows_ended == 1 and session.total_workflow_duration:
        return session.total_workflow_duration
    if session.end_time is None:
        return None
    return datetime.fromisoformat(session.end_time).timestamp() - _time(session)


def _excess(session: CorrelatedSession, usual: Usual | None) -> float | None:
    return None if usual is None else usual.excess(_took(session))


def _comparison(session: CorrelatedSession, usual: Usual | None) -> dict[str, float | None]:
    return {"usual": None if usual is None else usual.seconds, "slower": _excess(session, usual)}


def _print_table(
    compared: Iterable[tuple[CorrelatedSession, Usual | None]], count: int, more: list[str]
) -> None:
    is_terminal = sys.stdout.isatty()
    has_unicode = shows_unicode(sys.stdout)
    # A full row would wrap.
    width = max(1, shutil.get_terminal_size().columns - 1) if is_terminal else sys.maxsize
    now = datetime.now().astimezone() if is_terminal else None
    rows: list[_Row] = []
    outcomes: list[str] = []
    for session, usual in compared:
        rows.append(_row(session, usual, _MAX_NAME if is_terminal else sys.maxsize, now, has_unicode))
        outcomes.append(session.outcome)
    lines = list(_lines(rows, outcomes, width, "…" if has_unicode else "~"))
    failed = sum(outcome in _FAILED for outcome in outcomes)
    parts = [f"{len(rows):,} of {quantity(count, 'session')}", f"{failed} failed"]
    if len(rows) < count and more:
        parts.append(f"more: {'  '.join(more)}")
    lines += [[(each, "dim")] for each in _closing(parts, width, " · " if has_unicode else ", ")]
    is_styled = len(rows) <= _MAX_STYLED and (is_terminal or "FORCE_COLOR" in os.environ)
    text_of = _styled if is_styled else _plain
    print("\n".join(map(text_of, lines)))


def _closing(parts: list[str], width: int, separator: str) -> list[str]:
    """Return one line, as long as it fits; otherwise a line for each part."""
    whole = separator.join(parts)
    return [whole] if len(whole) <= width else [part[:width] for part in parts]


def _plain(line: _Line) -> str:
    return "".join([text for text, _ in line])


def _styled(line: _Line) -> str:
    from rich.console import Console  # noqa: PLC0415 - a third of the command's start, for a pipe in vain
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    with console.capture() as captured:  # printing itself, rich would exit on a broken pipe
        console.print(Text.assemble(*line), soft_wrap=True, end="")
    return captured.get()


def _row(
    session: CorrelatedSession, usual: Usual | None, max_name: int, now: datetime | None, has_unicode: bool
) -> _Row:
    took, excess = _took(session), _excess(session, usual)
    more = "" if excess is None else f"  +{duration(excess)}"
    mark = OUTCOME_MARKS[session.outcome][not has_unicode]
    name = printable(spell(session.session_id), max_name, scrubbed=False)
    is_id = now is not None and re.fullmatch(r"[0-9a-f-]{32,36}", name) is not None
    return {
        _MARK: mark,
        "session": name[:_MIN_NAME] if is_id else name,
        "when": when(session.start_time, now),
        "what": printable(", ".join(session.workflow_ids), max_name) or "-",
        "result": _result(session, max_name),
        "took": "-" if took is None else duration(took),
        "usual": "-" if usual is None else duration(usual.seconds) + more,
        "skill": printable(", ".join(session.skill_names), max_name) or "-",
    }


def _result(session: CorrelatedSession, max_name: int) -> str:
    """Return the outcome, and what failed; of a success, how many nodes succeeded."""
    if session.outcome == "succeeded":
        done = session.workflow_nodes_completed
        total = done + session.workflow_nodes_skipped + session.workflow_nodes_not_run
        return f"{done}/{total}" if total else "succeeded"
    if session.outcome != "failed":
        return session.outcome
    if session.failed_nodes:
        first = printable(session.failed_nodes[0], max_name)
        others = session.workflow_nodes_failed - 1
        return f"{first} and {others} more failed" if others else f"{first} failed"
    if session.exit_code:
        return f"failed, exit {session.exit_code}"
    return f"failed, {printable(session.error_type, max_name)}" if session.error_type else "failed"


def _lines(rows: Sequence[_Row], outcomes: Sequence[str], width: int, ellipsis: str) -> Iterator[_Line]:
    """Yield the lines of a table; columns that do not fit are left out, the mark and the result never."""
    header = {name: "" if name == _MARK else name for name in _COLUMNS}
    widths = {name: max([cell_len(row[name]) for row in (header, *rows)]) for name in _COLUMNS}
    for name in _FIRST_TO_GO:
        room = _room(widths, width)
        if room >= 0:
            break
        if name in ("what", "session"):  # shortened, but not to nothing, before it goes
            widths[name] = max(min(widths[name], _MIN_NAME), widths[name] + room)
            if _room(widths, width) >= 0:
                break
        del widths[name]
    if _room(widths, width) < 0:
        widths["result"] = max(1, widths["result"] + _room(widths, width))
    yield [(_text(header, widths, ellipsis), "bold")]
    for row, outcome in zip(rows, outcomes, strict=True):
        mark, rest = _cell(_MARK, row[_MARK], widths[_MARK], ellipsis), _text(row, widths, ellipsis)
        yield [(mark, OUTCOME_STYLES.get(outcome, "")), (rest[len(mark) :], "")]


def _room(widths: dict[str, int], width: int) -> int:
    """Return how many columns are left; less than 0 if there are too few."""
    return width - sum(widths.values()) - _GAP * (len(widths) - 1) + 1  # one after the mark


def _text(row: _Row, widths: dict[str, int], ellipsis: str) -> str:
    cells = [_cell(name, row[name], size, ellipsis) for name, size in widths.items()]
    return f"{cells[0]} {(' ' * _GAP).join(cells[1:])}".rstrip()


def _cell(name: str, text: str, size: int, ellipsis: str) -> str:
    length = cell_len(text)
    if length > size:
        text, length = cut(text, size - 1) + ellipsis, size
    padding = " " * (size - length)
    return padding + text if name in _RIGHT else text + padding
