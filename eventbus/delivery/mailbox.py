"""A bounded FIFO of events, and what happens when it is full.

The rules:

- It holds at most `capacity` events. What is sacrificed beyond that is its `Overflow`.
- What is lost is counted, and where something is missing an `EventsLost` stands in its place, for
  readers who want those. It takes no room.
- ``accepted == delivered + lost + queued``, always. An event is delivered when it is taken out.

Pure: no loop, no waiting, no I/O. Any thread may put, inside the critical section; one consumer
takes. Until the first overflow taking needs no lock: `take` *is* the deque's own `popleft`, one
atomic call. From the overflow on it is the careful form, which goes through the critical section,
so that a gap is never told on the wrong side of an event; when the mailbox has run empty it is
`popleft` again. A lock around every take would cost more than the rest of a delivery.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, cast

from eventbus.contracts import Overflow
from eventbus.delivery.critical_section import CriticalSection
from eventbus.events import Event, EventsLost

__all__ = ["CoalescingMailbox", "Entry", "Envelope", "Mailbox", "event_of", "new_mailbox"]


class Envelope:
    """An event of which more is known: how deep it is, and what it replaces in whose mailbox.

    Attributes:
        event: The event.
        depth: How many handlers led to it, each handling what the one before published.
        keys: Its keys for subscriptions that coalesce.
    """

    __slots__ = ("depth", "event", "keys")

    def __init__(self, event: Event, depth: int, keys: dict[Any, Hashable]) -> None:
        self.event: Event = event
        self.depth: int = depth
        self.keys: dict[Any, Hashable] = keys


Entry: TypeAlias = Event | Envelope
"""What is queued: most events as they are, those that handlers published in an `Envelope`.

Its number is not kept with it: a tuple for each event would cost as much as all the rest.
"""


def event_of(entry: Entry) -> Event:
    """Return an entry's event."""
    return entry.event if type(entry) is Envelope else cast("Event", entry)


class _Gap:
    """Events missing between two others: how many, and the bus's numbers of the first and last."""

    __slots__ = ("count", "first", "last")

    def __init__(self, first: int, last: int, count: int) -> None:
        self.count = count
        self.first = first
        self.last = last

    def absorb(self, later: _Gap) -> None:
        self.count += later.count
        self.last = later.last

    def as_event(self) -> EventsLost:
        # The session of whoever consumes has nothing to do with it.
        return EventsLost(session_id=None, count=self.count, first_seq=self.first, last_seq=self.last)


