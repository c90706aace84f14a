"""A mailbox that keeps only the latest of the queued events with equal keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence

from eventbus.contracts import Overflow
from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.mailbox import Entry, Gap, Mailbox, event_of
from eventbus.events import Event

__all__ = ["CoalescingMailbox", "new_mailbox"]


class CoalescingMailbox(Mailbox):
    """A bounded FIFO that keeps only the latest of the queued events with equal keys.

    The latest has its own place in the order, not the place of the event it replaced. With more
    different keys than `capacity`, the oldest queued event is lost.
    """

    __slots__ = ("_key_of", "_queued", "_seq_by_key")

    def __init__(self, section: CriticalSection, capacity: int, *, reports_losses: bool) -> None:
        self._queued: OrderedDict[int, Entry | Gap] = OrderedDict()  # by the bus's number, so in order
        self._seq_by_key: dict[Hashable, int] = {}
        self._key_of: dict[int, Hashable] = {}
        super().__init__(section, capacity, Overflow.COALESCE, reports_losses=reports_losses)
        self.contents: Collection[object] = self._queued

    def put(self, first: int, entries: Sequence[Entry]) -> None:
        """Add entries whose keys are not known: each has a key of its own."""
        for seq, entry in enumerate(entries, first):
            self.put_keyed(seq, entry, (CoalescingMailbox, seq))

    def put_keyed(self, seq: int, entry: Entry, key: Hashable) -> None:
        """Add one entry, and lose the queued one with an equal key."""
        if self.closed:
            return
        self.accepted += 1
        replaced = self._seq_by_key.get(key)
        if replaced is not None:
            self._lose(replaced)
        self._queued[seq] = entry
        self._seq_by_key[key] = seq
        self._key_of[seq] = key
        if len(self) > self.capacity:
            self._lose(next(iter(self._key_of)))
        self.high_water = max(self.high_water, len(self))

    def close(self) -> None:
        """Put nothing more, and lose the queued events."""
        self.closed = True
        self.lost += len(self)
        for index in (self._queued, self._seq_by_key, self._key_of):
            index.clear()
        self._gaps = 0

    def _lose(self, seq: int) -> None:
        self.lost += 1
        self._forget_key(seq)
        self._queued[seq] = Gap(seq, seq, 1)
        self._gaps += 1
        if self._gaps > self.capacity:
            self._merge_gaps()

    def _merge_gaps(self) -> None:
        """Merge adjacent gaps, so that gaps stay fewer than events."""
        merged: OrderedDict[int, Entry | Gap] = OrderedDict()
        before: Entry | Gap | None = None
        for seq, place in self._queued.items():
            if isinstance(place, Gap) and isinstance(before, Gap):
                before.absorb(place)
                self._gaps -= 1
            else:
                merged[seq] = before = place
        self._queued.clear()
        self._queued.update(merged)

    def _forget_key(self, seq: int) -> None:
        del self._seq_by_key[self._key_of.pop(seq)]

    def _take_when_intact(self) -> Callable[[], Entry]:
        return self._take_locked

    def _next_place(self) -> Entry | Gap:
        if not self._queued:
            raise IndexError("the mailbox is empty")
        seq, place = self._queued.popitem(last=False)
        if isinstance(place, Gap):
            while self._queued and isinstance(following := next(iter(self._queued.values())), Gap):
                place.absorb(following)
                self._queued.popitem(last=False)
                self._gaps -= 1
        else:
            self._forget_key(seq)
        return place

    def _oldest(self) -> Event | None:
        return next((event_of(each) for each in self._queued.values() if not isinstance(each, Gap)), None)


def new_mailbox(
    section: CriticalSection, capacity: int, overflow: Overflow, *, reports_losses: bool
) -> Mailbox:
    """Return an empty mailbox with the given overflow."""
    if overflow is Overflow.COALESCE:
        return CoalescingMailbox(section, capacity, reports_losses=reports_losses)
    return Mailbox(section, capacity, overflow, reports_losses=reports_losses)
