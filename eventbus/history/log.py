"""EventLog: everything that was persisted, by any process, as typed events."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TypeVar

from eventbus.contracts import EventTypes
from eventbus.events import Event
from eventbus.history.merging import Chain, Decode, merge
from eventbus.history.reading import OnDamage, Record
from eventbus.history.segment_files import SegmentFile, chains, find_segments
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Damage
from eventbus.settings import DEFAULT_DIRECTORY

__all__ = ["EventLog"]

_ItemT = TypeVar("_ItemT")
_logger = logging.getLogger("eventbus.history")
_time_of_event: Callable[[Event], datetime] = operator.attrgetter("timestamp")
_time_of_record: Callable[[Record], datetime] = operator.attrgetter("event.timestamp")


class EventLog:
    """The log in a directory: the events of all its segments, read as they are asked for.

        for event in EventLog():
            print(event.timestamp, event.session_id)

    A bus's records come in the order of their numbers, those of several buses in the order of time.
    Memory stays bounded, however much there is. What holds no record is passed over and told; what
    stands behind the last line feed of a segment is set aside in silence, for its writer may be
    about to finish it. Reading changes nothing.

    Args:
        directory: Where the log lives. By default the environment's ``EVENTBUS_DIR``, else
            ``.session-buddy``. One that is not there holds no events.
        on_damage: Is told of each place that is passed over; by default a warning is logged.

    Attributes:
        directory: Where it lives, absolute.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, on_damage: OnDamage | None = None
    ) -> None:
        given = directory or os.environ.get("EVENTBUS_DIR") or DEFAULT_DIRECTORY
        self.directory: Path = Path(os.path.abspath(given))  # noqa: PTH100 - as the persister does: no link is followed
        self._on_damage = on_damage or _warn

    def __repr__(self) -> str:
        return f"<EventLog {str(self.directory)!r}>"

    def __iter__(self) -> Iterator[Event]:
        """Iterate over all events."""
        return self.events()

    def segments(self) -> list[SegmentFile]:
        """Return the segments there are now, in the order of their starts.

        Raises:
            OSError: The directory is there and cannot be read.
        """
        return find_segments(self.directory)

    def events(
        self,
        *,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Event]:
        """Iterate over events: half the price of `records`.

        Args:
            session_id: Those of one session; None for all.
            types: Those of a class or a union of them, subclasses included.
            since: Those of this time or later; a naive one is local.
            until: Those before this time; a naive one is local.

        Raises:
            SubscriberError: `types` is something else.
            OSError: The directory is there and cannot be read.
        """
        selection = Selection(session_id, types, since, until)
        batches = self._merged(
            lambda reader, block: reader.events(block, selection), _time_of_event, self._on_damage
        )
        return chain.from_iterable(batches)

    def records(
        self,
        *,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Record]:
        """Iterate over events with their places; arguments and exceptions are those of `events`."""
        selection = Selection(session_id, types, since, until)
        batches = self._merged(
            lambda reader, block: reader.records(block, selection), _time_of_record, self._on_damage
        )
        return chain.from_iterable(batches)

    def damage(self) -> list[Damage]:
        """Read everything, and return each place that holds no record.

        Raises:
            OSError: The directory is there and cannot be read.
        """
        found: list[Damage] = []
        selection = Selection()
        for _ in self._merged(
            lambda reader, block: reader.events(block, selection), _time_of_event, found.append
        ):
            pass
        return found

    def _merged(
        self, decode: Decode[_ItemT], time_of: Callable[[_ItemT], datetime], on_damage: OnDamage
    ) -> Iterator[list[_ItemT]]:
        return merge([Chain(each, decode, time_of, on_damage) for each in chains(self.segments())])


def _warn(damage: Damage) -> None:
    _logger.warning(
        "%s: passed over %d bytes at %d: %s", damage.path, damage.length, damage.offset, damage.reason
    )