class Mailbox:
    """A bounded FIFO that drops its oldest events, or refuses the newest, when it is full.

    Args:
        section: The critical section shared with whoever puts.
        capacity: The most events it holds.
        overflow: What is sacrificed when it is full. With `Overflow.WAIT`, what is put into a full
            mailbox is lost: those who can wait put when there is room.
        tells_losses: Whether an `EventsLost` is taken where events are missing.
    """

    __slots__ = (
        "_gaps",
        "_offset",
        "_offsets",
        "_queue",
        "_room_wanted",
        "_section",
        "accepted",
        "alarm",
        "capacity",
        "closed",
        "contents",
        "high_water",
        "lost",
        "overflow",
        "take",
        "tells_losses",
    )

    accepted: int
    contents: Collection[object]
    high_water: int
    lost: int

    def __init__(
        self, section: CriticalSection, capacity: int, overflow: Overflow, *, tells_losses: bool
    ) -> None:
        self._section = section
        self._queue: deque[Entry | _Gap] = deque()
        self._gaps = 0  # how many of the places in the queue are gaps
        # The bus's number of an event, less how many came here before it: from which event on.
        self._offsets: deque[tuple[int, int]] = deque()
        self._offset: int | None = None
        self._room_wanted: deque[Callable[[], None]] = deque()
        self.capacity: int = capacity
        self.overflow: Overflow = overflow
        self.tells_losses: bool = tells_losses
        self.accepted = 0
        self.lost = 0
        self.high_water = 0
        self.closed: bool = False
        self.contents = self._queue
        """Empty when there is nothing to take, neither an event nor word of a loss."""
        self.alarm: Callable[[], None] | None = None
        """What a consumer about to sleep wants called when something has been put."""
        self.take: Callable[[], Entry] = self._easy_take()
        """Take the next entry out; IndexError when there is none."""

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
        """Add entries in order and sacrifice what overflows; ignored once closed.

        Args:
            first: The bus's number of the first of them; the others follow it without a gap.
            entries: At least one.
        """
        if self.closed:
            return
        if first - self.accepted != self._offset:
            self._note_offset(first - self.accepted)
        queue = self._queue
        self.accepted += len(entries)
        queue.extend(entries)
        queued = len(queue) - self._gaps
        if queued > self.capacity:
            self._overflow(first + len(entries) - 1)
            queued = self.capacity
        self.high_water = max(self.high_water, queued)

    def put_keyed(self, seq: int, entry: Entry, key: Hashable) -> None:
        """Add one entry whose key is known; keys matter to `CoalescingMailbox` only."""
        del key
        self.put(seq, (entry,))

    def close(self) -> None:
        """Put nothing more, and lose what is queued."""
        self.closed = True
        self.take = self._take_carefully  # else the consumer could take from behind what is lost here
        try:
            while True:
                self.lost += not isinstance(self._queue.popleft(), _Gap)
        except IndexError:
            self._gaps = 0

    def _overflow(self, newest: int) -> None:
        # From here on the consumer takes carefully. It cannot be in the middle of a `popleft`: that
        # is one call, and a thread is not interrupted between looking `take` up and calling it.
        self.take = self._take_carefully
        excess = len(self) - self.capacity
        if excess > 0:
            self.lost += excess
            if self.overflow is Overflow.DROP_OLDEST:
                self._drop_oldest(excess)
            else:
                self._drop_newest(excess, newest)

    def _drop_oldest(self, excess: int) -> None:
        queue = self._queue
        position = self.accepted - len(self)
        gap = _Gap(self._number_at(position), self._number_at(position + excess - 1), excess)
        before = queue[0]
        if isinstance(before, _Gap):
            before.absorb(gap)
            gap = before
            queue.popleft()
            self._gaps -= 1
        for _ in range(excess):
            queue.popleft()
        queue.appendleft(gap)
        self._gaps += 1

    def _drop_newest(self, excess: int, newest: int) -> None:
        queue = self._queue
        gap = _Gap(newest - excess + 1, newest, excess)
        for _ in range(excess):
            queue.pop()
        before = queue[-1] if queue else None
        if isinstance(before, _Gap):
            before.absorb(gap)
        else:
            queue.append(gap)
            self._gaps += 1

    def _note_offset(self, offset: int) -> None:
        """Note that events passed by that were not for this mailbox: numbers are further on now."""
        self._offset = offset
        if self.overflow is Overflow.DROP_OLDEST:  # all else loses what comes, whose number is known
            self._forget_offsets(self.accepted - len(self))
            self._offsets.append((self.accepted, offset))

    def _forget_offsets(self, position: int) -> None:
        offsets = self._offsets
        while len(offsets) > 1 and offsets[1][0] <= position:
            offsets.popleft()

    def _number_at(self, position: int) -> int:
        """Return the bus's number of what came here after `position` others; ask in ascending order."""
        self._forget_offsets(position)
        return position + self._offsets[0][1]

    def _count_accepted(self, count: int) -> None:
        self.accepted += count

    def _count_lost(self, count: int) -> None:
        self.lost += count

    def _note_height(self) -> None:
        self.high_water = max(self.high_water, len(self))

    # Room, for those who can wait for it. Wanting only inside the critical section, telling outside.

    def want_room(self, notify: Callable[[], None]) -> None:
        """Have `notify` called once when an event has been taken out, after those who asked before."""
        self.take = self._take_carefully
        self._room_wanted.append(notify)

    def want_no_room(self, notify: Callable[[], None]) -> None:
        """Undo `want_room`; nothing if it was called already."""
        if notify in self._room_wanted:
            self._room_wanted.remove(notify)

    def tell_room(self, places: int = 1) -> None:
        """Notify as many who wait for room as there are places for, while there are any.

        Who is told and does not take the place must pass it on, by calling this again.
        """
        for _ in range(places):
            if not self._room_wanted or (self.is_full() and not self.closed):
                return
            with suppress(IndexError):  # another thread told the last of them
                self._room_wanted.popleft()()

    def tell_room_to_all(self) -> None:
        """Notify everybody who waits for room, whether there is any or not."""
        while self._room_wanted:
            with suppress(IndexError):
                self._room_wanted.popleft()()

    # Taking. Only the one consumer.

    def take_batch(self, limit: int) -> list[Entry]:
        """Take the next entries out, at most `limit`; an empty list when there are none."""
        batch = self._section.run(self._take_batch_inside, limit)
        self.tell_room(len(batch))
        return batch

    def _easy_take(self) -> Callable[[], Entry]:
        return cast("Callable[[], Entry]", self._queue.popleft)

    def _take_carefully(self) -> Entry:
        entry = self._section.run(Mailbox._take_inside, self)
        self.tell_room()
        return entry

    def _take_inside(self) -> Entry:
        while True:
            place = self._next_place()
            if not isinstance(place, _Gap):
                break
            self._gaps -= 1
            if self.tells_losses:
                place = place.as_event()
                break
        if not self.contents and not self._room_wanted:
            self.take = self._easy_take()
        return place

    def _take_batch_inside(self, limit: int) -> list[Entry]:
        queue = self._queue
        count = min(limit, len(self.contents))
        if not self._gaps and self.contents is queue:
            if count < len(queue):
                return cast("list[Entry]", [queue.popleft() for _ in range(count)])
            everything = cast("list[Entry]", list(queue))
            queue.clear()
            return everything
        batch: list[Entry] = []
        while len(batch) < count and self.contents:
            with suppress(IndexError):  # what was left were gaps that nobody wants told
                batch.append(self._take_inside())
        return batch

    def _next_place(self) -> Entry | _Gap:
        return self._queue.popleft()

    def _oldest(self) -> Event | None:
        # By index: the consumer may take without a lock, which iterating would not survive. At most
        # one gap stands before an event.
        for index in range(min(2, len(self._queue))):
            with suppress(IndexError):
                place = self._queue[index]
                if not isinstance(place, _Gap):
                    return event_of(place)
        return None


