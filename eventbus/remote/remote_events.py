"""RemoteEvents: the events that all hosts have shipped, as they come, under asyncio or trio.

async with RemoteEvents() as events:
    await events.publish_to(bus)
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import anyio
import anyio.lowlevel
import msgspec

from eventbus.contracts import EventTypes
from eventbus.delivery.alarm import move_on_after
from eventbus.delivery.doorbell import Waiter
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.errors import RemoteError, StreamStateError
from eventbus.event_classes import event_classes
from eventbus.events import Event
from eventbus.events.codec import decode
from eventbus.events.printable import printable
from eventbus.events.provenance import mark_as_remote
from eventbus.remote.connection import check_usable
from eventbus.remote.nats_loop import END_SECONDS, NatsLoop
from eventbus.remote.remote_settings import load_remote_settings
from eventbus.remote.seen import Seen
from eventbus.remote.stream_reader import Batch, Message, StreamPosition, StreamReader
from eventbus.remote.subjects import ANY, token, type_filter

if TYPE_CHECKING:
    from eventbus.bus import EventBus
    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["ReaderStatistics", "RemoteEvents"]

_BEGIN_SECONDS = 5.0
_MAX_BATCHES = 2
_EVENTS_PER_TURN = 64
_MAX_WARNING = 1_000

_Start: TypeAlias = Literal["now", "beginning"] | StreamPosition

_logger = logging.getLogger("eventbus.remote")


class ReaderStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader of the stream has received so far.

    Attributes:
        received: How many events.
        duplicates: How many messages it left out, because it had received their events.
        missing: How many numbers of records are missing between received ones: lost events. Counted only
            by a reader of all sessions and all types.
        unreadable: How many messages are not events.
        connections: How many connections were made.
        problem: What hinders it now, as one line; empty if nothing does.
    """

    received: int = 0
    duplicates: int = 0
    missing: int = 0
    unreadable: int = 0
    connections: int = 0
    problem: str = ""


