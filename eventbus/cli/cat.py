"""``eventbus cat``: the stored events, one a line, as they are or in another format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args

import anyio
import typer

from eventbus.cli.exit_codes import DAMAGED, OK
from eventbus.cli.log_access import DamageNotes, log_directory, moment, note, open_log
from eventbus.events import Event, UnknownEvent, event_types
from eventbus.history import EventLog, Record
from eventbus.history.export_formats import cloud_event, csv_header, csv_line

__all__ = ["cat"]

Format: TypeAlias = Literal["jsonl", "csv", "cloudevents"]


def _check_format(name: str) -> str:
    if name not in get_args(Format):
        raise typer.BadParameter(f"{name!r} is none of {', '.join(get_args(Format))}")
    return name


def _moment(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def cat(
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="PATH", help="Where the event log is.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is appended, until interrupted.")
    ] = False,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only events of this session.")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only these, such as node_completed or NodeEvent."),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(parser=_moment, metavar="TIME", help="From this time, or age, on.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=_moment, metavar="TIME", help="Before this time, or age.")
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="|".join(get_args(Format)), callback=_check_format),
    ] = "jsonl",
) -> Callable[[], int]:
    """Print the stored events in order, one a line.

    jsonl is the stored line as it is. Exit code 4: some of the log is damaged, and was passed over.
    """
    wanted = _Wanted(types or [])
    filters = {"session_id": session, "types": wanted.types, "since": since, "until": until}
    return lambda: _run(directory, follow, filters, wanted, cast("Format", form))


class _Wanted:
    """The event types asked for by name: of classes, of wire names, and of types unknown here."""

    def __init__(self, names: Iterable[str]) -> None:
        known = event_types()
        by_name = {cls.__name__: cls for cls in known.values()} | known
        classes = {by_name[name] for name in names if name in by_name}
        self.unknown = {name for name in names if name not in by_name}
        if self.unknown:
            classes.add(UnknownEvent)
        self.types: tuple[type[Event], ...] = tuple(classes) or (Event,)
        self._has_all = not self.unknown or UnknownEvent in {by_name.get(name) for name in names}

    def takes(self, record: Record) -> bool:
        event = record.event
        return self._has_all or not isinstance(event, UnknownEvent) or event.unknown_type in self.unknown


def _run(directory: Path | None, follow: bool, filters: dict[str, Any], wanted: _Wanted, form: Format) -> int:
    notes = DamageNotes()
    log = open_log(directory, notes, must_exist=not follow)
    for name in sorted(wanted.unknown):
        note(f"no event class here is called {name}; stored events of that type are looked for")
    line_of = _line_maker(form)
    out = sys.stdout.buffer
    is_terminal = sys.stdout.isatty()

    def write(line: bytes) -> None:
        out.write(_shown(line) if is_terminal else line)

    if form == "csv":
        write(csv_header())
    if follow:
        if not log.directory.is_dir():
            note(f"there is no event log in {log_directory(directory)} yet; waiting for one")

        def write_record(record: Record) -> None:
            write(line_of(record))

        anyio.run(_follow, log, filters, wanted, write_record)
        return OK
    for record in filter(wanted.takes, log.records(**filters)):
        write(line_of(record))
    notes.finish()
    return DAMAGED if notes.count else OK


async def _follow(
    log: EventLog, filters: dict[str, Any], wanted: _Wanted, print_record: Callable[[Record], object]
) -> None:
    sys.stdout.flush()
    async with log.follow("beginning", include_own=True, **filters) as records:
        async for record in records:
            if wanted.takes(record):
                print_record(record)
                sys.stdout.buffer.flush()


def _line_maker(form: Format) -> Callable[[Record], bytes]:
    if form == "csv":
        return csv_line
    if form == "cloudevents":
        return lambda record: cloud_event(record) + b"\n"
    return lambda record: record.line + b"\n"


def _shown(line: bytes) -> bytes:
    r"""Return a line with what a terminal would obey escaped as ``\u...``, which JSON reads as itself."""
    text = line.decode()
    if text[:-1].isprintable():
        return line
    return "".join(_escaped(text[:-1])).encode() + b"\n"


def _escaped(text: str) -> Iterator[str]:
    for char in text:
        if char.isprintable():
            yield char
        else:
            units = char.encode("utf-16-be")
            yield "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
