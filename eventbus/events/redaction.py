"""Events on their way out of the process: lines of JSON without the secrets in them.

The same names come again and again. A text that was found clean is remembered, and an event that
holds nothing but such texts is written as it is; only the others are searched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from eventbus.events.codec import encode, encode_lines_of_small
from eventbus.events.event import Event
from eventbus.events.scrubbing import scrub_value
from eventbus.events.size import is_oversized
from eventbus.events.vocabulary import UnknownEvent

__all__ = ["scrubbed_line", "scrubbed_lines"]

_KEPT = {"event_type", "session_id", "timestamp"}
_FEW = 32
_MAX_KNOWN = 8_192
_MAX_KNOWN_LENGTH = 128
_TEXTLESS = {bool, int, float, datetime, NoneType}

_Sieve: TypeAlias = "Callable[[Sequence[Any]], Sequence[Event]]"

_known: set[str] = set()


def scrubbed_line(event: Event) -> bytes:
    """Return an event as one line of JSON, as `encode` has it, but without secrets.

    Every text in it is scrubbed, names of fields included, except for ``session_id``: what joins
    events must survive. What counts as a secret is said in `eventbus.events.scrubbing`.
    """
    if not is_oversized(event) and not _sifted(type(event), [event]):
        return encode(event)
    line = encode(event)
    fields: dict[str, Any] = msgspec.json.decode(line)
    scrubbed = {name: fields.pop(name) for name in _KEPT.intersection(fields)}
    scrubbed = {**scrubbed, **scrub_value(fields)}
    if all(scrubbed.get(name) == value for name, value in fields.items()):
        _remember(event)
        return line
    order = {name: scrubbed[name] for name in msgspec.json.decode(line) if name in scrubbed}
    return msgspec.json.encode({**order, **scrubbed})


def scrubbed_lines(events: Sequence[Event]) -> bytes:
    """Return events as lines of JSON, each as `scrubbed_line` has it and ended by one line feed.

    In the company of 31 others, an event is not kept from taking its time by a name (a session's, a
    workflow's) that is hundreds of megabytes long: to ask each would cost all of them.
    """
    if len(events) >= _FEW:
        searched = {id(event) for event in _to_be_searched(events)}
        if not searched:
            return encode_lines_of_small(events)
        if len(searched) < len(events):
            lines = [
                scrubbed_line(event) if id(event) in searched else encode_lines_of_small([event])[:-1]
                for event in events
            ]
            return b"\n".join([*lines, b""])
    return b"".join([scrubbed_line(event) + b"\n" for event in events])


def _to_be_searched(events: Sequence[Event]) -> Sequence[Event]:
    kinds = {*map(type, events)}
    if len(kinds) == 1:
        return _sifted(kinds.pop(), events)
    by_kind: defaultdict[type[Event], list[Event]] = defaultdict(list)
    for event in events:
        by_kind[type(event)].append(event)
    return [event for kind, some in by_kind.items() for event in _sifted(kind, some)]


def _sifted(kind: type[Event], events: Sequence[Event]) -> Sequence[Event]:
    """Return, of events of a class, those that hold anything but texts known to be clean."""
    try:
        return _sieve_of(kind)(events)
    except Exception:  # noqa: BLE001 - a field holds what it should not, such as a list for a name
        return events


@cache
def _sieve_of(kind: type[Event]) -> _Sieve:
    """Return what sifts the events of a class.

    Written as source and compiled for the class: this runs for every event that is stored, and
    asking for the fields by their names would take three times as long.
    """
    if issubclass(kind, UnknownEvent):
        return list
    types = _types_of(kind)
    fields = [name for name in kind.__struct_fields__ if name not in _KEPT]
    tests = [test for name in fields if (test := _test(f"event.{name}", types.get(name, Any)))]
    source = f"lambda events: [event for event in events if {' or '.join(tests) or 'False'}]"
    # Compiled first: evaluating a string, as `msgspec.structs.fields` does too, has the interpreter
    # forget that a KeyboardInterrupt is ending it: storing its last events would change its exit code.
    code = compile(source, f"<sieve of {kind.__name__}>", "eval")
    sieve: _Sieve = eval(code, {"known": _known})  # noqa: S307 - made of names of fields, which are identifiers
    return sieve


def _types_of(kind: type[Event]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception:  # noqa: BLE001 - names that were only there for whoever wrote the class
        return {}


def _test(value: str, kind: Any) -> str:
    """Return the source of what is true of a field that has to be searched; empty if it never has."""
    if kind is str:
        return f"{value} not in known"
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    rest = [each for each in members if each not in _TEXTLESS and get_origin(each) is not Literal]
    if not rest:
        return ""
    if rest == [str]:
        return f"{value} is not None and {value} not in known"
    return f"{value} is not None and {value} != () and {value} != {{}}"


def _remember(event: Event) -> None:
    """Note that the texts of an event are clean, those that were searched."""
    if len(_known) > _MAX_KNOWN:
        _known.clear()
    texts = [getattr(event, name) for name in event.__struct_fields__ if name not in _KEPT]
    _known.update([text for text in texts if type(text) is str and len(text) <= _MAX_KNOWN_LENGTH])
