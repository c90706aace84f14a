"""``eventbus schema``: print the JSON Schema of the lines of an event log."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from eventbus.cli.arguments import Argument
from eventbus.cli.exit_codes import NOT_FOUND, OK, CommandError
from eventbus.cli.plugin_events import load_plugin_events
from eventbus.events import Event, UnknownEvent
from eventbus.events.event import classes_by_wire_name
from eventbus.ground.similar_names import nearest_name

__all__ = ["line_schema", "schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SEQ = {
    "description": "The record's number on its bus, from 1. A line that no persister wrote may have none."
}
_TEXT_OR_NULL = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_TIMESTAMP = {"type": "string", "format": "date-time"}
_ANY_EVENT = {
    "title": "Any event",
    "description": (
        "An event of a type that this program does not know, or with other fields than its class has now. "
        "All of it is kept."
    ),
    "type": "object",
    "properties": {
        "seq": _SEQ,
        "event_type": {"type": "string"},
        "session_id": _TEXT_OR_NULL,
        "timestamp": _TIMESTAMP,
        "metadata": {"type": "object"},
    },
    "required": ["event_type"],
}
_HEADER = {
    "title": "Header of a segment",
    "description": "The first line of each file of the log. `eventbus cat` does not print it.",
    "type": "object",
    "properties": {
        "event_type": {"const": "segment_started"},
        "session_id": {"type": "null"},
        "timestamp": _TIMESTAMP,
        "metadata": {"type": "object"},
        "schema_version": {"type": "integer"},
        "bus_id": {"type": "string"},
        "pid": {"type": "integer"},
        "pid_space": _TEXT_OR_NULL,
        "first_seq": {"type": "integer"},
        "locked": {"type": "boolean"},
        "utc_offset_seconds": {"type": "integer"},
    },
    "required": ["event_type", "schema_version", "bus_id", "pid", "first_seq"],
}


def schema(
    name: Annotated[
        str | None,
        Argument(
            metavar="TYPE", help="Only this type, such as node_completed or NodeCompleted. Default: all."
        ),
    ] = None,
) -> int:
    """Print the JSON Schema of the lines of an event log.

    Every line of eventbus cat validates against it, and every line of a segment. Of a type that is known,
    $defs has the fields, those of installed plugins included; of any other type all is allowed.
    """
    load_plugin_events()
    print(msgspec.json.format(msgspec.json.encode(line_schema(_named(name))), indent=2).decode())
    return OK


def _named(name: str | None) -> Sequence[type[Event]]:
    classes = [each for of_name in classes_by_wire_name().values() for each in of_name]
    known = [each for each in classes if each is not UnknownEvent]
    found = [each for each in known if name in (None, each.__name__, each.__struct_config__.tag)]
    if not found and name is not None:
        nearest = nearest_name(name, [str(each.__struct_config__.tag) for each in known])
        hint = (
            f"did you mean {nearest}?"
            if nearest
            else "list them with: eventbus schema | jq '.[\"$defs\"] | keys'"
        )
        raise CommandError(f"there is no event type {name!r}", hint, NOT_FOUND)
    return found


def line_schema(classes: Sequence[type[Event]]) -> dict[str, Any]:
    """Return the schema of a line that holds an event of one of some classes.

    Args:
        classes: The classes. Of a single one only its own schema counts; otherwise events of other types,
            and the header of a segment, are lines, too.
    """
    # msgspec refuses two classes of one full name, which was defined again.
    latest = {(each.__module__, each.__qualname__): each for each in classes}
    shown = list(filter(_has_schema, latest.values()))
    references, components = msgspec.json.schema_components(shown, ref_template="#/$defs/{name}")
    definitions = dict(_completed(components))
    if len(shown) != 1:
        others = {"segment_started": _HEADER, "any_event": _ANY_EVENT}
        definitions |= others
        references += tuple({"$ref": f"#/$defs/{name}"} for name in others)
    return {
        "$schema": _DIALECT,
        "title": "A line of an eventbus log",
        "anyOf": list(references),
        "$defs": definitions,
    }


def _has_schema(cls: type[Event]) -> bool:
    try:
        msgspec.json.schema_components([cls])
    except Exception:  # noqa: BLE001 - a field of a type of somebody's own, which only its own hooks know
        return False
    return True


def _completed(components: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the definitions; in those of events the number of a record, and the format of its time."""
    for name, component in components.items():
        given = {**component}
        if "description" in given:
            given["description"] = inspect.cleandoc(given["description"])
        properties = given.get("properties", {})
        if "event_type" in properties:
            given["properties"] = {"seq": _SEQ, **properties, "timestamp": _TIMESTAMP}
        yield name, given
