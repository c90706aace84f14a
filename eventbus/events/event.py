"""`Event`, the base of every event, and the registry of its subclasses.

A subclass is registered by its definition:

    class DeployFinished(Event):
        target: str

Its wire name, ``event_type``, is its class name in snake case: ``deploy_finished``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Self, TypeVar, dataclass_transform
from weakref import WeakSet

import msgspec
from msgspec import field
from msgspec.structs import force_setattr

from eventbus.events.json_safe import json_safe_mapping
from eventbus.session import current_session_id

__all__ = [
    "NO_METADATA",
    "Event",
    "cache_until_next_class",
    "classes_by_wire_name",
    "event_types",
    "no_metadata",
    "refuse_class",
    "utc_now",
]

_T = TypeVar("_T")
_cache_clears: list[Callable[[], None]] = []
_refused: WeakSet[type] = WeakSet()

utc_now = partial(datetime.now, UTC)


def _wire_name(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()


class _NoMetadata(dict[str, Any]):
    """The empty metadata that most events share: one dict per event would take a third of its memory."""

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("an event is a frozen fact. Pass its metadata when you build it")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Raise `TypeError`: `dict.setdefault` does not call `__setitem__`."""
        self[key] = default

    def update(self, *others: Any, **items: Any) -> None:
        """Raise `TypeError`: `dict.update` does not call `__setitem__`."""
        self["update"] = (others, items)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self


NO_METADATA = _NoMetadata()


def no_metadata() -> dict[str, Any]:
    """Return the empty metadata that events share."""
    return NO_METADATA


# gc=False: events wait by the thousand in mailboxes, and a collector that walks over them makes a
# burst of 200,000 five times slower. In exchange an event must not be part of a reference cycle.
# The decorator gives type checkers the options that subclasses inherit: frozen, keyword-only.
@dataclass_transform(field_specifiers=(field,), kw_only_default=True, frozen_default=True)
class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event_type", tag=_wire_name):
    """The base of every event: its session, its time and its metadata.

    A subclass's fields must not refer back to the event: the garbage collector ignores events, so
    such a cycle is never freed. A class that a subclass also inherits from needs ``__slots__ = ()``.
    A subclass may be generic; its type arguments are known to type checkers only. Events can be
    compared, hashed, copied and pickled.

    Attributes:
        session_id: The id that joins events of different producers. Default: the current session
            (see `eventbus.session`), None outside any.
        timestamp: When it happened, aware, in UTC (ISO 8601 on the wire). A naive time is read as
            local time. For people and for joining processes: events are ordered by the bus's numbers.
        metadata: Further values, as a bounded, JSON-safe copy of the mapping passed. Values that
            cannot be written as JSON are replaced, never refused.
    """

    session_id: str | None = field(default_factory=current_session_id)
    timestamp: datetime = field(default_factory=utc_now)
    metadata: dict[str, Any] = field(default_factory=no_metadata)

    def __init_subclass__(cls) -> None:
        """Make the class known to `decode`."""
        super().__init_subclass__()  # of `Generic`, and of mixins
        _forget_classes()

    def __post_init__(self) -> None:
        """Copy the metadata and convert the timestamp to UTC."""
        if self.metadata is not NO_METADATA:
            force_setattr(
                self, "metadata", json_safe_mapping(self.metadata) if self.metadata else NO_METADATA
            )
        if self.timestamp.tzinfo is not UTC:
            force_setattr(self, "timestamp", self.timestamp.astimezone(UTC))

    def __hash__(self) -> int:
        """Hash all fields except the metadata, or only the time if one of them cannot be hashed."""
        # msgspec's own hash fails for the metadata, a dict, although it is never changed.
        fields = [getattr(self, name) for name in self.__struct_fields__ if name != "metadata"]
        try:
            return hash((type(self), *fields))
        except TypeError:
            return hash((type(self), self.timestamp))


def event_types() -> dict[str, type[Event]]:
    """Return every event class of this process by its wire name; of several with one name the newest."""
    return {wire_name: classes[0] for wire_name, classes in classes_by_wire_name().items()}


def classes_by_wire_name() -> dict[str, tuple[type[Event], ...]]:
    """Return the event classes of this process by their wire names, the newest of a name first.

    Two libraries may use one name. Of classes that have the same module and name, too, only the newest
    counts: it was defined again.
    """
    found: dict[str, dict[tuple[str, str], type[Event]]] = {}
    waiting: list[type[Event]] = [Event]
    while waiting:
        cls = waiting.pop(0)
        waiting.extend(cls.__subclasses__())
        if cls in _refused:
            continue
        place = (cls.__module__, cls.__qualname__)
        of_name = found.setdefault(str(cls.__struct_config__.tag), {})
        of_name.pop(place, None)
        of_name[place] = cls
    return {wire_name: tuple(reversed(found[wire_name].values())) for wire_name in sorted(found)}


def refuse_class(cls: type[Event]) -> None:
    """Decode no event as this class, from now on; its subclasses are not affected."""
    _refused.add(cls)
    _forget_classes()


def cache_until_next_class(function: Callable[[], _T]) -> Callable[[], _T]:
    """Cache a function's result until another event class is defined."""
    cached = cache(function)
    _cache_clears.append(cached.cache_clear)
    return cached


def _forget_classes() -> None:
    for clear in _cache_clears:
        clear()
