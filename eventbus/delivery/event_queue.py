"""The published events on their way to the mailboxes.

An exception may strike a publisher anywhere while it distributes. So a batch that has been taken from
what is pending is kept until it is in every mailbox, and distributing can be taken up where it stopped:
each step is one that can be repeated. The interrupted publisher itself takes it up before the exception
leaves; if that is interrupted, too, the next caller does.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import countOf
from typing import cast

from eventbus.delivery.entries import Entry, Envelope, event_of
from eventbus.delivery.routing_table import Route, RoutingTable
from eventbus.delivery.taking import taking
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

    __slots__ = (
        "_batch",
        "_first",
        "_history",
        "_is_distributing",
        "_table",
        "_unrecorded",
        "_wake_ups",
        "accepted",
        "is_sealed",
        "pending",
    )

    def __init__(self, table: RoutingTable, wake_ups: WakeUps, history: int) -> None:
        self._table = table
        self._wake_ups = wake_ups
        self._history: deque[Entry] = deque(maxlen=history)
        self._batch: list[Entry] | None = None  # events that are taken, and not distributed yet
        self._first = 0  # the number of the first of them
        self._unrecorded: Iterator[Entry] | None = None  # those not in the history yet; None before that
        self._is_distributing = False
        self.pending: deque[Entry] = deque()
        self.accepted: int = 0
        self.is_sealed: bool = False

    def distribute(self) -> bool:
        """Number the pending events and put them into mailboxes; return whether there were any."""
        # A signal handler may call this during the call that it interrupts. Once sealed, a publisher
        # withdraws its pending event, and must find it here.
        if not (self.pending or self._batch) or self.is_sealed:
            return False
        if self._is_distributing and self._is_interrupted_here():
            return False
        try:
            self._is_distributing = True
            self._distribute()
            self._is_distributing = False
        except BaseException:
            self._is_distributing = True
            self._distribute()  # what was interrupted is finished first
            self._is_distributing = False
            raise
        return True

    def finish_interrupted(self) -> None:
        """Finish the distribution that this call interrupts, before other threads are let in."""
        if self._batch is not None:
            self._finish(self._batch)

    def withdraw(self, entry: Entry) -> bool:
        """Take a pending entry back; return False if it has been distributed."""
        try:
            self.pending.remove(entry)
        except ValueError:
            return False
        return True

    def latest(self, classes: tuple[type[Event], ...], count: int) -> list[tuple[int, Entry]]:
        """Return the last `count` entries of these classes in the history, with their numbers."""
        found: list[tuple[int, Entry]] = []
        for number, entry in zip(range(self.accepted, 0, -1), reversed(self._history), strict=False):
            if len(found) == count:
                break
            if isinstance(event_of(entry), classes):
                found.append((number, entry))
        return found[::-1]

    def _is_interrupted_here(self) -> bool:
        """Whether a distribution goes on in this thread, in the call that this one interrupts.

        The flag alone does not tell: an exception may have left it set.
        """
        frame = inspect.currentframe()
        frame = frame and frame.f_back and frame.f_back.f_back  # but not of this call
        while frame is not None:
            if frame.f_code is _DISTRIBUTE and frame.f_locals["self"] is self:
                return True
            frame = frame.f_back
        return False

    def _distribute(self) -> None:
        self._wake_ups.backlog = -1  # has it looked at again
        if self._batch is not None:
            self._finish(self._batch)
        if self.pending:
            batch: list[Entry] = []
            self._begin(batch)
            # In one call, into a list that is found again: nothing can come between two events.
            try:  # noqa: SIM105 - `suppress` costs as much as the call
                batch.extend(taking(self.pending, len(self.pending)))
            except IndexError:  # another thread has taken some, while a signal handler here waited
                pass
            if self._batch is not batch:
                self._begin(batch)
            self._finish(batch)

    def _begin(self, batch: list[Entry]) -> None:
        self._unrecorded = None
        self._first = self.accepted + 1
        self._batch = batch  # last: from here on the batch is found again

    def _finish(self, batch: list[Entry]) -> None:
        last = self._first + len(batch) - 1
        self.accepted = max(self.accepted, last)
        if self._unrecorded is None:
            kinds = _kinds(batch)
            self._put_into_mailboxes(batch, kinds)
            kept = batch if Envelope not in kinds else [_kept(entry) for entry in batch]
            if self._batch is not batch:
                return  # another thread has finished it, while a signal handler here waited for that
            self._unrecorded = iter(kept)
        self._history.extend(self._unrecorded)
        self._batch = None

    def _put_into_mailboxes(self, batch: list[Entry], kinds: set[type]) -> None:
        seq = self._first
        # None for a class that is not known yet, and for envelopes, which have their own ways.
        routes = {*map(self._table.routes.get, kinds)}
        if len(routes) == 1 and (route := routes.pop()) is not None:
            self._put_all(route, seq, batch)
            return
        for route, entries in groupby(batch, lambda entry: self._common_route(type(entry))):
            run = list(entries)
            if route is not None:
                self._put_all(route, seq, run)
            else:
                for number, entry in enumerate(cast("list[Envelope]", run), seq):
                    self._put_envelope(number, entry)
            seq += len(run)

    def _common_route(self, cls: type) -> Route | None:
        """Return where all entries of a class go; None for envelopes, which have their own ways."""
        return None if cls is Envelope else self._table.route_of(cls)

    def _put_all(self, route: Route, first: int, entries: Sequence[Entry]) -> None:
        for subscription in route:
            mailbox = subscription.mailbox
            mailbox.put(first, entries)
            if (on_ready := mailbox.on_ready) is not None:
                self._wake_ups.schedule(mailbox, on_ready)

    def _put_envelope(self, seq: int, entry: Envelope) -> None:
        kept = _kept(entry)
        for subscription in self._table.route_of(type(entry.event)):
            mailbox = subscription.mailbox
            mailbox.put_keyed(seq, kept, entry.keys.get(subscription, entry))
            if (on_ready := mailbox.on_ready) is not None:
                self._wake_ups.schedule(mailbox, on_ready)


def _kinds(batch: Sequence[Entry]) -> set[type]:
    first = type(batch[0]) if batch else Event
    # In most batches all are of one class, and counting takes a third of collecting.
    if countOf(map(type, batch), first) == len(batch):
        return {first}
    return {*map(type, batch)}


def _kept(entry: Entry) -> Entry:
    """Return what mailboxes and the history keep of an entry: an envelope only for its depth."""
    if type(entry) is not Envelope:
        return entry
    return entry if entry.depth else entry.event


_DISTRIBUTE = EventQueue.distribute.__code__
