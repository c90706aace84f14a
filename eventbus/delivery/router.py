"""The way of an event from its publisher to the mailboxes that want it.

`publish` appends to one queue, which is one atomic step and needs no lock, and returns. What is
pending is numbered and put into mailboxes in batches, by whoever comes first:

- the loop that consumes: publishing into an idle bus rings its doorbell, and while it has not
  answered, further publishes just append;
- a publisher, when more than `MAX_PENDING` events are pending: they must not pile up;
- a publisher, each time, while consumers sleep in several loops: one of those may be blocked for
  seconds, and the others' events must not wait for it;
- whoever asks for statistics, subscribes, unsubscribes, drains or closes: they see all that was
  published before.

Batches are what makes it fast: the lock, the numbering and each mailbox's bookkeeping are paid for
once per batch. The order in the queue is the order of the numbers, for every subscription.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import blinker

from eventbus.contracts import Overflow
from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.doorbell import Doorbell, Waiter, current_loop
from eventbus.delivery.mailbox import Entry, Envelope, Mailbox, event_of
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.delivery.subscription import MAX_CHAIN_DEPTH, Subscription, depth_here, handling
from eventbus.errors import WouldDeadlockError
from eventbus.events import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_PENDING", "Router"]

MAX_PENDING = 256
"""The most events that wait to be put into mailboxes before a publisher does it itself."""

_logger = logging.getLogger("eventbus")

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class _Kind:
    """What publishing an event of one class takes."""

    __slots__ = ("is_heard", "keyed", "taps")

    def __init__(
        self,
        *,
        is_heard: bool,
        taps: tuple[blinker.Signal, ...] = (),
        keyed: tuple[Subscription, ...] = (),
    ) -> None:
        self.is_heard = is_heard
        self.taps = taps
        self.keyed = keyed


_PLAIN = _Kind(is_heard=True)
_UNHEARD = _Kind(is_heard=False)


class Router:
    """Takes events from any thread and puts them into the mailboxes of the subscriptions they match.

    Args:
        history: How many of the last accepted events are kept for `replay`.
        switch_interval: The interpreter's switch interval, in seconds, while events wait for a loop
            of another thread; None leaves it alone.
    """

    def __init__(self, history: int, switch_interval: float | None) -> None:
        self._switch_interval = switch_interval
        self._is_closed = False
        self._taps: dict[type[Event], blinker.Signal] = {}
        self._history_size = history
        self._failure_log = RateLimitedLog(_logger, "the bus:")
        self._subscriptions: dict[str, Subscription] = {}
        self._wanted: dict[type[Event], tuple[Subscription, ...]] = {}
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._pending: deque[Entry] = deque()
        self._slack = MAX_PENDING  # publishing rings when more than this are pending; -1 once closed
        self._section = CriticalSection(self._route)
        self._history: deque[Entry] = deque(maxlen=self._history_size)
        self._accepted = 0
        self._rejected = 0
        self._is_distributing = False
        self._is_sealed = False  # intake has stopped, and all that was accepted has been distributed
        self._kinds: dict[type, _Kind] = {}
        self._routes: dict[type, tuple[Subscription, ...]] = {}
        self._alarms: deque[Callable[[], None]] = deque()
        self._stirred: set[Mailbox] = set()  # whose consumers have been woken, and may be at work
        self._left = 0  # how many events were in them when they were looked at last
        self._doorbells: tuple[Doorbell, ...] = ()
        self._doorbell_users: dict[object, tuple[Doorbell, int]] = {}

    # Publishing.

    def publish(self, event: Event) -> bool:
        """Accept an event for every subscription that wants it. Never waits.

        From any thread, inside any loop or none, in a handler, a signal handler or a finalizer.
        Before the bus is entered, events are queued and delivered on entry.

        Args:
            event: What happened.

        Returns:
            True when it was accepted. False when it was not: the bus is closed, or it stands at the
            end of a chain of `MAX_CHAIN_DEPTH` events, each published while handling the one before.

        Raises:
            TypeError: `event` is no `Event`.
        """
        kinds = self._kinds
        kind = kinds.get(type(event))
        if depth_here.get() or not (kind is _PLAIN or kind is _UNHEARD):
            return self._publish_carefully(event)
        self._pending.append(event)
        if kind is _PLAIN:
            return len(self._pending) <= self._slack or self._alert(event)
        if self._kinds is kinds and len(self._pending) <= MAX_PENDING:
            return True
        return self._note_unheard(event, kinds)

    async def publish_wait(self, event: Event) -> bool:
        """Accept an event once there is room for it in every mailbox whose overflow is `WAIT`.

        Cancelled while it waits, it has published nothing.

        Args:
            event: What happened.

        Returns:
            As `publish`.

        Raises:
            TypeError: `event` is no `Event`.
            WouldDeadlockError: A handler would wait for room in its own mailbox.
        """
        waiter: Waiter | None = None
        waited_for: tuple[Mailbox, ...] = ()
        while True:
            entry = self._prepared(event, self._kind_of(event))
            full = None if entry is None else self._inside(partial(self._publish_if_room, entry), waiter)
            for mailbox in waited_for:
                if full and mailbox not in full:
                    mailbox.tell_room()  # it had room for this event, which must wait for another
            if full is None:
                return False
            if not full:
                self._call_taps(event)
                return True
            if waiter is not None:
                await self._wait_for_room(waiter, full)
            waiter, waited_for = Waiter(), full

    async def _wait_for_room(self, waiter: Waiter, full: tuple[Mailbox, ...]) -> None:
        try:
            await waiter.wait()
        except BaseException:
            self._inside(partial(_want_no_room, full), waiter.notify)
            for mailbox in full:
                mailbox.tell_room()  # the place may have been offered to this task
            raise
        self._inside(partial(_want_no_room, full), waiter.notify)

    def _publish_carefully(self, event: Event) -> bool:
        kinds = self._kinds
        kind = self._kind_of(event)
        entry = self._prepared(event, kind)
        if entry is None:
            return False
        self._pending.append(entry)
        if kind.is_heard:
            accepted = len(self._pending) <= self._slack or self._alert(entry)
        else:
            accepted = self._note_unheard(entry, kinds)
        if accepted and kind.taps:
            self._call_taps(event)
        return accepted

    def _note_unheard(self, entry: Entry, kinds: dict[type, _Kind]) -> bool:
        """See to what was appended though nobody wants it: nobody is rung for it."""
        if self._kinds is not kinds:  # somebody has come to want it just now, or the bus is closed
            return self._alert(entry)
        if len(self._pending) > MAX_PENDING:
            self._route()
        return True

    def _kind_of(self, event: Event) -> _Kind:
        kinds = self._kinds  # read first: what is worked out below must not outlive a change
        kind = kinds.get(type(event))
        if kind is not None:
            return kind
        cls: type = type(event)  # not __class__, which may lie
        if not issubclass(cls, Event):
            self._inside(Router._reject, self)
            raise TypeError(f"only events can be published, not {cls.__name__}. Subclass eventbus.Event")
        wanting = self._wanting(cls)
        taps = tuple(self._taps[base] for base in cls.__mro__ if base in self._taps)
        keyed = tuple(each for each in wanting if each.key is not None)
        if taps or keyed:
            kind = _Kind(is_heard=bool(wanting), taps=taps, keyed=keyed)
        else:
            kind = _PLAIN if wanting else _UNHEARD
        if not self._is_closed:  # a closed bus looks at each event carefully
            kinds[cls] = kind
        return kind

    def _prepared(self, event: Event, kind: _Kind) -> Entry | None:
        """Return what to append to what is pending; None when the event is rejected."""
        depth = depth_here.get()
        if not self._takes_from_here():
            self._inside(Router._reject, self)
            return None
        if depth > MAX_CHAIN_DEPTH:
            self._inside(Router._reject, self)
            self._say_chain_is_cut(event)
            return None
        if not depth and not kind.keyed:
            return event
        # Keys are worked out here, in the publisher's thread: no user code runs in the section.
        return Envelope(event, depth, {each: each.key_of(event) for each in kind.keyed})

    def _takes_from_here(self) -> bool:
        """Whether an event is accepted from the calling code: from handlers while it drains, too."""
        return not self._is_closed or (not self._is_sealed and self._is_handled_here())

    def _is_handled_here(self) -> bool:
        """Whether the calling code is a handler of this bus's, or was called from one."""
        subscription = handling.get()
        return subscription is not None and subscription.bus is self

    def _say_chain_is_cut(self, event: Event) -> None:
        cause = handling.get()
        who = "a handler" if cause is None else f"the handler of {cause.name!r}"
        what = f"a chain of {MAX_CHAIN_DEPTH} events, each published while handling the one before, is cut"
        self._failure_log.warn(f"chain {who}", f"{what}: {who} published a {type(event).__name__}")

    def _call_taps(self, event: Event) -> None:
        for signal in self._kind_of(event).taps:
            if not signal.receivers:
                continue
            # Each on its own: blinker's send would skip the rest at the first exception.
            for receiver in tuple(signal.receivers_for(event)):
                try:
                    receiver(event)
                except Exception as error:  # noqa: BLE001
                    cause = f"tap {type(error).__name__}"
                    self._failure_log.warn(cause, f"a tap failed: {type(error).__name__}", error)

    def _reject(self) -> None:
        self._rejected += 1

    # Having somebody put what is pending into mailboxes.

    def _alert(self, entry: Entry) -> bool:
        """See to it that what is pending gets on; return whether `entry` is accepted after all."""
        if self._is_closed:
            if self._takes_from_here():
                self._route()
            return not self._inside(self._withdraw, entry)
        if len(self._pending) > MAX_PENDING:
            self._route()
        doorbells = self._doorbells
        if len(doorbells) == 1:
            self._inside(self._allow, MAX_PENDING)
            doorbells[0].ring()
            if self._doorbells is doorbells:
                return True
        self._inside(self._allow, self._idle_slack())
        self._route()
        return True

    def _answer(self, doorbell: Doorbell) -> bool:
        """Do what a doorbell was rung for, in its loop; return whether to look again on its next turn."""
        is_busy = self._route() or self._inside(Router._is_getting_on, self)
        if self._doorbells == (doorbell,):  # events are coming: publishers are spared the ring
            if is_busy:
                return True
            if doorbell.gather():
                return False
        self._inside(self._allow, self._idle_slack())
        if self._pending:  # appended just before: its publisher saw no need to ring
            for each in self._doorbells:
                each.ring()
        return False

    def _allow(self, slack: int) -> None:
        """Let so many events be pending; in the section, for it must not undo the close."""
        self._slack = -1 if self._is_closed else slack

    def _idle_slack(self) -> int:
        """Return how many events may be pending while nobody is about to look."""
        return 0 if self._doorbells else MAX_PENDING

    def _route(self) -> bool:
        """Put what is pending into mailboxes; return whether there was anything."""
        routed = self._section.run_unless_inside(self._distribute)
        self._sound_alarms()
        return bool(routed)

    def _inside(self, work: Callable[[_Given], _Result], given: _Given) -> _Result:
        """Return ``work(given)``, done in the critical section."""
        result = self._section.run(work, given)
        self._sound_alarms()
        return result

    def _sound_alarms(self) -> None:
        """Wake consumers that have mail. Outside the section: waking is a system call."""
        while self._alarms:
            try:
                alarm = self._alarms.popleft()
            except IndexError:  # another thread was faster
                return
            alarm()

    # Doorbells: one per loop in which this bus has consumers.

    def _doorbell_here(self) -> Doorbell:
        """Return the doorbell of the running loop, and count one more user of it."""
        return self._inside(self._use_doorbell, current_loop())

    def _give_back(self, doorbell: Doorbell) -> None:
        """Count one user less of a doorbell."""
        self._inside(self._disuse_doorbell, doorbell)

    def _use_doorbell(self, loop: object) -> Doorbell:
        known = self._doorbell_users.get(loop)
        doorbell = Doorbell(self._answer, self._switch_interval) if known is None else known[0]
        users = 1 if known is None else known[1] + 1
        self._doorbell_users[loop] = (doorbell, users)
        self._list_doorbells()
        return doorbell

    def _disuse_doorbell(self, doorbell: Doorbell) -> None:
        for loop, (known, users) in tuple(self._doorbell_users.items()):
            if known is doorbell:
                if users > 1:
                    self._doorbell_users[loop] = (doorbell, users - 1)
                else:
                    del self._doorbell_users[loop]
                    doorbell.retire()
        self._list_doorbells()

    def _list_doorbells(self) -> None:
        self._doorbells = tuple(doorbell for doorbell, _ in self._doorbell_users.values())
        self._allow(self._idle_slack())

    # In the critical section.

    def _distribute(self) -> bool:
        """Number what is pending, and put it into the mailboxes that want it."""
        # Nothing either for a signal handler that asks amid just this; and nothing once sealed: what
        # is pending then is withdrawn by its publisher, which must find it here.
        if not self._pending or self._is_distributing or self._is_sealed:
            return False
        self._is_distributing = True
        self._left = -1  # not to be compared with
        try:
            self._put_batch()
        finally:
            self._is_distributing = False
        return True

    def _put_batch(self) -> None:
        pending = self._pending
        count = len(pending)
        batch = [pending.popleft() for _ in range(count)]
        first = self._accepted + 1
        self._accepted += count
        if len(set(map(type, batch))) == 1 and type(batch[0]) is not Envelope:
            self._put_all(type(batch[0]), first, batch)
        else:
            batch = [self._put_one(seq, entry) for seq, entry in enumerate(batch, first)]
        self._history.extend(batch)

    def _put_all(self, cls: type, first: int, entries: Sequence[Entry]) -> None:
        for subscription in self._route_of(cls):
            mailbox = subscription.mailbox
            mailbox.put(first, entries)
            if mailbox.alarm is not None:
                self._stir(mailbox, mailbox.alarm)

    def _put_one(self, seq: int, entry: Entry) -> Entry:
        """Put one entry into mailboxes; return what is kept of it in the history."""
        if type(entry) is not Envelope:
            self._put_all(type(entry), seq, (entry,))
            return entry
        kept: Entry = entry if entry.depth else entry.event
        for subscription in self._route_of(type(entry.event)):
            mailbox = subscription.mailbox
            mailbox.put_keyed(seq, kept, entry.keys.get(subscription, entry))
            if mailbox.alarm is not None:
                self._stir(mailbox, mailbox.alarm)
        return kept

    def _stir(self, mailbox: Mailbox, alarm: Callable[[], None]) -> None:
        """Have a mailbox's consumer woken."""
        mailbox.alarm = None
        self._stirred.add(mailbox)
        self._alarms.append(alarm)

    def _is_getting_on(self) -> bool:
        """Whether consumers have taken events since this was asked last, and have more to take."""
        self._stirred = {each for each in self._stirred if each.contents and each.alarm is None}
        before, self._left = self._left, sum(map(len, self._stirred))
        return 0 < self._left != before

    def _route_of(self, cls: type) -> tuple[Subscription, ...]:
        route = self._routes.get(cls)
        if route is None:
            route = self._routes[cls] = self._wanting(cls)
        return route

    def _wanting(self, cls: type) -> tuple[Subscription, ...]:
        """Return the subscriptions that want a class; also read outside the section."""
        found = (each for base in cls.__mro__ for each in self._wanted.get(base, ()))
        return tuple(dict.fromkeys(found))

    def _publish_if_room(self, entry: Entry, waiter: Waiter | None) -> tuple[Mailbox, ...] | None:
        """Publish if there is room wherever that is waited for; else ask for it, and return where.

        None means that the bus has closed meanwhile.
        """
        if not self._takes_from_here():
            self._rejected += 1
            return None
        self._distribute()
        wanting = self._wanting(type(event_of(entry)))
        full = [each for each in wanting if each.mailbox.overflow is Overflow.WAIT and each.mailbox.is_full()]
        if not full:
            self._pending.append(entry)
            self._distribute()
            return ()
        me = handling.get()
        if me is not None and me in full:
            raise WouldDeadlockError(
                f"the handler of {me.name!r} cannot wait for room in its own mailbox. "
                "Use publish, or a larger capacity"
            )
        if waiter is not None:
            for each in full:
                each.mailbox.want_room(waiter.notify)
        return tuple(each.mailbox for each in full)

    def _stop_intake(self) -> None:
        """Accept nothing more but from handlers; what was accepted is in the mailboxes on return."""
        self._is_closed = True
        self._slack = -1
        self._forget_routes()
        self._distribute()

    def _seal(self) -> None:
        """Accept nothing more from anybody; what was accepted is in the mailboxes on return."""
        self._stop_intake()
        self._is_sealed = True

    def _withdraw(self, entry: Entry) -> bool:
        """Take back what was appended while the bus closed; False if it got through."""
        try:
            self._pending.remove(entry)
        except ValueError:
            return False
        self._rejected += 1
        return True

    def _admit(
        self,
        subscription: Subscription,
        classes: tuple[type[Event], ...],
        replay: int,
        keys: dict[int, Hashable],
    ) -> list[tuple[int, Event]]:
        """Make a subscription effective from the next event on, after `replay` earlier ones.

        Returns the events to replay, with their numbers, whose keys must be known first; then nothing
        has been done.
        """
        self._distribute()
        replayed = self._latest_of(classes, replay)
        if subscription.key is not None:
            unknown = [(seq, event_of(entry)) for seq, entry in replayed if seq not in keys]
            if unknown:
                return unknown
        for seq, entry in replayed:
            subscription.mailbox.put_keyed(seq, entry, keys.get(seq))
        for cls in classes:
            self._wanted[cls] = (*self._wanted.get(cls, ()), subscription)
        self._forget_routes()
        return []

    def _latest_of(self, classes: tuple[type[Event], ...], number: int) -> list[tuple[int, Entry]]:
        if not number:
            return []
        numbered = enumerate(self._history, self._accepted - len(self._history) + 1)
        return [pair for pair in numbered if isinstance(event_of(pair[1]), classes)][-number:]

    def _tap_inside(self, cls: type[Event]) -> blinker.Signal:
        signal = self._taps.setdefault(cls, blinker.Signal())
        self._forget_routes()
        return signal

    def _dismiss(self, subscription: Subscription) -> None:
        """Put nothing more into a subscription's mailbox, and lose what is in it."""
        self._distribute()
        for cls, wanting in tuple(self._wanted.items()):
            if subscription in wanting:
                left = tuple(each for each in wanting if each is not subscription)
                if left:
                    self._wanted[cls] = left
                else:
                    del self._wanted[cls]
        subscription.mailbox.close()
        self._forget_routes()

    def _forget_routes(self) -> None:
        self._routes.clear()
        # Replaced, not cleared: a publisher may be about to store what it worked out before.
        self._kinds = {}


def _want_no_room(mailboxes: tuple[Mailbox, ...], notify: Callable[[], None]) -> None:
    for mailbox in mailboxes:
        mailbox.want_no_room(notify)