class RemoteEvents:
    """The events that all hosts have shipped, marked as remote: no persister writes them.

    They are received inside the ``async with`` block, which does not end by itself. One task at a time reads.
    Each event comes once, in its writer's order. A reader that is cancelled while it waits loses nothing.
    Nothing is raised because of the server: what hinders the reader is logged, at most every 20 s.

    Args:
        settings: The server; by default the settings in force.
        start: ``"now"``, ``"beginning"``, or the `position` of an earlier reader.
        session_id: Only events of this session; None for all.
        types: Only events of this class or union of classes; subclasses are included.

    Raises:
        SettingsError: No server is set, or a setting is wrong.
        SubscriberError: `types` is not an event class or a union of them.
    """

    def __init__(
        self,
        settings: RemoteSettings | None = None,
        *,
        start: _Start = "now",
        session_id: str | None = None,
        types: EventTypes = Event,
    ) -> None:
        self._settings = settings or load_remote_settings()
        self._types = event_classes(types)
        filters = type_filter(types, ANY if session_id is None else token(session_id))
        self._reads_all = session_id is None and Event in self._types
        self._reader = StreamReader(self._settings, filters, self._take, self._begin_again)
        self._start = start
        self._loop = NatsLoop("eventbus-reader-nats")
        self._warnings = RateLimitedLog(_logger, "remote events:")
        self._seen = Seen()
        self._statistics = ReaderStatistics()
        self._batches: deque[tuple[deque[Event], StreamPosition]] = deque()
        self._current: deque[Event] = deque()
        self._next_position: StreamPosition | None = None
        self._has_room: anyio.Event | None = None  # of the loop of nats-py
        self._waiter: Waiter | None = None
        self._begun: Waiter | None = None
        self._told_missing = 0
        self._pid = 0
        self._is_open = self._is_being_read = False
        self._left_in_turn = _EVENTS_PER_TURN
        self.position: StreamPosition | None = start if isinstance(start, StreamPosition) else None
        """Behind the events that were returned; None before the first. What follows it may come again."""

    def statistics(self) -> ReaderStatistics:
        """Return what was received so far; from any thread, also afterwards."""
        return self._statistics

    async def __aenter__(self) -> Self:
        """Begin: what is shipped from here on is received, if the server can be reached within 5 s.

        Raises:
            RemoteError: nats-py is not installed, the server is to be reached in clear text, or this was
                entered before.
        """
        if self._pid:
            raise RemoteError("these remote events were read before", "Make another RemoteEvents")
        check_usable(self._settings)
        self._pid = os.getpid()
        self._waiter, self._begun = Waiter(), Waiter()
        self._reader.position = self.position
        self._loop.start()
        self._loop.begin(self._run)
        self._is_open = True
        try:
            with move_on_after(_BEGIN_SECONDS):
                await self._begun.wait()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End, within two seconds; what was not returned is left."""
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StreamStateError: Outside the block, or while another task reads.
        """
        if not self._is_open or self._pid != os.getpid():
            raise StreamStateError("these remote events are read inside their `async with` block only")
        if self._is_being_read:
            raise StreamStateError("another task is reading these remote events")
        self._is_being_read = True
        try:
            await self._wait()
        finally:
            self._is_being_read = False
        return self._current.popleft()

    async def publish_to(self, bus: EventBus) -> int:
        """Publish each event onto a bus, until the bus is closed or this task is cancelled.

        It waits while a mailbox with the overflow `WAIT` is full.

        Returns:
            How many events the bus accepted.
        """
        accepted = 0
        async for event in self:
            if not await bus.publish_wait(event):
                break
            accepted += 1
        return accepted

    # In the consumer's task.

    async def _wait(self) -> None:
        """Wait until `_current` has an event; a checkpoint now and then."""
        self._left_in_turn -= 1
        if self._left_in_turn <= 0:
            self._left_in_turn = _EVENTS_PER_TURN
            await anyio.lowlevel.checkpoint()
        while not self._current:
            if self._next_position is not None:
                self.position = self._next_position
            if self._batches:
                self._current, self._next_position = self._batches.popleft()
                self._loop.begin(self._note_room)
            elif self._waiter is not None:
                self._left_in_turn = _EVENTS_PER_TURN
                await self._waiter.wait()
                self._waiter.reset()

    async def _close(self) -> None:
        self._is_open = False
        if self._pid == os.getpid():  # a forked child has no such thread
            self._loop.end()
            await self._loop.wait_ended(END_SECONDS)

    # In the loop of nats-py.

    async def _run(self) -> None:
        while self._start == "now" and self._reader.position is None:
            try:
                await self._reader.begin_at_end()
            except RemoteError as error:
                self._warn(error)
                await anyio.sleep(1.0)
        await self._reader.read_on(self._warn, self._note_begin)

    def _note_begin(self) -> None:
        self._change(problem="", connections=self._reader.connections)
        if self._begun is not None:
            self._begun.notify()

    async def _take(self, batch: Batch) -> None:
        events = deque(self._new_events(batch.messages))
        self._change(
            received=self._statistics.received + len(events),
            missing=self._seen.missing if self._reads_all else 0,
            unreadable=self._statistics.unreadable + batch.unreadable,
        )
        self._warn_of_losses(batch)
        self._batches.append((events, batch.position))
        if self._waiter is not None:
            self._waiter.notify()
        while len(self._batches) >= _MAX_BATCHES:
            self._has_room = anyio.Event()
            if len(self._batches) >= _MAX_BATCHES:  # `popleft` is in another thread
                await self._has_room.wait()

    async def _note_room(self) -> None:
        if self._has_room is not None:
            self._has_room.set()

    def _new_events(self, messages: Iterable[Message]) -> Iterable[Event]:
        for each in messages:
            if not self._seen.add(each.record, each.left_out):
                self._change(duplicates=self._statistics.duplicates + 1)
                continue
            try:
                event = decode(each.payload)
            except ValueError:
                self._change(unreadable=self._statistics.unreadable + 1)
                continue
            if isinstance(event, self._types):
                yield mark_as_remote(event)

    def _begin_again(self) -> None:
        self._say("stream", "the stream is another one, or was set back: it is read from its beginning")

    def _warn_of_losses(self, batch: Batch) -> None:
        if batch.unreadable:
            self._say("unreadable", f"left out {batch.unreadable} messages that are not events")
        if self._statistics.missing > self._told_missing:
            self._say("missing", f"{self._statistics.missing} events are missing in the stream: lost")
        self._told_missing = self._statistics.missing

    def _warn(self, error: RemoteError) -> None:
        self._say(error.problem, str(error))
        if self._begun is not None:
            self._begun.notify()

    def _say(self, cause: str, what: str) -> None:
        self._change(problem=printable(what, _MAX_WARNING))
        self._warnings.warn(cause, self._statistics.problem)

    def _change(self, **changes: object) -> None:
        self._statistics = msgspec.structs.replace(self._statistics, **changes)
