"""Open the sessions of a log, and find one of them by the beginning of its id."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path

from eventbus.cli.exit_codes import NOT_FOUND, PROBLEMS, USAGE, CommandError, SkippedDamageError
from eventbus.cli.log_access import DamageNotes, open_log
from eventbus.cli.plugin_events import load_plugin_events
from eventbus.cli.remote_log import log_to_read
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable
from eventbus.ground.session_names import spell, unspell
from eventbus.history.session_history import SessionHistory
from eventbus.views.durations import Subject, Usual

__all__ = ["chosen_session", "find_session", "open_history", "usual_before"]

_MAX_LISTED = 5


@contextmanager
def open_history(
    directory: Path | None, *, remote: bool = False, session: str | None = None
) -> Generator[SessionHistory]:
    """Open the sessions of a log.

    Args:
        directory: The directory of the log; by default the one of the settings.
        remote: Open those that all hosts have shipped.
        session: The one session that is wanted, or the beginning of its id.

    Raises:
        CommandError: There is no log, or it cannot be read.
        SkippedDamageError: All else was answered, but parts of the log were skipped, each with a note.
        RemoteError: The server cannot be reached.
        SettingsError: A setting is wrong.
    """
    load_plugin_events()
    notes = DamageNotes()
    with log_to_read(directory, remote=remote, session=session) as place:
        log = open_log(place, notes)
    try:
        history = SessionHistory(log)
    except OSError as error:
        problem = f"the log in {log.directory} cannot be read: {error}"
        raise CommandError(problem, "check its permissions with: eventbus doctor", PROBLEMS) from error
    with history:
        yield history
    notes.finish()
    if notes.count:
        raise SkippedDamageError


def chosen_session(history: SessionHistory, name: str | None) -> CorrelatedSession:
    """Return the session that `find_session` finds, or the latest without a name; without its records.

    Raises:
        CommandError: There is none, or there are several.
    """
    found = next(history.figures(), None) if name is None else history.figures_of(find_session(history, name))
    if found is None:
        raise CommandError("there is no session in this log", "record one with: eventbus demo", NOT_FOUND)
    return found


def find_session(history: SessionHistory, name: str) -> str:
    """Return the session with this id, otherwise the only one whose id, or its spelling, begins so.

    Raises:
        CommandError: There is none, or there are several.
    """
    # The spelling comes last: a session may have that very text as its id.
    readings = dict.fromkeys((name, unspell(name))) if name else ()
    for reading in readings:
        if history.figures_of(reading) is not None:
            return reading
    found = next(filter(None, (history.names(each, _MAX_LISTED + 1) for each in readings)), [])
    if len(found) == 1:
        return found[0]
    shown = printable(spell(name))
    if not found:
        raise CommandError(
            f"no session begins with {shown!r}", "list them with: eventbus sessions", NOT_FOUND
        )
    listed = ", ".join([printable(spell(each)) for each in found[:_MAX_LISTED]])
    more = ", …" if len(found) > _MAX_LISTED else ""
    raise CommandError(f"several sessions begin with {shown!r}: {listed}{more}", "type more of its id", USAGE)


def usual_before(history: SessionHistory, session: CorrelatedSession) -> Callable[[str, str], Usual | None]:
    """Return a function that returns what was usual, before a session, for a node of a workflow."""
    began = datetime.fromisoformat(session.start_time).timestamp()

    @cache  # the runs of a session often have the same nodes
    def usual_of(workflow_id: str, node_id: str) -> Usual | None:
        return history.durations(Subject("node", workflow_id, node_id)).usual(began)

    return usual_of
