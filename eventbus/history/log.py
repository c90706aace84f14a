"""EventLog: the persisted events of all processes, as typed events."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from eventbus.contracts import EventT, EventTypes
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.events import Event
from eventbus.events.printable import printable
from eventbus.history.checking import Problem, check
from eventbus.history.directory_watch import DirectoryWatch, Start
from eventbus.history.merging import Decode, WriterSegments, merge
from eventbus.history.reading import OnDamage, Record, time_of_event, time_of_record
from eventbus.history.repair import Repair, repair_segment
from eventbus.history.replaying import publish_all
from eventbus.history.segment_files import SegmentFile, find_segments, segments_by_writer
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Damage
from eventbus.history.tail import Tail
from eventbus.settings import log_directory

if TYPE_CHECKING:
    from eventbus.bus import EventBus

__all__ = ["EventLog"]

_ItemT = TypeVar("_ItemT")
_MAX_WARNING = 1_000
_logger = logging.getLogger("eventbus.history")


class EventLog:
    """The log in a directory: the events of all its segments, read while they are iterated over.

        for event in EventLog():
            print(event.timestamp, event.session_id)

    Records of one bus come in the order of their numbers, records of several buses in the order of
    time. Memory stays bounded, however long the log is. Damage is skipped and reported. An incomplete
    last line of a segment is skipped without a report, because its writer may still complete it.
    Reading does not change the log.

    Args:
        directory: The log's directory, by default `eventbus.log_directory()`. A missing directory is
            an empty log.
        on_damage: Called with each place that is skipped. By default a warning is logged, at most one
            for each segment in 20 seconds.

    Attributes:
        directory: The log's directory, absolute.
        on_damage: Called with each place that is skipped.

    Raises:
        ValueError: The directory's name is not a valid path.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, on_damage: OnDamage | None = None
    ) -> None:
        self.directory: Path = Path(log_directory(directory))
        with suppress(OSError):  # the working directory is gone: reading will fail, and say so
            self.directory = Path(os.path.abspath(self.directory))  # noqa: PTH100 - as the persister does: no link is followed
        self._origin = str(self.directory)
        with suppress(OSError):
            self._origin = os.path.realpath(self.directory)
        self._failures = RateLimitedLog(_logger, "the event log:")
        self.on_damage: OnDamage = on_damage or self._warn

    def __repr__(self) -> str:
        return f"<EventLog {str(self.directory)!r}>"

    def __iter__(self) -> Iterator[Event]:
        """Iterate over all events."""
        return self.events()

    def segments(self) -> list[SegmentFile]:
        """Return the existing segments in the order of their starts.

        Raises:
            OSError: The directory exists and cannot be read.
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
        """Iterate over events, in half the time of `records`.

        Args:
            session_id: Only events of this session; None for all events.
            types: Only events of this class or union of classes; subclasses are included.
            since: Only events of this time or later; a naive time is local.
            until: Only events before this time; a naive time is local.

        Raises:
            SubscriberError: `types` is not an event class or a union of them.
            OSError: The directory exists and cannot be read.
        """
        selection = Selection(session_id, types, since, until)
        return chain.from_iterable(self._batches(selection, self.on_damage))

    def records(
        self,
        *,
        session_id: str | None = None,
        types: EventTypes = Event,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Record]:
        """Iterate over events with their places; arguments and exceptions are the same as of `events`."""
        selection = Selection(session_id, types, since, until)
        batches = self._merged(
            lambda reader, block: reader.records(block, selection), time_of_record, self.on_damage
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
        """Receive the records that other processes append, within 100 ms, without an end.

            async with log.follow() as records:
                async for record in records:
                    ...

        Each record comes once, in its writer's order. Across writers, existing records come in the
        order of time, and appended ones as they are found. While the log is followed, segments may
        be created, rotated, deleted or replaced. The log need not exist yet.

        Received events can be published onto a bus with a persister that writes to this log: the
        persister skips them, since the log contains them already.

        Args:
            start: ``"now"``, ``"beginning"``, or a `Tail.position` to continue from; segments that
                the position does not contain are read from their beginning.
            session_id: As for `events`.
            types: As for `events`.
            since: As for `events`.
            until: As for `events`.
            include_own: Receive the records of this process's own buses, too.

        Raises:
            SubscriberError: `types` is not an event class or a union of them.
            ValueError: `start` is something else.
        """
        selection = Selection(session_id, types, since, until)
        watch = DirectoryWatch(self.directory, start, selection, include_own, self.on_damage)
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
        """Publish stored events onto a bus, unchanged, in the order of the log.

        It uses `publish_wait`, which waits while a mailbox with the overflow `WAIT` is full. A
        persister on the bus that writes to this log skips the events.

        Args:
            bus: The bus.
            session_id: As for `events`.
            types: As for `events`.
            since: As for `events`.
            until: As for `events`.

        Returns:
            How many events the bus accepted; closing the bus ends the replay.

        Raises:
            SubscriberError: `types` is not an event class or a union of them.
            OSError: The directory exists and cannot be read.
        """
        selection = Selection(session_id, types, since, until)
        return await publish_all(self._batches(selection, self.on_damage), bus, self._origin)

    def damage(self) -> list[Damage]:
        """Read the whole log, and return each place that contains no record.

        Raises:
            OSError: The directory exists and cannot be read.
        """
        found: list[Damage] = []
        for _ in self._batches(Selection(), found.append):
            pass
        return found

    def check(self) -> Iterator[Problem]:
        """Read the whole log, and yield everything that is not as it should be.

        Raises:
            OSError: The directory exists and cannot be read.
        """
        return check(self.directory)

    def repair(self) -> list[Repair]:
        """Move the torn tails of dead writers to files beside their segments.

        Segments of live writers are left alone. Damage inside a segment is left where it is, as
        readers skip it. Repairing again changes nothing.

        Returns:
            The repairs.

        Raises:
            OSError: A segment cannot be read or written.
        """
        return [repair for each in self.segments() if (repair := repair_segment(each)) is not None]

    def _batches(self, selection: Selection, on_damage: OnDamage) -> Iterator[list[Event]]:
        return self._merged(lambda reader, block: reader.events(block, selection), time_of_event, on_damage)

    def _merged(
        self, decode: Decode[_ItemT], time_of: Callable[[_ItemT], datetime], on_damage: OnDamage
    ) -> Iterator[list[_ItemT]]:
        writers = segments_by_writer(self.segments())
        return merge([WriterSegments(each, decode, time_of, on_damage) for each in writers])

    def _warn(self, damage: Damage) -> None:
        place = printable(f"{damage.path}:{damage.offset}", _MAX_WARNING)
        message = f"skipped {damage.length} bytes at {place}: {printable(damage.reason)}"
        self._failures.warn(str(damage.path), message)
