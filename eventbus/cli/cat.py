"""``eventbus cat``: print the stored events, one per line, in one of several formats.

Following begins at the end of the log, as ``tail -f`` does: what is piped into a filter is what happens
from now on, and not a month of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, get_args

import anyio

from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import DAMAGED, OK
from eventbus.cli.free_descriptors import check_free_descriptors
from eventbus.cli.humanize import local_time, of_attempt
from eventbus.cli.log_access import DamageNotes, note, open_log
from eventbus.cli.options import LogDirectory, Remote, choice, parse_time
from eventbus.cli.output_reader import while_output_is_read
from eventbus.cli.plugin_events import load_plugin_events
from eventbus.cli.remote_log import log_to_read
from eventbus.cli.timeline import describe
from eventbus.events import Event, NodeProgress, UnknownEvent, event_types
from eventbus.events.printable import printable
from eventbus.events.words import Word
from eventbus.ground.session_names import name_of_argument, spell
from eventbus.history import EventLog, Record
from eventbus.history.converting import ConvertRaw, converted, stored_lines
from eventbus.history.csv_rows import csv_lines
from eventbus.history.export_formats import cloud_event, csv_header, csv_line
from eventbus.history.selection import Selection

__all__ = ["cat"]

Format: TypeAlias = Literal["jsonl", "text", "csv", "cloudevents"]


def cat(
    *,
    directory: LogDirectory = None,
    remote: Remote = False,
    follow: Annotated[
        bool,
        Option("--follow", "-f", help="Print new events as they come, and the stored ones since --since."),
    ] = False,
    session: Annotated[
        str | None,
        Option("--session", type=name_of_argument, metavar="ID", help="Print only events of this session."),
    ] = None,
    types: Annotated[
        list[str] | None,
        Option(
            "--type",
            action="append",
            metavar="TYPE",
            help="Print only this type, such as node_completed or NodeEvent; repeatable.",
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        Option(type=parse_time, metavar="TIME", help="Print only events since then: 2026-01-31, 24h."),
    ] = None,
    until: Annotated[
        datetime | None,
        Option(type=parse_time, metavar="TIME", help="Print only events before then."),
    ] = None,
    form: Annotated[
        Format,
        choice(
            get_args(Format),
            "--format",
            help="jsonl, the default, prints the lines as they are stored; text is for people.",
        ),
    ] = "jsonl",
) -> int:
    """Print the stored events in order, one per line.

    For example: eventbus cat -f --format text | grep FAIL

    Exit code 4: damaged parts of the log were skipped.
    """
    load_plugin_events()
    wanted = _WantedTypes(types or [])
    filters: dict[str, Any] = {"session_id": session, "types": wanted.types, "since": since, "until": until}
    notes = DamageNotes()
    with log_to_read(directory, remote=remote, session=session, is_exact=True, is_live=follow) as place:
        log = open_log(place, notes, must_exist=not follow)
        for name in sorted(wanted.unknown):
            note(f"there is no event class {name}; printing stored events of that type")
        write = _writer(form)
        if follow:
            check_free_descriptors()
            anyio.run(while_output_is_read, partial(_follow, log, filters, wanted, write))
            return OK
    convert_raw = None if sys.stdout.isatty() or wanted.only_some_unknown else _raw_converter(form)
    if convert_raw is None:
        for record in filter(wanted.includes, log.records(**filters)):
            write(record)
    else:
        lines = converted(log, Selection(**filters), _line_maker(form), convert_raw)
        sys.stdout.buffer.writelines(lines)
    notes.finish()
    return DAMAGED if notes.count else OK


class _WantedTypes:
    """The event types to print: classes, wire names, and names of types that have no class here."""

    def __init__(self, names: Iterable[str]) -> None:
        known = event_types()
        by_name = {cls.__name__: cls for cls in known.values()} | known
        classes = {by_name[name] for name in names if name in by_name}
        self.unknown = {name for name in names if name not in by_name}
        if self.unknown:
            classes.add(UnknownEvent)
        self.types: tuple[type[Event], ...] = tuple(classes) or (Event,)
        self.only_some_unknown = bool(self.unknown) and UnknownEvent not in map(by_name.get, names)

    def includes(self, record: Record) -> bool:
        event = record.event
        return (
            not self.only_some_unknown
            or not isinstance(event, UnknownEvent)
            or event.unknown_type in self.unknown
        )


async def _follow(
    log: EventLog, filters: dict[str, Any], wanted: _WantedTypes, write: Callable[[Record], None]
) -> None:
    if not log.directory.is_dir():
        note(f"there is no event log in {log.directory} yet; waiting for one")
    sys.stdout.flush()
    begin: Literal["now", "beginning"] = "now" if filters["since"] is None else "beginning"
    async with log.follow(begin, include_own=True, **filters) as records:
        async for record in records:
            if wanted.includes(record):
                write(record)
                sys.stdout.buffer.flush()


def _writer(form: Format) -> Callable[[Record], None]:
    """Print the header of a format, if it has one; return the function that prints a record."""
    line_of, out = _line_maker(form), sys.stdout.buffer
    safe = _without_controls if sys.stdout.isatty() and form != "text" else bytes
    if form == "csv":
        out.write(safe(csv_header()))

    def write(record: Record) -> None:
        out.write(safe(line_of(record)))

    return write


def _line_maker(form: Format) -> Callable[[Record], bytes]:
    if form == "csv":
        return csv_line
    if form == "cloudevents":
        return lambda record: cloud_event(record) + b"\n"
    if form == "text":
        return _text_line
    return lambda record: record.line + b"\n"


def _raw_converter(form: Format) -> ConvertRaw | None:
    return csv_lines if form == "csv" else stored_lines if form == "jsonl" else None


def _text_line(record: Record) -> bytes:
    """Return the time, the session, and the event in the words of the live progress."""
    event = record.event
    word, rest = describe(event) or _describe_step(event)
    session = "-" if event.session_id is None else printable(spell(event.session_id), scrubbed=False)
    line = f"{local_time(event.timestamp.isoformat())}  {session}  {word:<6} {rest}\n"
    return line.encode(sys.stdout.encoding, "backslashreplace")


def _describe_step(event: Event) -> tuple[str, str]:
    """Describe what the screens leave out, because it adds nothing to other events."""
    if not isinstance(event, NodeProgress):
        return Word.OTHER, printable(event.__struct_config__.tag)
    total = "" if event.total is None else f"/{event.total:g}"
    message = "" if event.message is None else f" {printable(event.message)}"
    name = of_attempt(event.node_id, event.attempt)
    return Word.GOING, f"{name} {event.completed:g}{total}{message}"


def _without_controls(line: bytes) -> bytes:
    r"""Escape the characters that a terminal would obey as ``\u...``, so that JSON stays the same."""
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
