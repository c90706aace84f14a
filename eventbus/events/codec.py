"""Encode events as lines of JSON, and decode them.

Reading keeps what it does not know: unknown fields are ignored, and an event of an unknown type
becomes an `UnknownEvent` that holds all its fields.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from datetime import datetime
from io import BytesIO
from typing import Any, cast

import msgspec
from msgspec import field
from msgspec.structs import force_setattr

from eventbus.errors import DecodeError
from eventbus.events.event import Event, cache_until_next_class, classes_by_wire_name, no_metadata, utc_now
from eventbus.events.json_safe import json_safe, safe_text
from eventbus.events.size import MAX_EVENT_BYTES, is_oversized
from eventbus.events.vocabulary import UnknownEvent
from eventbus.ground.session_names import may_be_spelled, spell, unspell

__all__ = [
    "Header",
    "decode",
    "decode_unknown",
    "decoders",
    "encode",
    "encode_lines",
    "encode_lines_of_small",
    "encode_small",
    "encode_truncated",
    "header_decoder",
]

_MAX_FIELDS = 64  # of a truncated event, and of its metadata
_MAX_NAME = 256
_MIN_EVENT_BYTES = len('{"event_type":"","session_id":null,"timestamp":"2000-01-01T00:00:00Z","metadata":{}}')
_ENCODING_ERRORS = (TypeError, ValueError, OverflowError, RecursionError)
_FOREIGN_ERRORS = (Exception, SystemExit)  # of the `__post_init__` of a class defined elsewhere
_DECODING_ERRORS = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


def _encode_datetime(value: object) -> str:
    """Encode an instance of a subclass of `datetime`, which the encoder refuses: tests freeze clocks so."""
    if issubclass(type(value), datetime):  # `isinstance` would ask a hostile object for its class
        return cast("datetime", value).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value)} is not encoded")


_encoder = msgspec.json.Encoder(enc_hook=_encode_datetime)
_logger = logging.getLogger("eventbus")
_warned_of: set[str] = set()  # wire names that two packages use


# Encoding.


def encode(event: Event) -> bytes:
    """Return an event as one line of JSON, without its line feed.

    Never raises for the contents of an event: fields that JSON cannot express are replaced. An event
    of more than `MAX_EVENT_BYTES`, or nested deeper than 32 levels, is truncated, with
    ``"truncated": true`` in its metadata; truncating does not take longer the larger it is.
    """
    return encode_truncated(event) if is_oversized(event) else encode_small(event)


def encode_small(event: Event) -> bytes:
    """Do the same as `encode` for an event that is not `is_oversized`."""
    try:
        line = _encoder.encode(_wire_fields(event) if isinstance(event, UnknownEvent) else event)
        if may_be_spelled(line):
            line = _encode_with_spelled_session(event)
    except _ENCODING_ERRORS:
        line = _encoder.encode(_json_safe_fields(event))
    return line if len(line) <= MAX_EVENT_BYTES else encode_truncated(event)


def encode_lines(events: Iterable[Event]) -> bytes:
    """Return events as lines of JSON, each as by `encode` and ended by one line feed."""
    return b"".join([encode(event) + b"\n" for event in events])


def encode_lines_of_small(events: Sequence[Event]) -> bytes:
    """Do the same as `encode_lines` in a third of the time.

    Args:
        events: None of them `is_oversized` or an `UnknownEvent`.
    """
    try:
        lines = _encoder.encode_lines(events)
    except _ENCODING_ERRORS:
        return encode_lines(events)
    if may_be_spelled(lines):
        return encode_lines(events)
    # Within this total no line can exceed the limit, since the others take the minimum at least.
    total = MAX_EVENT_BYTES + _MIN_EVENT_BYTES * (len(events) - 1)
    if len(lines) <= total or max(map(len, BytesIO(lines))) <= MAX_EVENT_BYTES + 1:
        return lines
    return encode_lines(events)


def _encode_with_spelled_session(event: Event) -> bytes:
    twin = copy(event)
    force_setattr(twin, "session_id", _spelled(event.session_id))
    return _encoder.encode(_wire_fields(twin) if isinstance(twin, UnknownEvent) else twin)


def _spelled(session_id: Any) -> Any:
    return spell(session_id) if isinstance(session_id, str) else session_id


def _wire_fields(event: UnknownEvent) -> dict[str, Any]:
    base = {name: getattr(event, name) for name in _BASE_FIELDS}
    return {"event_type": event.unknown_type, **base, **event.fields}


def _json_safe_fields(event: Event) -> dict[str, Any]:
    """Return an event's fields on the wire, each made JSON-safe on its own."""
    if isinstance(event, UnknownEvent):
        wire = _wire_fields(event)
    else:
        wire = {name: getattr(event, name) for name in event.__struct_fields__}
        wire = {"event_type": event.__struct_config__.tag, **wire}
    wire["session_id"] = _spelled(event.session_id)
    return {
        name: value if issubclass(type(value), datetime) else json_safe(value) for name, value in wire.items()
    }


def encode_truncated(event: Event) -> bytes:
    """Return an event as one line of JSON with its long texts and collections cut until it fits."""
    fields = _json_safe_fields(event)
    fields = {safe_text(name, _MAX_NAME): value for name, value in list(fields.items())[:_MAX_FIELDS]}
    event_type = _shortened(fields.pop("event_type"), _MAX_NAME)
    metadata = dict(list(event.metadata.items())[:_MAX_FIELDS])
    metadata.pop("truncated", None)
    limit = MAX_EVENT_BYTES // 16
    while True:
        short = {name: _shortened(value, limit) for name, value in fields.items()}
        # The mark comes first: decoding makes a bounded copy, which may leave out the last items.
        short["metadata"] = {"truncated": True, **_shortened(json_safe(metadata), limit)}
        line = _encoder.encode({"event_type": event_type, **short})
        if len(line) <= MAX_EVENT_BYTES or not limit:
            return line
        limit //= 2


