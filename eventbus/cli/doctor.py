"""``eventbus doctor``: check the log, and with ``--repair`` solve the problems where that is safe."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec

import eventbus
from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import DAMAGED, OK, PROBLEMS
from eventbus.cli.humanize import quantity, size
from eventbus.cli.log_access import DamageNotes, note, open_log
from eventbus.cli.options import AsJson, LogDirectory
from eventbus.events.printable import printable
from eventbus.ground.distribution import DISTRIBUTION, other_owners
from eventbus.history import EventLog, Problem, SegmentFile
from eventbus.history.index import INDEX_NAME
from eventbus.history.index_state import index_state
from eventbus.history.repair import repair_segment
from eventbus.history.session_history import SessionHistory

__all__ = ["doctor"]

_INDEX_PROBLEMS = ("damaged", "foreign", "unusable")
_MAX_LINE = 1_000


def doctor(
    directory: LogDirectory = None,
    repair: Annotated[
        bool, Option("--repair", help="Set torn tails aside, and remove permissions of other users.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check the event log, and list its problems.

    Exit code 1: there are problems; 4: some data is damaged. Problems that --repair solved do not count.
    """
    log = open_log(directory, DamageNotes())
    show = _show_json if as_json else _show
    if repair:
        _repair(log, show)
    kinds: set[str] = set()
    for problem in chain(_package_problems(), log.check()):
        kinds.add(problem.kind)
        show(problem, False)
    index = index_state(log)
    if index.condition in _INDEX_PROBLEMS:
        kinds.add("index")
        show(
            _index_problem(log, f"{index.condition}: {index.detail}; the log is read without it, slower"),
            False,
        )
    if not kinds and not as_json:
        segments = log.segments()
        stored = f"{quantity(len(segments), 'segment')} ({size(sum(each.size for each in segments))})"
        print(printable(f"ok: {stored} in {log.directory}; the index is {index.condition}", _MAX_LINE))
    return DAMAGED if "damage" in kinds else PROBLEMS if kinds else OK


def _package_problems() -> list[Problem]:
    return [
        Problem(
            kind="package",
            path=Path(eventbus.__file__).parent,
            message=f"{owner} installs a package `eventbus`, too: pip uninstall {owner}, "
            f"then: pip install --force-reinstall {DISTRIBUTION}",
        )
        for owner in other_owners()
    ]


def _index_problem(log: EventLog, message: str) -> Problem:
    return Problem(kind="index", path=log.directory / INDEX_NAME, message=message)


def _repair(log: EventLog, show: Callable[[Problem, bool], None]) -> None:
    """Solve what can be solved; a place where that fails, as on a full disk, does not stop the others."""
    segments = log.segments()
    for path in (log.directory, log.directory / "events", *(each.path for each in segments)):
        with _noting_failure("change the mode of", path):
            _remove_permissions(path, show)
    for each in segments:
        with _noting_failure("repair", each.path):
            _repair_tail(each, show)
    if index_state(log).condition in ("damaged", "stale"):
        with _noting_failure("bring up to date", log.directory / INDEX_NAME):
            SessionHistory(log).close()
            show(_index_problem(log, "brought up to date"), True)


@contextmanager
def _noting_failure(action: str, path: Path) -> Generator[None]:
    try:
        yield
    except FileNotFoundError:  # removed by retention since
        pass
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        note(f"cannot {action} {path}: {reason}")


def _remove_permissions(path: Path, show: Callable[[Problem, bool], None]) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        path.chmod(mode & 0o700)
        message = f"mode {mode:04o} was changed to {mode & 0o700:04o}"
        show(Problem(kind="permissions", path=path, message=message), True)


def _repair_tail(segment: SegmentFile, show: Callable[[Problem, bool], None]) -> None:
    done = repair_segment(segment)
    if done is None:
        return
    kept = f"kept in {done.kept_in.name}" if done.kept_in else "only a line feed was missing"
    message = f"the writer died within a line: {done.length} bytes were set aside, {kept}"
    show(
        Problem(kind="torn tail", path=done.path, offset=done.offset, length=done.length, message=message),
        True,
    )


def _show(problem: Problem, repaired: bool) -> None:
    place = str(problem.path) if problem.offset is None else f"{problem.path}:{problem.offset}"
    state = "repaired" if repaired else problem.kind
    print(printable(f"{state:<16}{place}: {problem.message}", _MAX_LINE))


def _show_json(problem: Problem, repaired: bool) -> None:
    line = {**msgspec.structs.asdict(problem), "path": printable(problem.path, 4_096), "repaired": repaired}
    print(msgspec.json.encode(line).decode())
