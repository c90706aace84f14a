"""EventLog: everything that was persisted, by any process, as typed events."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, overload

from eventbus.bus import EventBus
from eventbus.contracts import EventT, EventTypes
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.events import Event
from eventbus.events.printable import printable
from eventbus.history.checking import Problem, examine
from eventbus.history.directory_watch import Start, Watch
from eventbus.history.merging import Chain, Decode, merge
from eventbus.history.reading import OnDamage, Record
from eventbus.history.repair import Repair, repair_segment
from eventbus.history.replaying import publish_all
from eventbus.history.segment_files import SegmentFile, chains, find_segments
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Damage
from eventbus.history.tail import Tail
from eventbus.settings import log_directory

__all__ = ["EventLog"]

_ItemT = TypeVar("_ItemT")
_MAX_WARNING = 1_000
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
        directory: Where the log lives; by default `eventbus.log_directory()`. One that is not there
            holds no events.
        on_damage: Is told of each place that is passed over; by default a warning is logged, one for
            each segment in 20 seconds.

    Attributes:
        directory: Where it lives, absolute.

    Raises:
        ValueError: The directory's name cannot be one.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, on_damage: OnDamage | None = None
    ) -> None:
        self.directory: Path = Path(os.path.abspath(log_directory(directory)))  # noqa: PTH100 - as the persister does: no link is followed
        self._origin = os.path.realpath(self.directory)
        self._failures = RateLimitedLog(_logger, "the event log:")
        self._on_damage = on_damage or self._warn

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

    @overload
    def events(
        self,
        *,
        session_id: str | None = None,
        types: type[EventT],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[EventT]: ...

    @overload
    def events(
        self,
        *,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Event]: ...

    def events(
        self,
        *,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Any]:
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
        return chain.from_iterable(self._batches(selection, self._on_damage))

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

    def follow(
        self,
        start: Start = "now",
        *,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
        include_own: bool = False,
    ) -> Tail:
        """Get what other processes append, within 100 ms, as long as one likes.

            async with log.follow() as records:
                async for record in records:
                    ...

        Each record comes once, in its writer's order; across writers what is there at the start
        comes in the order of time, and what is appended later as it is found. Segments may come,
        be rotated, deleted or replaced meanwhile, and the log need not be there yet.

        Events that came this way can be published onto a bus whose persister writes to this log:
        it leaves them out, they are in the log already.

        Args:
            start: ``"now"``, ``"beginning"``, or a `Tail.position` to go on from; of segments
                that it does not know it is the beginning.
            session_id: As for `events`.
            types: As for `events`.
            since: As for `events`.
            until: As for `events`.
            include_own: Get what the buses of this process write, too.

        Raises:
            SubscriberError: `types` is something else.
            ValueError: `start` is something else.
        """
        selection = Selection(session_id, types, since, until)
        watch = Watch(self.directory, start, selection, include_own, self._on_damage)
        return Tail(watch, self._origin)

    async def replay(
        self,
        bus: EventBus,
        *,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Publish stored events onto a bus, as they were, in the order of the log.

        With `publish_wait`: where a mailbox whose overflow is `WAIT` is full, it waits. A persister
        on the bus that writes to this log leaves them out.

        Args:
            bus: Where to publish.
            session_id: As for `events`.
            types: As for `events`.
            since: As for `events`.
            until: As for `events`.

        Returns:
            How many events the bus accepted; it ends when the bus is closed.

        Raises:
            SubscriberError: `types` is something else.
            OSError: The directory is there and cannot be read.
        """
        selection = Selection(session_id, types, since, until)
        return await publish_all(self._batches(selection, self._on_damage), bus, self._origin)

    def damage(self) -> list[Damage]:
        """Read everything, and return each place that holds no record.

        Raises:
            OSError: The directory is there and cannot be read.
        """
        found: list[Damage] = []
        for _ in self._batches(Selection(), found.append):
            pass
        return found

    def examine(self) -> Iterator[Problem]:
        """Read everything, and yield whatever is not as it should be.

        Raises:
            OSError: The directory is there and cannot be read.
        """
        return examine(self.directory)

    def repair(self) -> list[Repair]:
        """Set the torn tails of writers that died aside, in files beside their segments.

        Segments whose writers live are left alone, and so is damage amid a segment: it is passed
        over by whoever reads. Repairing again changes nothing.

        Returns:
            What was done.

        Raises:
            OSError: A segment cannot be read or written.
        """
        return [repair for each in self.segments() if (repair := repair_segment(each)) is not None]

    def _batches(self, selection: Selection, on_damage: OnDamage) -> Iterator[list[Event]]:
        return self._merged(lambda reader, block: reader.events(block, selection), _time_of_event, on_damage)

    def _merged(
        self, decode: Decode[_ItemT], time_of: Callable[[_ItemT], datetime], on_damage: OnDamage
    ) -> Iterator[list[_ItemT]]:
        return merge([Chain(each, decode, time_of, on_damage) for each in chains(self.segments())])

    def _warn(self, damage: Damage) -> None:
        where = printable(f"{damage.path}:{damage.offset}", _MAX_WARNING)
        what = f"passed over {damage.length} bytes at {where}: {printable(damage.reason)}"
        self._failures.warn(str(damage.path), what)