def _shortened(value: Any, limit: int) -> Any:
    """Return a copy in which every text and collection has at most `limit` characters or items."""
    if isinstance(value, str):
        return safe_text(value, limit)
    if isinstance(value, dict):
        items = list(cast("dict[str, Any]", value).items())[:limit]
        return {safe_text(key, limit): _shortened(item, limit) for key, item in items}
    if isinstance(value, list):
        return [_shortened(item, limit) for item in value[:limit]]
    return value


# Decoding.


def decode(line: bytes | str) -> Event:
    """Read an event from one line of JSON.

    Fields that the event's class does not have are ignored. A type without a class in this process
    gives an `UnknownEvent` with all the fields. If several classes share a wire name, the line decides:
    of those that it fits, the one that ignores the fewest fields is used, otherwise the newest; if it
    fits none, it gives an `UnknownEvent`, too.

    Args:
        line: One JSON object, with or without its line feed.

    Raises:
        DecodeError: The line is not a JSON object, has no ``event_type``, or has a field of the wrong
            type.
    """
    try:
        header = header_decoder.decode(line)
        event = _decode_as_one_of(decoders().get(header.event_type, ()), line)
    except RecursionError as error:  # whose text differs from call to call
        raise DecodeError("not an event: it is nested too deeply") from error
    except _DECODING_ERRORS as error:
        raise DecodeError(f"not an event: {error}") from error
    if header.session_id is msgspec.UNSET:
        # The decoder has filled in the reader's session.
        force_setattr(event, "session_id", None)
    elif header.session_id is not None and "\\" in header.session_id:
        force_setattr(event, "session_id", unspell(header.session_id))
    return event


def _decode_as_one_of(candidates: Sequence[msgspec.json.Decoder[Event]], line: bytes | str) -> Event:
    if len(candidates) != 1:
        return _decode_as_fitting(candidates, line)
    try:
        return candidates[0].decode(line)
    except _DECODING_ERRORS:
        raise
    except _FOREIGN_ERRORS:
        return decode_unknown(line)


def _decode_as_fitting(candidates: Sequence[msgspec.json.Decoder[Event]], line: bytes | str) -> Event:
    fitting: list[Event] = []
    for decoder in candidates:
        with suppress(*_FOREIGN_ERRORS):
            fitting.append(decoder.decode(line))
    if not fitting:
        return decode_unknown(line)
    if len(fitting) == 1:
        return fitting[0]
    names = msgspec.json.decode(line, type=dict[str, msgspec.Raw]).keys()
    return min(fitting, key=lambda event: len(names - set(event.__struct_encode_fields__)))


@cache_until_next_class
def decoders() -> dict[str, tuple[msgspec.json.Decoder[Event], ...]]:
    """Return the decoders of the known classes by their wire names, those of the newest class first."""
    types = classes_by_wire_name()
    del types[str(UnknownEvent.__struct_config__.tag)]
    for wire_name, classes in types.items():
        if len({cls.__module__.partition(".")[0] for cls in classes}) > 1:
            _warn_of_shared_name(wire_name, classes)
    return {wire_name: tuple(_decoders_of(classes)) for wire_name, classes in types.items()}


def _decoders_of(classes: Sequence[type[Event]]) -> Iterator[msgspec.json.Decoder[Event]]:
    """Yield decoders, except of a class whose annotations msgspec cannot read: it spoils no other class."""
    for cls in classes:
        try:
            yield msgspec.json.Decoder(cls)
        except Exception as error:  # noqa: BLE001 - evaluating annotations may raise anything
            _logger.debug("%s cannot be decoded: %s", cls.__qualname__, error)


def _warn_of_shared_name(wire_name: str, classes: Sequence[type[Event]]) -> None:
    if wire_name not in _warned_of:
        _warned_of.add(wire_name)
        places = " and ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in classes)
        _logger.warning(
            "%s are both %r in a log, where the fields decide which one is meant. "
            'Give one a name of its own: class ...(Event, tag="...")',
            places,
            wire_name,
        )


class Header(msgspec.Struct):
    """The fields of a line that decide how it is decoded."""

    event_type: str
    session_id: str | msgspec.UnsetType | None = msgspec.UNSET


header_decoder = msgspec.json.Decoder(Header)


def decode_unknown(line: bytes | str) -> UnknownEvent:
    """Read an event as an `UnknownEvent`; raises msgspec's errors."""
    fields: dict[str, Any] = msgspec.json.decode(line)
    base = msgspec.convert({name: fields.pop(name) for name in _BASE_FIELDS if name in fields}, _BaseFields)
    wire_name = fields.pop("event_type")
    session_id = None if base.session_id is None else unspell(base.session_id)
    return UnknownEvent.kept_whole(session_id, base.timestamp, base.metadata, wire_name, fields)


class _BaseFields(msgspec.Struct):
    session_id: str | None = None
    timestamp: datetime = field(default_factory=utc_now)
    metadata: dict[str, Any] = field(default_factory=no_metadata)


_BASE_FIELDS = _BaseFields.__struct_fields__
