"""Encode events for storage: lines of JSON without secrets.

Most events hold none. A filter, compiled for each class, asks every text of every event whether it is
known, or clean at a glance; only the others are decoded and searched. Short texts that were found
clean are remembered: the same names recur in most events.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from eventbus.events.codec import encode, encode_lines_of_small, encode_small, encode_truncated
from eventbus.events.event import Event
from eventbus.events.scrubbing import is_clean, is_secret_name, scrub, scrub_value
from eventbus.events.size import is_oversized
from eventbus.events.vocabulary import UnknownEvent

__all__ = ["scrubbed_line", "scrubbed_lines"]

_KEPT = {"event_type", "session_id", "timestamp"}
_FRESH_ID = "invocation_id"  # new in every use of a skill; a `run_id` recurs, and is remembered like a name
_FEW = 32
_MAX_KNOWN = 8_192
_MAX_KNOWN_LENGTH = 128
_MAX_GLANCED_AT = 32
"""A mapping of more values is searched: a glance must not take longer than a search."""
_TEXTLESS = {bool, int, float, datetime, NoneType}

_Filter: TypeAlias = "Callable[[Sequence[Any]], Sequence[Event]]"

# An id as `new_id` makes it. Every pattern in `scrubbing` needs a character that it cannot contain.
_is_own_id = re.compile(r"[0-9a-f]{12}").fullmatch
_known: set[str] = set()  # texts without secrets
_known_names: set[str] = set()  # those that are no names of secrets either


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
        return _filter_of(kind)(events)
    except Exception:  # noqa: BLE001 - a field of the wrong type, such as a list for a name
        return events


def _is_clean(text: Any) -> bool:
    """Return True if a text that is not known holds no secret; remember it if it is short."""
    if type(text) is not str or not (is_clean(text) or scrub(text) == text):
        return False
    _remember(text, _known)
    return True


def _remember(text: str, known: set[str]) -> None:
    if len(text) <= _MAX_KNOWN_LENGTH:
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known.add(text)


def _are_clean(value: Any) -> bool:
    """Return True if a mapping or sequence is small and flat, and none of its texts holds a secret."""
    if type(value) is dict:
        named = cast("dict[object, object]", value)
        is_plain = len(named) <= _MAX_GLANCED_AT and all(map(_is_plain_name, named))
        return is_plain and all(map(_is_clean_value, named.values()))
    if type(value) in (list, tuple):
        return len(value) <= _MAX_GLANCED_AT and all(map(_is_clean_value, value))
    return False


def _is_clean_value(value: Any) -> bool:
    kind = type(value)
    return kind in _TEXTLESS or (kind is str and (value in _known or _is_clean(value)))


def _is_plain_name(name: Any) -> bool:
    if name in _known_names:
        return True
    if type(name) is not str or is_secret_name(name) or not _is_clean(name):
        return False
    _remember(name, _known_names)
    return True


@cache
def _filter_of(kind: type[Event]) -> _Filter:
    """Return a filter for the events of a class: it returns those that may hold a secret.

    It is compiled for the class: it runs for every stored event, and looking the fields up by name
    would take three times as long.
    """
    names = kind.__struct_encode_fields__
    if issubclass(kind, UnknownEvent) or any(is_secret_name(name) or scrub(name) != name for name in names):
        return list
    types = _types_of(kind)
    conditions = [
        _condition(name, types.get(name, Any)) for name in kind.__struct_fields__ if name not in _KEPT
    ]
    tests = [condition for condition in conditions if condition]
    source = f"lambda events: [event for event in events if {' or '.join(tests) or 'False'}]"
    # Compiled first: eval() of a string clears the interpreter's note that a KeyboardInterrupt is
    # ending it, so storing the last events would change the exit code. `msgspec.structs.fields`
    # evaluates strings, too.
    code = compile(source, f"<filter of {kind.__name__}>", "eval")
    places = {"known": _known, "own_id": _is_own_id, "is_clean": _is_clean, "are_clean": _are_clean}
    return cast("_Filter", eval(code, places))  # noqa: S307 - of field names: identifiers


def _types_of(kind: type[Event]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception:  # noqa: BLE001 - names that existed only where the class was defined
        return {}


def _condition(name: str, kind: Any) -> str:
    """Return the source of the condition under which a field must be searched; empty for never."""
    value = f"event.{name}"
    if name == _FRESH_ID and kind is str:
        return f"{value} not in known and not own_id({value}) and not is_clean({value})"
    if kind is str:
        return f"{value} not in known and not is_clean({value})"
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    rest = [each for each in members if each not in _TEXTLESS and get_origin(each) is not Literal]
    if not rest:
        return ""
    if rest == [str]:
        return f"{value} is not None and {value} not in known and not is_clean({value})"
    return f"{value} is not None and {value} != () and {value} != {{}} and not are_clean({value})"
