"""``eventbus doctor``: is the log as it should be, and with ``--repair``: make it so where that is safe."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventbus.cli.exit_codes import DAMAGED, OK, PROBLEMS
from eventbus.cli.humanize import counted
from eventbus.cli.log_access import DamageNotes, open_log
from eventbus.events.printable import printable
from eventbus.history import EventLog, Problem
from eventbus.history.index import INDEX_NAME
from eventbus.history.index_state import index_state
from eventbus.history.session_history import SessionHistory

__all__ = ["doctor"]

_INDEX_PROBLEMS = ("damaged", "foreign", "unusable")
_MAX_LINE = 1_000


def doctor(
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="PATH", help="Where the event log is.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set torn tails aside, and take others' permissions away.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> Callable[[], int]:
    """Examine the log, and tell what is wrong by place.

    Exit code 1: there are problems; 4: some data is damaged. What --repair repaired counts no more.
    """
    return lambda: _run(directory, repair, as_json)


def _run(directory: Path | None, repair: bool, as_json: bool) -> int:
    log = open_log(directory, DamageNotes())
    show = _show_json if as_json else _show
    if repair:
        _repair(log, show)
    kinds: set[str] = set()
    for finding in log.check():
        kinds.add(finding.kind)
        show(finding, False)
    state = index_state(log)
    if state.condition in _INDEX_PROBLEMS:
        kinds.add("index")
        show(_of_index(log, f"{state.condition}: {state.detail}; the answers are the same, slower"), False)
    if not kinds and not as_json:
        segments = counted(len(log.segments()), "segment")
        print(printable(f"ok: {segments} in {log.directory}; the index is {state.condition}", _MAX_LINE))
    return DAMAGED if "damage" in kinds else PROBLEMS if kinds else OK


def _of_index(log: EventLog, message: str) -> Problem:
    return Problem(kind="index", path=log.directory / INDEX_NAME, message=message)


def _repair(log: EventLog, show: Callable[[Problem, bool], None]) -> None:
    for path in (log.directory, log.directory / "events", *(each.path for each in log.segments())):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(mode & 0o700)
            message = f"mode {mode:04o} was changed to {mode & 0o700:04o}"
            show(Problem(kind="permissions", path=path, message=message), True)
    for done in log.repair():
        kept = f"kept in {done.kept_in.name}" if done.kept_in else "only a line feed was missing"
        message = f"its writer died amid a line: {done.length} bytes were set aside, {kept}"
        finding = Problem(
            kind="torn tail", path=done.path, offset=done.offset, length=done.length, message=message
        )
        show(finding, True)
    if index_state(log).condition in ("damaged", "stale"):
        SessionHistory(log).close()
        show(_of_index(log, "it was brought up to date"), True)


def _show(finding: Problem, repaired: bool) -> None:
    place = str(finding.path) if finding.offset is None else f"{finding.path}:{finding.offset}"
    state = "repaired" if repaired else finding.kind
    print(printable(f"{state:<16}{place}: {finding.message}", _MAX_LINE))


def _show_json(finding: Problem, repaired: bool) -> None:
    line = {**msgspec.structs.asdict(finding), "path": printable(finding.path, 4_096), "repaired": repaired}
    print(msgspec.json.encode(line).decode())
