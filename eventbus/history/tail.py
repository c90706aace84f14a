"""Follow a log: receive the records that other processes append.

A thread of its own polls the sizes of the segments every 50 ms and reads what was appended, so that
the event loop does no work in between, and a hanging disk does not block it.

Rejected: watchfiles. The kernel wakes its thread, but Python polls that thread, which saves too
little, and it does not see changes on network file systems. The figures are in docs/log.md.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel

from eventbus.delivery.own_thread import OwnThread
from eventbus.errors import StreamStateError
from eventbus.events.provenance import mark_read_from
from eventbus.history.directory_watch import DirectoryWatch
from eventbus.history.reading import Record

__all__ = ["Tail"]

_POLL_SECONDS = 0.05
_RECORDS_PER_TURN = 64


class Tail:
    """The records that other processes append to a log, made by `EventLog.follow`.

    It follows the log inside its ``async with`` block, under asyncio or trio, and does not end by
    itself. One task at a time reads it. A reader that is cancelled while it waits loses nothing.
    """

    def __init__(self, watch: DirectoryWatch, origin: str) -> None:
        self._watch = watch
        self._origin = origin
        self._thread = OwnThread("eventbus-log-follower")
        self._is_open = False
        self._is_closing = threading.Event()
        self._is_being_read = False
        self._reads = 0  # how often a reader has waited
        self._left_in_turn = _RECORDS_PER_TURN
        self._ready: deque[Record] = deque()
        self._taken: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        """Begin: records appended from here on will be received.

        Raises:
            OSError: The log exists and cannot be read.
        """
        try:
            await self._thread.run(self._watch.begin)
        except BaseException:
            self._thread.end()
            raise
        self._is_open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; records that have not been taken are dropped."""
        self._is_open = False
        self._is_closing.set()
        with anyio.move_on_after(1, shield=True):  # do not wait longer for a hanging disk
            await self._thread.run(self._ready.clear)
        self._thread.end()

    def __aiter__(self) -> Self:
        """Iterate over the records."""
        return self

    async def __anext__(self) -> Record:
        """Return the next record, waiting for it if necessary.

        Raises:
            StreamStateError: It has not been entered, or another task is reading it.
        """
        self._check_open()
        self._left_in_turn -= 1
        if not self._left_in_turn:  # a long history must not keep the event loop busy
            self._left_in_turn = _RECORDS_PER_TURN
            await anyio.lowlevel.checkpoint()
        while not self._ready:
            await self._read(self._gather)
        record = self._ready.popleft()
        self._taken[record.path.name] = record.offset + record.length
        return record

    async def poll(self) -> list[Record]:
        """Return records that were appended, without waiting for any: the list may be empty.

        For a screen, which looks at its own pace: the log is not polled in between. After a long list
        there may be more.

        Raises:
            StreamStateError: It has not been entered, or another task is reading it.
        """
        self._check_open()
        if self._ready:
            await anyio.lowlevel.checkpoint()
        else:
            await self._read(self._look)
        records = [*self._ready]
        self._ready.clear()
        self._taken.update({each.path.name: each.offset + each.length for each in _last_of_each(records)})
        return records

    def _check_open(self) -> None:
        if not self._is_open:
            raise StreamStateError("this is not open. Read it inside `async with log.follow() as records:`")

    @property
    def position(self) -> dict[str, int]:
        """The byte up to which each segment has been taken, by its file's name.

        Pass it to `EventLog.follow` to continue after the last record taken.
        """
        return {**self._watch.start_positions, **self._taken}

    async def _read(self, look: Callable[[int], object]) -> None:
        if self._is_being_read:
            raise StreamStateError("another task is reading this. Follow the log once for each reader")
        self._is_being_read = True
        self._reads += 1
        try:
            await self._thread.run(look, self._reads)
        finally:
            self._is_being_read = False

    def _gather(self, read: int) -> None:
        """Wait in the thread until a record is ready; after a cancelled read, the next one gets it.

        The next read also ends the wait of a cancelled one: otherwise a reader with timeouts would leave
        one call after the other waiting for the thread.
        """
        while not self._ready and read == self._reads and not self._is_closing.is_set():
            if not self._look(read):
                self._is_closing.wait(_POLL_SECONDS)

    def _look(self, _: int) -> list[Record]:
        records = self._watch.poll()
        for record in records:
            mark_read_from(record.event, self._origin)
        self._ready.extend(records)
        return records


def _last_of_each(records: list[Record]) -> Iterable[Record]:
    """Return the last record of each segment."""
    return {id(each.path): each for each in records}.values()
