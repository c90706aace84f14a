"""A bounded FIFO of events, and what happens when it is full.

The rules:

- It holds at most `capacity` events. Its `Overflow` decides which events beyond that are lost.
- Lost events are counted, and an `EventsLost` stands in their place for readers that want those. It
  does not count towards the capacity.
- ``accepted == delivered + lost + queued``, always. An event is delivered when it is taken.

An exception may strike a publisher while it puts, and another publisher then puts the same events once
more. So putting goes in steps of which each can be repeated: an iterator that has been used up adds
nothing, and a count is set to what it shall be rather than increased.

The mailbox has no loop, never waits and does no I/O. Any thread may put, inside the critical section;
one consumer takes. Before the first overflow taking needs no lock: it *is* the deque's own `popleft`, one
atomic call. From the overflow on it locks, so that a gap is never reported on the wrong side of an
event, until the mailbox has run empty. The consumer need not be told in time: what is queued moves, in
one call, to a deque that it does not know, and the one it takes from is empty. Locking every take would
cost more than the rest of a delivery.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeAlias, cast

from eventbus.contracts import Overflow
from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.cut import Cut
from eventbus.delivery.entries import Entry, Envelope, Gap, event_of
from eventbus.delivery.event_numbers import EventNumbers
from eventbus.delivery.taking import taking, taking_last
from eventbus.delivery.waiting_room import EMPTY_WAITING_ROOM, WaitingRoom
from eventbus.events import Event

__all__ = ["Mailbox"]


_Put: TypeAlias = "tuple[int, int, int, Iterator[Entry]]"
"""Entries that are being put: the bus's number of the first, how many had been accepted before, how many
have been with them, and those that are not in the queue yet."""


_Taking: TypeAlias = "Callable[[deque[Entry | Gap], int], Iterator[object]]"


class Mailbox:
    """A bounded FIFO that drops its oldest events, or refuses the newest, when it is full.

    Args:
        section: The critical section in which events are put.
        capacity: The most events it holds.
        overflow: Which events are lost when it is full. With `Overflow.WAIT` events put into a full
            mailbox are lost: publishers that can wait put when there is room.
        reports_losses: Whether an `EventsLost` is taken where events are missing.
    """

    __slots__ = (
        "_cut",
        "_gaps",
        "_lost_at_close",
        "_numbers",
        "_open",
        "_put",
        "_queue",
        "_section",
        "accepted",
        "capacity",
        "closed",
        "contents",
        "had_envelopes",
        "high_water",
        "lost",
        "on_ready",
        "overflow",
        "reports_losses",
        "take",
        "waiting_room",
    )

    accepted: int
    contents: Collection[object]
    high_water: int
    lost: int

    def __init__(
        self, section: CriticalSection, capacity: int, overflow: Overflow, *, reports_losses: bool
    ) -> None:
        self._section = section
        self._queue: deque[Entry | Gap] = deque()
        self._open: deque[Entry | Gap] | None = None  # what the consumer takes from without a lock
        self._gaps = 0  # how many of the places in the queue are gaps
        self._numbers = EventNumbers()
        self._put: _Put = (0, 0, 0, iter(()))
        self._cut: Cut | None = None  # of the entries that are being put
        self._lost_at_close = 0
        self.capacity: int = capacity
        self.overflow: Overflow = overflow
        self.reports_losses: bool = reports_losses
        self.accepted = 0
        self.lost = 0
        self.high_water = 0
        self.closed: bool = False
        self.had_envelopes: bool = False  # ever: looking for them costs a tenth of a batch
        self.waiting_room: WaitingRoom = WaitingRoom() if overflow is Overflow.WAIT else EMPTY_WAITING_ROOM
        self.contents = self._queue
        """Empty when there is nothing to take, neither an event nor a gap."""
        self.on_ready: Callable[[], None] | None = None
        """Set by a consumer that is about to sleep: called once when something has been put."""
        self.take: Callable[[], Entry] = self._take_locked
        """Take the next entry out; IndexError when there is none."""
        self._open_queue()

    def __len__(self) -> int:
        """How many events are queued."""
        return len(self.contents) - self._gaps

    def is_full(self) -> bool:
        """Whether one more event would overflow."""
        return len(self) >= self.capacity

    def lag(self) -> float:
        """Seconds since the oldest queued event happened; 0.0 when none is queued."""
        oldest = self._oldest()
        return 0.0 if oldest is None else max(0.0, time.time() - oldest.timestamp.timestamp())

    # Putting. Only inside the critical section.

    def put(self, first: int, entries: Sequence[Entry]) -> None:
        """Add entries in order, and lose those that overflow; ignored once closed.

        If it is interrupted, it is repeated with the same arguments before anything else is put.

        Args:
            first: The bus's number of the first entry; the others follow without a gap.
            entries: At least one.
        """
        if self.closed:
            return
        put = self._put
        if put[0] < first:
            self._cut = None
            self._put = put = (first, self.accepted, self.accepted + len(entries), iter(entries))
        elif put[0] > first:
            return
        _, before, accepted, left = put
        if first - before != self._numbers.offset:
            self._numbers.note(before, first - before, oldest=before - len(self))
        queue = self._queue
        if self._open is not None and self._open is not queue:
            self._shut_queue()  # a signal handler interrupts it, and waits for this thread
        queue.extend(left)
        self.accepted = max(self.accepted, accepted)
        queued = len(queue) - self._gaps
        if queued > self.capacity or self._cut is not None:
            self._overflow(put)
            queued = self.capacity
        self.high_water = max(self.high_water, queued)
        if self.closed:  # by a signal handler, just now
            self.close()  # type: ignore[unreachable]

    def put_keyed(self, seq: int, entry: Entry, key: Hashable) -> None:
        """Add one entry whose key is known; keys matter to `CoalescingMailbox` only."""
        del key
        self._note_envelope(entry)
        self.put(seq, (entry,))

    def _note_envelope(self, entry: Entry) -> None:
        if not self.had_envelopes and type(entry) is Envelope:
            self._shut_queue()  # its consumer does not expect any
            self.had_envelopes = True

    def close(self) -> None:
        """Put nothing more, and lose the queued events."""
        self._shut_queue()  # otherwise the consumer could take an event behind a lost one
        if not self.closed or self._queue:
            self._lost_at_close = self.lost + len(self)
            self.closed = True
        self._queue.clear()
        self._gaps = 0
        self.lost = max(self._lost_at_close, self.lost)

    def _overflow(self, put: _Put) -> None:
        self._shut_queue()
        is_oldest = self.overflow is Overflow.DROP_OLDEST
        cut = self._cut
        if cut is None:
            excess = len(self) - self.capacity
            if excess <= 0:
                return
            newest = put[0] + put[2] - put[1] - 1
            self._cut = cut = self._cut_oldest(excess) if is_oldest else self._cut_newest(excess, newest)
        deque(cut.drops, maxlen=0)
        if self._cut is not cut or self.closed:
            return  # a signal handler has finished it
        if is_oldest:
            self._queue.extendleft(cut.mark)
        else:
            self._queue.extend(cut.mark)
        self.lost, self._gaps = cut.lost, cut.gaps
        self._cut = None

    def _cut_oldest(self, excess: int) -> Cut:
        position = self.accepted - len(self)
        gap = Gap(self._numbers.at(position), self._numbers.at(position + excess - 1), excess)
        return self._cut_behind(self._queue[0], gap, taking)

    def _cut_newest(self, excess: int, newest: int) -> Cut:
        queue = self._queue
        before = queue[-excess - 1] if len(queue) > excess else None
        return self._cut_behind(before, Gap(newest - excess + 1, newest, excess), taking_last)

    def _cut_behind(self, before: object, gap: Gap, take: _Taking) -> Cut:
        """Return how to drop what a gap stands for; a gap that is right before it becomes one with it."""
        drops, gaps, lost = gap.count, self._gaps + 1, self.lost + gap.count
        if isinstance(before, Gap):
            drops, gaps, gap = drops + 1, self._gaps, before.joined(gap)
        return Cut(take(self._queue, drops), gap, lost, gaps)

    # Whether the consumer locks.

    def _open_queue(self) -> None:
        """Let the consumer take without the critical section: the queue has no gap.

        Never with `Overflow.WAIT`: a publisher that finds the mailbox full, and begins to wait, would not be
        notified of an event that is taken in between.
        """
        if self.overflow is not Overflow.WAIT:
            self._open = self._queue
            self.take = cast("Callable[[], Entry]", self._queue.popleft)

    def _shut_queue(self) -> None:
        """Have the consumer take inside the critical section only, from now on."""
        try:
            self._move_queue()
        except BaseException:
            self._move_queue()
            raise

    def _move_queue(self) -> None:
        shut = self._open
        if shut is None:
            return
        self.take = self._take_locked
        if self._queue is shut:
            self._queue = deque()
        with suppress(IndexError):  # the consumer has just taken some
            self._queue.extend(taking(shut, len(shut)))  # in one call, which it cannot come into
        self.contents = self._queue
        self._open = None

    # Room, for publishers that can wait for it.

    def wait_for_room(self, notify: Callable[[], None]) -> None:
        """Have `notify` called once when an event has been taken; with `Overflow.WAIT` only.

        Inside the critical section.
        """
        self.waiting_room.add(notify)

    def offer_room(self, places: int = 1) -> None:
        """Notify one waiting publisher for each place, as long as there is room; outside the section.

        A notified publisher that does not use its place must call this again.
        """
        for _ in range(places):
            if not self.waiting_room or (self.is_full() and not self.closed):
                return
            self.waiting_room.notify_next()

    # Taking. Only the one consumer.

    def entries(self, limit: int) -> tuple[Iterator[Entry], bool]:
        """Return an iterator that takes up to `limit` entries out, and whether all are events as published.

        It raises IndexError if there are fewer. Each is taken when the iterator is asked for it: what is
        lost until then is not taken.
        """
        queue = self._open  # read first: it is not used any more when an envelope comes
        if queue is None:
            return islice(iter(self._take_locked, None), limit), False
        entries: Iterator[Any] = taking(queue, min(limit, len(queue)))
        return entries, not self.had_envelopes

    def take_batch(self, limit: int) -> list[Entry]:
        """Take up to `limit` entries out; an empty list when there are none."""
        batch = self._section.run(self._take_batch_inside, limit)
        self.offer_room(len(batch))
        return batch

    def _take_locked(self) -> Entry:
        entry = self._section.run(Mailbox._take_inside, self)
        self.offer_room()
        return entry

    def _take_inside(self) -> Entry:
        while True:
            place = self._next_place()
            if not isinstance(place, Gap):
                break
            self._gaps -= 1
            if self.reports_losses:
                place = place.as_event()
                break
        if not self.contents and not self.waiting_room:
            self._open_queue()
        return place

    def _take_batch_inside(self, limit: int) -> list[Entry]:
        queue = self._queue
        count = min(limit, len(self.contents))
        if not self._gaps and self.contents is queue:
            if count < len(queue):
                return cast("list[Entry]", list(taking(queue, count)))
            everything = cast("list[Entry]", list(queue))
            queue.clear()
            return everything
        batch: list[Entry] = []
        while len(batch) < count and self.contents:
            with suppress(IndexError):  # only gaps were left, and this reader does not want them
                batch.append(self._take_inside())
        return batch

    def _next_place(self) -> Entry | Gap:
        return self._queue.popleft()

    def _oldest(self) -> Event | None:
        # By index: the consumer may take without a lock, which iterating would not survive. At most
        # one gap stands before an event.
        for index in range(min(2, len(self._queue))):
            with suppress(IndexError):
                place = self._queue[index]
                if not isinstance(place, Gap):
                    return event_of(place)
        return None
