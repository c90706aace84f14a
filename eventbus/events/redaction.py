"""Encode events for storage: lines of JSON without secrets.

Most events hold none. A sieve, compiled for each class, collects the texts of a batch that are not
known, and searches them together; only the events with a text that may hold a secret are decoded and
scrubbed. Short texts that were found clean are remembered: the same names recur in most events.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from itertools import chain, groupby
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from eventbus.events.codec import encode, encode_lines_of_small, encode_small, encode_truncated
from eventbus.events.event import NO_METADATA, Event
from eventbus.events.scrubbing import is_clean, is_secret_name, scrub, scrub_value
from eventbus.events.size import is_oversized
from eventbus.events.vocabulary import UnknownEvent

__all__ = ["scrubbed_line", "scrubbed_lines"]

_KEPT = {"event_type", "session_id", "timestamp"}
_FRESH_ID = "invocation_id"  # new in every use of a skill; a `run_id` recurs, and is remembered like a name
_FEW = 32
_MAX_KNOWN = 8_192
_MAX_KNOWN_LENGTH = 96  # most names are shorter; most lines of a log, which do not recur, are longer
_MAX_GLANCED_AT = 32
"""A mapping of more values is searched: a glance must not take longer than a search."""
_TEXTLESS = {bool, int, float, datetime, NoneType}
_FLAT = {*_TEXTLESS, str}
_MAX_JOINED = 512  # characters of a text that is searched together with others

_values_of: Callable[[dict[Any, Any]], Iterable[Any]] = cast("Any", dict).values

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
    checked = events if len(events) >= _FEW else [event for event in events if not is_oversized(event)]
    unclean = {id(event) for event in _unclean(checked)}
    if len(checked) < len(events):
        unclean |= {*map(id, events)} - {*map(id, checked)}
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
        return _sieve_of(kind).unclean(events)
    except Exception:  # noqa: BLE001 - a field of the wrong type, such as a list for a name
        return events


def _unclean_texts(texts: set[Any]) -> Iterable[str]:
    """Return those of the texts that may hold a secret."""
    if {*map(type, texts)} == {str} and max(map(len, texts)) <= _MAX_JOINED:
        return _unclean_of_short([*texts])
    long = {text for text in texts if type(text) is not str or len(text) > _MAX_JOINED}
    short = [*(texts - long)]
    return [*(text for text in long if not _is_clean(text)), *(_unclean_of_short(short) if short else ())]


def _unclean_of_short(texts: list[str]) -> list[str]:
    """Do the same for short texts, and remember the others.

    They are searched together, and in eighths where something is found: for 120 characters the calls
    cost as much as reading them.
    """
    if is_clean("|".join(texts)):
        _remember(texts, _known)
        return []
    if len(texts) == 1:
        return [] if _is_clean(texts[0]) else texts
    size = -(-len(texts) // 8)
    parts = [texts[start : start + size] for start in range(0, len(texts), size)]
    return [text for part in parts for text in _unclean_of_short(part)]


def _is_clean(text: Any) -> bool:
    """Return True if a text that is not known holds no secret; remember it if it is short."""
    if type(text) is not str or not (is_clean(text) or scrub(text) == text):
        return False
    _remember([text], _known)
    return True


def _remember(texts: Iterable[str], known: set[str]) -> None:
    if len(known) >= _MAX_KNOWN:
        known.clear()
    known.update([text for text in texts if len(text) <= _MAX_KNOWN_LENGTH])


def _are_numbers(collections: Sequence[Any]) -> bool:
    """Return True if these are small mappings of plain names to numbers, for certain."""
    if {*map(type, collections)} != {dict} or max(map(len, collections)) > _MAX_GLANCED_AT:
        return False
    if not set[Any]().union(*collections) <= _known_names:
        return False
    return _TEXTLESS.issuperset(map(type, chain.from_iterable(map(_values_of, collections))))


def _texts_in(value: Any) -> Sequence[str] | None:
    """Return the texts of a mapping or sequence, if it is small and flat and its names are plain."""
    if type(value) is str:
        return (value,)
    if type(value) not in (dict, list, tuple) or len(value) > _MAX_GLANCED_AT:
        return None
    if type(value) is dict:
        named = cast("dict[object, object]", value)
        if not (_known_names.issuperset(named) or all(map(_is_plain_name, named))):
            return None
        return _texts_in([*named.values()])
    items = cast("Iterable[object]", value)
    return [each for each in items if type(each) is str] if _FLAT.issuperset(map(type, items)) else None


def _is_plain_name(name: Any) -> bool:
    if name in _known_names:
        return True
    if type(name) is not str or is_secret_name(name) or not _is_clean(name):
        return False
    _remember([name], _known_names)
    return True


class _Sieve(NamedTuple):
    """Finds the events of one class that may hold a secret.

    Attributes:
        new: Returns those events of which a field for a text holds one that is not known.
        texts: Returns what is not known of what events hold in their fields for a text, and None.
        values: Returns what events hold in their other fields, except for what is empty.
        others: Returns the same, each with its event.
        with_any_of: Returns those events of which a field for a text holds one of these.
    """

    new: Callable[[Sequence[Any]], Sequence[Event]]
    texts: Callable[[Sequence[Any]], set[Any]]
    values: Callable[[Sequence[Any]], Sequence[Any]]
    others: Callable[[Sequence[Any]], Sequence[tuple[Event, Any]]]
    with_any_of: Callable[[Sequence[Any], set[str]], Sequence[Event]]

    def unclean(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return those of the events that may hold a secret, some of them twice."""
        new, values = self.new(events), self.values(events)
        texts: set[Any] = self.texts(new) if new else set()
        unclean: list[Event] = []
        inner: list[tuple[Event, Sequence[str]]] = []
        if values and not _are_numbers(values):
            for event, value in self.others(events):
                some = _texts_in(value)
                if some is None:
                    unclean.append(event)
                elif some:
                    texts.update([text for text in some if text not in _known])
                    inner.append((event, some))
        texts.discard(None)
        secrets = {*_unclean_texts(texts)} if texts else None
        if secrets:
            unclean += self.with_any_of(new, secrets)
            unclean += [event for event, some in inner if not secrets.isdisjoint(some)]
        return unclean


