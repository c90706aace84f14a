"""Follow a log: the records other processes append, as they append them.

A thread of its own looks every 50 ms at the sizes of the segments that may still grow, and reads
what is new: the loop does nothing meanwhile, and a disk that hangs does not hold it up.

Rejected: watchfiles. Its thread is woken by the kernel, but Python polls that thread, so it saves too
little; and it sees nothing on network file systems. The figures are in docs/log.md.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel

from eventbus.delivery.own_thread import OwnThread
from eventbus.errors import StreamStateError
from eventbus.events.provenance import mark_read_from
from eventbus.history.directory_watch import Watch
from eventbus.history.reading import Record

__all__ = ["POLL_SECONDS", "Tail"]

POLL_SECONDS = 0.05
"""So often the segments are looked at."""

_RECORDS_PER_TURN = 64


class Tail:
    """The records other processes append to a log, made by `EventLog.follow`.

    It follows from entering its ``async with`` block to leaving it, under asyncio or trio, and does
    not end by itself. One task reads it at a time; cancelled while it waits, it has lost nothing.
    """

    def __init__(self, watch: Watch, origin: str) -> None:
        self._watch = watch
        self._origin = origin
        self._thread = OwnThread("eventbus-log-follower")
        self._is_open = False
        self._is_closing = threading.Event()
        self._is_being_read = False
        self._turn = _RECORDS_PER_TURN
        self._ready: deque[Record] = deque()
        self._taken: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        """Begin: whatever is appended from here on will be seen.

        Raises:
            OSError: The log is there and cannot be read.
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
        """End; what has been read and not been taken is forgotten."""
        self._is_open = False
        self._is_closing.set()
        with anyio.move_on_after(1, shield=True):  # a disk that hangs keeps nobody here for longer
            await self._thread.run(self._ready.clear)
        self._thread.end()

    def __aiter__(self) -> Self:
        """Iterate over the records that come."""
        return self

    async def __anext__(self) -> Record:
        """Return the next record, waiting for it if there is none yet.

        Raises:
            StreamStateError: It has not been entered, or another task is reading it.
            OSError: The log cannot be read.
        """
        if not self._is_open:
            raise StreamStateError("this is not open. Read it inside `async with log.follow() as records:`")
        self._turn -= 1
        if not self._turn:  # a long history must not keep the loop to itself
            self._turn = _RECORDS_PER_TURN
            await anyio.lowlevel.checkpoint()
        while not self._ready:
            await self._wait()
        record = self._ready.popleft()
        self._taken[record.path.name] = record.offset + record.length
        return record

    @property
    def position(self) -> dict[str, int]:
        """Where it is; give it to `EventLog.follow` to go on behind the last record taken.

        By the name of each segment, the byte up to which it has been taken.
        """
        return {**self._watch.passed, **self._taken}

    async def _wait(self) -> None:
        if self._is_being_read:
            raise StreamStateError("another task is reading this. Follow the log once for each reader")
        self._is_being_read = True
        try:
            await self._thread.run(self._gather)
        finally:
            self._is_being_read = False

    def _gather(self) -> None:
        """Have a record ready, in the thread. What a cancelled reader asked for is the next one's."""
        while not self._ready and not self._is_closing.is_set():
            records = self._watch.look()
            for record in records:
                mark_read_from(record.event, self._origin)
            self._ready.extend(records)
            if not records:
                self._is_closing.wait(POLL_SECONDS)
