"""A mailbox that keeps only the latest of the queued events with equal keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence

from eventbus.contracts import Overflow
from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.entries import Entry, Gap, event_of
from eventbus.delivery.mailbox import Mailbox
from eventbus.events import Event

__all__ = ["CoalescingMailbox", "new_mailbox"]


class CoalescingMailbox(Mailbox):
    """A bounded FIFO that keeps only the latest of the queued events with equal keys.

    The latest has its own place in the order, not the place of the event it replaced. With more
    different keys than `capacity`, the oldest queued event is lost.
    """

    __slots__ = ("_begun", "_done", "_key_of", "_losing", "_queued", "_seq_by_key")

    def __init__(self, section: CriticalSection, capacity: int, *, reports_losses: bool) -> None:
        self._queued: OrderedDict[int, Entry | Gap] = OrderedDict()  # by the bus's number, so in order
        self._seq_by_key: dict[Hashable, int] = {}
        self._key_of: dict[int, Hashable] = {}
        self._begun = (0, 0)  # the last event, and how many have been accepted with it
        self._done = 0  # the last event that has been put
        self._losing: tuple[int, int] | None = None  # an event, and how many are lost with it
        super().__init__(section, capacity, Overflow.COALESCE, reports_losses=reports_losses)
        self.contents: Collection[object] = self._queued

    def __len__(self) -> int:
        """How many events are queued."""
        return len(self._key_of)

    def put(self, first: int, entries: Sequence[Entry]) -> None:
        """Add entries whose keys are not known: each has a key of its own."""
        for seq, entry in enumerate(entries, first):
            self.put_keyed(seq, entry, (CoalescingMailbox, seq))

    def put_keyed(self, seq: int, entry: Entry, key: Hashable) -> None:
        """Add one entry, and lose the queued one with an equal key."""
        if self.closed or seq <= self._done:
            return
        self._note_envelope(entry)
        if seq != self._begun[0]:
            self._begun = (seq, self.accepted + 1)
        self.accepted = self._begun[1]
        self._finish_losing()
        replaced = self._seq_by_key.get(key)
        if replaced is not None and replaced != seq:
            self._lose(replaced)
        self._key_of[seq] = key
        self._seq_by_key[key] = seq
        self._queued[seq] = entry
        if len(self) > self.capacity:
            self._lose(next(iter(self._key_of)))
        self.high_water = max(self.high_water, len(self))
        self._done = seq
        if self.closed:  # by a signal handler, just now
            self.close()  # type: ignore[unreachable]

    def close(self) -> None:
        """Put nothing more, and lose the queued events."""
        if not self.closed or self._queued:
            self._lost_at_close = self.lost + len(self)
            self.closed = True
        for index in (self._key_of, self._queued, self._seq_by_key):
            index.clear()
        self.lost = max(self._lost_at_close, self.lost)

    def _lose(self, seq: int) -> None:
        self._losing = (seq, self.lost + 1)
        self._finish_losing()
        if len(self._queued) - len(self._key_of) > self.capacity:
            self._merge_gaps()

    def _finish_losing(self) -> None:
        """Take up a loss that an exception has interrupted, too."""
        if self._losing is None:
            return
        seq, lost = self._losing
        if seq in self._queued:
            self._queued[seq] = Gap(seq, seq, 1)
        self._forget_key(seq)
        self.lost = lost
        self._losing = None

    def _merge_gaps(self) -> None:
        """Merge adjacent gaps, so that gaps stay fewer than events."""
        changes: dict[int, Gap] = {}
        empty: list[int] = []
        before: int | None = None  # the first of adjacent gaps
        for seq, place in self._queued.items():
            if not isinstance(place, Gap):
                before = None
            elif before is None:
                before = seq
                changes[seq] = place
            else:
                changes[before] = changes[before].joined(place)
                changes[seq] = Gap(place.first, place.last, 0)
                empty.append(seq)
        self._queued.update(changes)  # at once: no loss is counted twice, or not at all
        for seq in empty:
            del self._queued[seq]

    def _forget_key(self, seq: int) -> None:
        if seq in self._key_of:
            key = self._key_of[seq]
            if self._seq_by_key.get(key) == seq:
                del self._seq_by_key[key]
            del self._key_of[seq]

    def _open_queue(self) -> None:
        """Have the consumer lock at all times: an event may be replaced."""

    def _next_place(self) -> Entry | Gap:
        if not self._queued:
            raise IndexError("the mailbox is empty")
        seq, place = self._queued.popitem(last=False)
        if isinstance(place, Gap):
            while self._queued and isinstance(following := next(iter(self._queued.values())), Gap):
                place = place.joined(following)
                self._queued.popitem(last=False)
        else:
            self._forget_key(seq)
        return place

    def _oldest(self) -> Event | None:
        for place in self._queued.values():
            if not isinstance(place, Gap):
                return event_of(place)
        return None


def new_mailbox(
    section: CriticalSection, capacity: int, overflow: Overflow, *, reports_losses: bool
) -> Mailbox:
    """Return an empty mailbox with the given overflow."""
    if overflow is Overflow.COALESCE:
        return CoalescingMailbox(section, capacity, reports_losses=reports_losses)
    return Mailbox(section, capacity, overflow, reports_losses=reports_losses)
