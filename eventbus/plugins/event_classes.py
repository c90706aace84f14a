"""The event classes of a plugin: which ones its target names, and which of them must be refused.

In one process two libraries may use one wire name, and the fields decide. In a log that everyone reads a
plugin must not decide what others' events are: the class that had the name first keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from itertools import chain
from types import ModuleType
from typing import TypeGuard

import msgspec

from eventbus.errors import PluginError
from eventbus.events.event import Event, classes_by_wire_name, refuse_class
from eventbus.events.printable import printable
from eventbus.plugins.quick_look import EVENTS

__all__ = ["Owners", "named_classes"]

_RESERVED = {"segment_started": "the first line of a segment"}
_OURS = "eventbus."


def named_classes(target: str) -> list[type[Event]]:
    """Import the target of an entry point, and return its event classes.

    Args:
        target: A module, whose event classes are those that it has as names, or ``module:Class``.

    Raises:
        PluginError: There is no event class. The code of the module may raise anything.
    """
    loaded: object = EntryPoint("", target, EVENTS).load()
    is_module = isinstance(loaded, ModuleType)
    found = dict.fromkeys(filter(_is_class, vars(loaded).values() if is_module else [loaded]))
    classes = [each for each in found if issubclass(each, Event) and not _is_ours(each)]
    if not classes:
        what = "has no event class of its own" if is_module else "is not an event class of its own"
        raise PluginError(f"{target} {what}: class DeployFinished(Event)")
    return classes


class Owners:
    """The class that each wire name means in a log; those of `eventbus` own theirs from the beginning."""

    def __init__(self) -> None:
        known = chain.from_iterable(classes_by_wire_name().values())
        self._owners = {_wire_name(cls): _place(cls) for cls in known if _is_ours(cls)}
        self._owners |= _RESERVED

    def refusals(self, classes: list[type[Event]]) -> Iterator[str]:
        """Let classes own their wire names; refuse each one that cannot, and yield the reason."""
        for cls in classes:
            reason = self._reason(cls)
            if reason:
                refuse_class(cls)
                yield printable(f"{_place(cls)} is refused: {reason}")

    def _reason(self, cls: type[Event]) -> str:
        try:
            msgspec.json.Decoder(cls)
        except Exception as error:  # noqa: BLE001 - evaluating annotations may raise anything
            return f"it cannot be decoded: {error}"
        owner = self._owners.setdefault(_wire_name(cls), _place(cls))
        if owner == _place(cls):
            return ""
        return f'in a log {_wire_name(cls)!r} is {owner}; give it a name of its own: tag="..."'


def _is_class(value: object) -> TypeGuard[type]:
    return isinstance(value, type)


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith(_OURS)


def _wire_name(cls: type[Event]) -> str:
    return str(cls.__struct_config__.tag)


def _place(cls: type[Event]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
