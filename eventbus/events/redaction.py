"""Encode events for storage: lines of JSON without secrets.

The same names recur in most events. A short text that was searched and found clean is remembered,
and an event of such texts is encoded as it is; only the others are decoded and searched.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from eventbus.events.codec import encode, encode_lines_of_small, encode_small, encode_truncated
from eventbus.events.event import Event
from eventbus.events.scrubbing import is_secret_name, scrub, scrub_value
from eventbus.events.size import is_oversized
from eventbus.events.vocabulary import UnknownEvent

__all__ = ["scrubbed_line", "scrubbed_lines"]

_KEPT = {"event_type", "session_id", "timestamp"}
_FRESH_ID = "invocation_id"  # new in every use of a skill; a `run_id` recurs, and is remembered like a name
_FEW = 32
_MAX_KNOWN = 8_192
_MAX_KNOWN_LENGTH = 128
_TEXTLESS = {bool, int, float, datetime, NoneType}

_Getters: TypeAlias = "Mapping[str, Callable[[Event], str]]"
_Filter: TypeAlias = "tuple[Callable[[Sequence[Any]], Sequence[Event]], _Getters]"

# An id as `new_id` makes it. Every pattern in `scrubbing` needs a character that it cannot contain.
_is_own_id = re.compile(r"[0-9a-f]{12}").fullmatch
_known: set[str] = set()  # texts without secrets


def scrubbed_line(event: Event) -> bytes:
    """Return an event as one line of JSON, as by `encode`, without secrets.

    Every text is scrubbed, field names included, except for ``session_id``, which joins events. The
    kinds of secret are listed in `eventbus.events.scrubbing`.
    """
    if is_oversized(event):
        return _scrubbed(encode_truncated(event))
    line = encode_small(event)
    return _scrubbed(line) if _unclean([event]) else line


def scrubbed_lines(events: Sequence[Event]) -> bytes:
    """Return events as lines of JSON, each as by `scrubbed_line` and ended by one line feed.

    Batches of 32 or more are not size-checked per event, which would cost half of storing them: a
    name or a session id of hundreds of megabytes makes such a batch slow.
    """
    if len(events) < _FEW:
        return b"".join([scrubbed_line(event) + b"\n" for event in events])
    unclean = {id(event) for event in _unclean(events)}
    if not unclean:
        return encode_lines_of_small(events)
    blocks: list[bytes] = []
    for is_unclean, group in groupby(events, lambda event: id(event) in unclean):
        if is_unclean:
            blocks += [_scrubbed(encode(event)) + b"\n" for event in group]
        else:
            blocks.append(encode_lines_of_small(list(group)))
    return b"".join(blocks)


def _scrubbed(line: bytes) -> bytes:
    fields: dict[str, Any] = msgspec.json.decode(line)
    scrubbed: dict[str, Any] = {}
    for name, value in fields.items():
        scrubbed |= {name: value} if name in _KEPT else scrub_value({name: value})
    return line if scrubbed == fields else msgspec.json.encode(scrubbed)


def _unclean(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events that contain anything but clean short texts; the new ones are searched here."""
    kinds = {*map(type, events)}
    if len(kinds) == 1:
        return _unclean_of(kinds.pop(), events)
    by_kind: defaultdict[type[Event], list[Event]] = defaultdict(list)
    for event in events:
        by_kind[type(event)].append(event)
    return [event for kind, some in by_kind.items() for event in _unclean_of(kind, some)]


def _unclean_of(kind: type[Event], events: Sequence[Event]) -> Sequence[Event]:
    try:
        sift, getters = _filter_of(kind)
        unclean = sift(events)
        if unclean and _learn(unclean, getters):
            unclean = sift(unclean)
    except Exception:  # noqa: BLE001 - a field of the wrong type, such as a list for a name
        return events
    return unclean


def _learn(events: Sequence[Event], getters: _Getters) -> bool:
    """Search the new short texts in these fields, each once; return True if one is clean."""
    new: set[str] = set()
    for name, getter in getters.items():
        texts = {*map(getter, events)} - _known
        new |= {text for text in texts if not _is_own_id(text)} if name == _FRESH_ID else texts
    clean = [text for text in new if _is_short(text) and scrub(text) == text]
    if len(_known) > _MAX_KNOWN:
        _known.clear()
    _known.update(clean)
    return bool(clean)


def _is_short(text: Any) -> bool:
    return type(text) is str and len(text) <= _MAX_KNOWN_LENGTH


@cache
def _filter_of(kind: type[Event]) -> _Filter:
    """Return a filter for the events of a class, and getters of the fields that hold one text each.

    The filter returns the events that contain anything but known texts. It is compiled for the class:
    it runs for every stored event, and looking the fields up by name would take three times as long.
    """
    names = kind.__struct_encode_fields__
    if issubclass(kind, UnknownEvent) or any(is_secret_name(name) or scrub(name) != name for name in names):
        return list, {}
    types = _types_of(kind)
    conditions = {
        name: _condition(name, types.get(name, Any)) for name in kind.__struct_fields__ if name not in _KEPT
    }
    tests = [test for test in conditions.values() if test]
    source = f"lambda events: [event for event in events if {' or '.join(tests) or 'False'}]"
    # Compiled first: eval() of a string clears the interpreter's note that a KeyboardInterrupt is
    # ending it, so storing the last events would change the exit code. `msgspec.structs.fields`
    # evaluates strings, too.
    code = compile(source, f"<filter of {kind.__name__}>", "eval")
    sift = eval(code, {"known": _known, "own_id": _is_own_id})  # noqa: S307 - of field names: identifiers
    return sift, {name: attrgetter(name) for name, test in conditions.items() if "in known" in test}


def _types_of(kind: type[Event]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception:  # noqa: BLE001 - names that existed only where the class was defined
        return {}


def _condition(name: str, kind: Any) -> str:
    """Return the source of the condition under which a field must be searched; empty for never."""
    value = f"event.{name}"
    if name == _FRESH_ID and kind is str:
        return f"{value} not in known and not own_id({value})"
    if kind is str:
        return f"{value} not in known"
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    rest = [each for each in members if each not in _TEXTLESS and get_origin(each) is not Literal]
    if not rest:
        return ""
    if rest == [str]:
        return f"{value} is not None and {value} not in known"
    return f"{value} is not None and {value} != () and {value} != {{}}"