def _each_with_itself(events: Sequence[Event]) -> Sequence[tuple[Event, Event]]:
    return [(event, event) for event in events]


def _each(events: Sequence[Event], _: set[str]) -> Sequence[Event]:
    return events


_NO_SIEVE = _Sieve(new=list, texts=set, values=list, others=_each_with_itself, with_any_of=_each)
"""Holds back every event."""


@cache
def _sieve_of(kind: type[Event]) -> _Sieve:
    """Return the sieve of a class.

    It is compiled for the class: it runs for every stored event, and looking the fields up by name
    would take three times as long.
    """
    names = kind.__struct_encode_fields__
    if issubclass(kind, UnknownEvent) or any(is_secret_name(name) or scrub(name) != name for name in names):
        return _NO_SIEVE
    types = _types_of(kind)
    kinds = {name: types.get(name, Any) for name in kind.__struct_fields__ if name not in _KEPT}
    texts = [name for name, each in kinds.items() if _members_of(each) == [str]]
    # A set for each field: a tuple of the fields for each event would take twice as long.
    of_texts = ", ".join(f"{{{_source(name, kinds[name])} for event in events}}" for name in texts)
    others = [f"event.{name}" for name, each in kinds.items() if _members_of(each) not in ([], [str])]
    # Most classes have only one other field, the metadata.
    value, loop = (others[0], "") if len(others) == 1 else ("value", f"for value in ({', '.join(others)})")
    # Not by its truth: a value that calls itself false may hold a text.
    is_held = " and ".join(f"{value} is not {nothing}" for nothing in ("empty", "None", "no_items"))
    held = f"for event in events {loop} if {is_held}"
    return _Sieve(
        _compiled(
            kind,
            f"events: [event for event in events if {_any(_is_new(name, kinds[name]) for name in texts)}]",
        ),
        _compiled(kind, f"events: set().union({of_texts}) - known"),
        _compiled(kind, f"events: [{value} {held}]"),
        _compiled(kind, f"events: [(event, {value}) {held}]"),
        _compiled(
            kind,
            "events, secrets: [event for event in events if "
            f"{_any(f'event.{name} in secrets' for name in texts)}]",
        ),
    )


def _source(name: str, kind: Any) -> str:
    """Return the source of the text that a field holds, without a fresh id."""
    is_fresh = name == _FRESH_ID and kind is str
    return f"(None if own_id(event.{name}) else event.{name})" if is_fresh else f"event.{name}"


def _is_new(name: str, kind: Any) -> str:
    """Return the source of the condition that a field holds a text which is not known."""
    condition = f"event.{name} not in known"
    if kind is not str:
        return f"(event.{name} is not None and {condition})"
    return f"({condition} and not own_id(event.{name}))" if name == _FRESH_ID else condition


def _any(conditions: Iterable[str]) -> str:
    return " or ".join(conditions) or "False"


def _compiled(kind: type[Event], source: str) -> Any:
    # Compiled first: eval() of a string clears the interpreter's note that a KeyboardInterrupt is
    # ending it, so storing the last events would change the exit code. `msgspec.structs.fields`
    # evaluates strings, too.
    places = {"known": _known, "own_id": _is_own_id, "empty": NO_METADATA, "no_items": ()}
    code = compile(f"lambda {source}", f"<sieve of {kind.__name__}>", "eval")
    return eval(code, places)  # noqa: S307 - of field names: identifiers


def _types_of(kind: type[Event]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception:  # noqa: BLE001 - names that existed only where the class was defined
        return {}


def _members_of(kind: Any) -> list[Any]:
    """Return the types that a field of this type may hold, without those that cannot hold a text."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [each for each in members if each not in _TEXTLESS and get_origin(each) is not Literal]
