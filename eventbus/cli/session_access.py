"""What the commands about sessions have in common: their options, and how a session is found."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from eventbus.cli.exit_codes import NOT_FOUND, PROBLEMS, USAGE, CommandError
from eventbus.cli.log_access import DamageNotes, open_log
from eventbus.events.json_safe import safe_text
from eventbus.events.printable import printable
from eventbus.history.session_history import SessionHistory

__all__ = ["AsJson", "LogDirectory", "OneSession", "find_session", "opened_history"]

LogDirectory: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="PATH", help="Where the log is; default EVENTBUS_DIR, else .session-buddy."
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="For programs: one JSON object a line.")]
OneSession: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[SESSION]", help="One session, or the beginning of its name.")
]

_MAX_NAMED = 5


@contextmanager
def opened_history(directory: Path | None) -> Generator[SessionHistory]:
    """Give the sessions of a log.

    Args:
        directory: Where the log lives; by default where the settings say.

    Raises:
        CommandError: There is no log, or it cannot be read, or the settings cannot be used.
    """
    log = open_log(directory, DamageNotes())
    try:
        history = SessionHistory(log)
    except OSError as error:
        what = f"the log in {log.directory} cannot be read: {error}"
        raise CommandError(what, "see who may read it, and eventbus doctor", PROBLEMS) from error
    with history:
        yield history


def find_session(history: SessionHistory, name: str) -> str:
    """Return the session that has a name, or else the only one whose name begins with it.

    Raises:
        CommandError: There is none, or there are several.
    """
    name = safe_text(name)
    if history.figures_of(name) is not None:
        return name
    found = history.names(name, _MAX_NAMED + 1) if name else []
    if len(found) == 1:
        return found[0]
    shown = printable(name)
    if not found:
        raise CommandError(
            f"no session begins with {shown!r}", "list them with: eventbus sessions", NOT_FOUND
        )
    named = ", ".join(map(printable, found[:_MAX_NAMED])) + (", …" if len(found) > _MAX_NAMED else "")
    raise CommandError(f"{shown!r} may be any of {named}", "type more of its name", USAGE)