class CoalescingMailbox(Mailbox):
    """A bounded FIFO that keeps only the latest of the queued events with equal keys.

    The latest stands at its own place in the order, not at that of the event it replaced. With more
    different keys than `capacity`, the oldest queued event is lost.
    """

    __slots__ = ("_key_of", "_queued", "_seq_by_key")

    def __init__(self, section: CriticalSection, capacity: int, *, tells_losses: bool) -> None:
        self._queued: OrderedDict[int, Entry | _Gap] = OrderedDict()  # by the bus's number, so in order
        self._seq_by_key: dict[Hashable, int] = {}
        self._key_of: dict[int, Hashable] = {}
        super().__init__(section, capacity, Overflow.COALESCE, tells_losses=tells_losses)
        self.contents: Collection[object] = self._queued

    def put(self, first: int, entries: Sequence[Entry]) -> None:
        """Add entries whose keys are not known: each stands for itself."""
        for seq, entry in enumerate(entries, first):
            self.put_keyed(seq, entry, (CoalescingMailbox, seq))

    def put_keyed(self, seq: int, entry: Entry, key: Hashable) -> None:
        """Add one entry, and lose the queued one with an equal key."""
        if self.closed:
            return
        self._count_accepted(1)
        replaced = self._seq_by_key.get(key)
        if replaced is not None:
            self._lose(replaced)
        self._queued[seq] = entry
        self._seq_by_key[key] = seq
        self._key_of[seq] = key
        if len(self) > self.capacity:
            self._lose(next(iter(self._key_of)))
        self._note_height()

    def close(self) -> None:
        """Put nothing more, and lose what is queued."""
        self.closed = True
        self._count_lost(len(self))
        for index in (self._queued, self._seq_by_key, self._key_of):
            index.clear()
        self._gaps = 0

    def _lose(self, seq: int) -> None:
        self._count_lost(1)
        self._forget_key(seq)
        self._queued[seq] = _Gap(seq, seq, 1)
        self._gaps += 1
        if self._gaps > self.capacity:
            self._merge_gaps()

    def _merge_gaps(self) -> None:
        """Make one gap of those that stand side by side, so that gaps stay fewer than events."""
        merged: OrderedDict[int, Entry | _Gap] = OrderedDict()
        before: Entry | _Gap | None = None
        for seq, place in self._queued.items():
            if isinstance(place, _Gap) and isinstance(before, _Gap):
                before.absorb(place)
                self._gaps -= 1
            else:
                merged[seq] = before = place
        self._queued.clear()
        self._queued.update(merged)

    def _forget_key(self, seq: int) -> None:
        del self._seq_by_key[self._key_of.pop(seq)]

    def _easy_take(self) -> Callable[[], Entry]:
        return self._take_carefully

    def _next_place(self) -> Entry | _Gap:
        if not self._queued:
            raise IndexError("the mailbox is empty")
        seq, place = self._queued.popitem(last=False)
        if isinstance(place, _Gap):
            while self._queued and isinstance(following := next(iter(self._queued.values())), _Gap):
                place.absorb(following)
                self._queued.popitem(last=False)
                self._gaps -= 1
        else:
            self._forget_key(seq)
        return place

    def _oldest(self) -> Event | None:
        return next((event_of(each) for each in self._queued.values() if not isinstance(each, _Gap)), None)


def new_mailbox(
    section: CriticalSection, capacity: int, overflow: Overflow, *, tells_losses: bool
) -> Mailbox:
    """Return an empty mailbox with the given overflow."""
    if overflow is Overflow.COALESCE:
        return CoalescingMailbox(section, capacity, tells_losses=tells_losses)
    return Mailbox(section, capacity, overflow, tells_losses=tells_losses)
