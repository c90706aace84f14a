"""``eventbus export``: sessions of a log in the shapes that other programs read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast, get_args

import typer

from eventbus.atomic_file import write_atomically
from eventbus.cli.exit_codes import OK, PROBLEMS, USAGE, CommandError
from eventbus.cli.log_access import note
from eventbus.cli.session_access import LogDirectory, OneSession, find_session, opened_history
from eventbus.correlation import CorrelatedSession
from eventbus.history import legacy_formats as formats
from eventbus.history.session_history import SessionHistory

__all__ = ["ExportFormat", "export", "export_sessions"]

ExportFormat: TypeAlias = Literal["correlation", "skill-metrics", "workflow-events", "session-buddy"]


def _check_format(name: str) -> str:
    names = get_args(ExportFormat)
    if name not in names:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}")
    return name


def export(
    session: OneSession = None,
    directory: LogDirectory = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="|".join(get_args(ExportFormat)),
            callback=_check_format,
            help="For which reader.",
        ),
    ] = "correlation",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to, whole or not at all; default standard output."),
    ] = None,
) -> Callable[[], int]:
    """Write sessions in a shape that other programs read."""
    return partial(export_sessions, directory, session, cast("ExportFormat", format_), output)


def export_sessions(
    directory: Path | None, name: str | None, format_: ExportFormat, output: Path | None
) -> int:
    """Write sessions in one of four formats; return the exit code.

    Args:
        directory: Where the log lives; by default where the settings say.
        name: A session, or the beginning of its name; None for all.
        format_: The format.
        output: The file, written whole or not at all; None for standard output.

    Raises:
        CommandError: There is no log, or no such session, or the file cannot be written.
    """
    if format_ == "session-buddy" and output is not None and output.name == formats.SKILL_METRICS_NAME:
        raise CommandError(
            f"{output.name} is the name of another format, whose readers would lose their history over it",
            "give the file another name",
            USAGE,
        )
    with opened_history(directory) as history:
        parts = _parts(format_, _sessions(history, name))
        if output is None:
            sys.stdout.flush()
            sys.stdout.buffer.writelines(parts)
        else:
            _write(output, parts)
    return OK


def _sessions(history: SessionHistory, name: str | None) -> Iterator[CorrelatedSession]:
    if name is None:
        return history.sessions()
    session = history.session(find_session(history, name))
    return iter([session] if session else [])


def _parts(format_: ExportFormat, sessions: Iterator[CorrelatedSession]) -> Iterable[bytes]:
    match format_:
        case "correlation":
            return formats.correlation_parts(sessions)
        case "skill-metrics":
            return formats.skill_metrics_parts(formats.invocations_of(sessions))
        case "session-buddy":
            return formats.session_buddy_parts(formats.invocations_of(sessions))
        case "workflow-events":
            return formats.workflow_events_parts(each for one in sessions for each in one.workflow_events)


def _write(output: Path, parts: Iterable[bytes]) -> None:
    try:
        write_atomically(output, parts)
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error}", "name another file", PROBLEMS) from error
    note(f"wrote {output}")
