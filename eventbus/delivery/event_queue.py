"""The bus's one queue: pending events are numbered and put into mailboxes in batches.

Batches are what makes publishing fast: the lock, the numbering and each mailbox's bookkeeping are paid
for once per batch. The order in the queue is the order of the numbers, for every subscription.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from eventbus.delivery.mailbox import Entry, Envelope, event_of
from eventbus.delivery.routing_table import RoutingTable
from eventbus.delivery.wake_ups import WakeUps
from eventbus.events import Event

__all__ = ["EventQueue"]


class EventQueue:
    """Takes pending events to the mailboxes of the subscriptions they match.

    Publishers append to `pending` from anywhere; everything else happens in the critical section.

    Args:
        table: Which subscriptions an event goes to.
        wake_ups: Where their consumers are scheduled to be woken.
        history: How many of the last accepted events are kept for `replay`.

    Attributes:
        pending: Published events that have not been distributed.
        accepted: How many events have been distributed, which is the number of the last one.
        is_sealed: Whether nothing more is distributed.
    """

    __slots__ = ("_history", "_is_distributing", "_table", "_wake_ups", "accepted", "is_sealed", "pending")

    def __init__(self, table: RoutingTable, wake_ups: WakeUps, history: int) -> None:
        self._table = table
        self._wake_ups = wake_ups
        self._history: deque[Entry] = deque(maxlen=history)
        self._is_distributing = False
        self.pending: deque[Entry] = deque()
        self.accepted: int = 0
        self.is_sealed: bool = False

    def distribute(self) -> bool:
        """Number the pending events and put them into mailboxes; return whether there were any."""
        # A signal handler may call this during the call that it interrupts. Once sealed, a publisher
        # withdraws its pending event, and must find it here.
        if not self.pending or self._is_distributing or self.is_sealed:
            return False
        self._is_distributing = True
        self._wake_ups.forget_backlog()
        try:
            self._put_batch()
        finally:
            self._is_distributing = False
        return True

    def withdraw(self, entry: Entry) -> bool:
        """Take a pending entry back; return False if it has been distributed."""
        try:
            self.pending.remove(entry)
        except ValueError:
            return False
        return True

    def latest(self, classes: tuple[type[Event], ...], count: int) -> list[tuple[int, Entry]]:
        """Return the last `count` entries of these classes in the history, with their numbers."""
        if not count:
            return []
        numbered = enumerate(self._history, self.accepted - len(self._history) + 1)
        return [pair for pair in numbered if isinstance(event_of(pair[1]), classes)][-count:]

    def _put_batch(self) -> None:
        pending = self.pending
        count = len(pending)
        batch = [pending.popleft() for _ in range(count)]
        first = self.accepted + 1
        self.accepted += count
        if len(set(map(type, batch))) == 1 and type(batch[0]) is not Envelope:
            self._put_all(type(batch[0]), first, batch)
        else:
            batch = [self._put_one(seq, entry) for seq, entry in enumerate(batch, first)]
        self._history.extend(batch)

    def _put_all(self, cls: type, first: int, entries: Sequence[Entry]) -> None:
        for subscription in self._table.route_of(cls):
            mailbox = subscription.mailbox
            mailbox.put(first, entries)
            if mailbox.on_ready is not None:
                self._wake_ups.schedule(mailbox, mailbox.on_ready)

    def _put_one(self, seq: int, entry: Entry) -> Entry:
        """Put one entry into mailboxes; return what the history keeps of it."""
        if type(entry) is not Envelope:
            self._put_all(type(entry), seq, (entry,))
            return entry
        kept: Entry = entry if entry.depth else entry.event
        for subscription in self._table.route_of(type(entry.event)):
            mailbox = subscription.mailbox
            mailbox.put_keyed(seq, kept, entry.keys.get(subscription, entry))
            if mailbox.on_ready is not None:
                self._wake_ups.schedule(mailbox, mailbox.on_ready)
        return kept
