"""The mailbox against a simple model."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import FrameType

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventbus.contracts import Overflow
from eventbus.delivery.coalescing_mailbox import new_mailbox
from eventbus.delivery.critical_section import CriticalSection
from eventbus.delivery.entries import Entry, Envelope
from eventbus.delivery.mailbox import Mailbox
from tests.vocabulary import Tick, Word, word, words


def mailbox_of(
    capacity: int, overflow: Overflow = Overflow.DROP_OLDEST, *, reports_losses: bool = True
) -> Mailbox:
    return new_mailbox(CriticalSection(lambda: None), capacity, overflow, reports_losses=reports_losses)


def tick(seq: int) -> Entry:
    return Tick(n=seq)


def put(mailbox: Mailbox, *seqs: int) -> None:
    for seq in seqs:
        mailbox.put(seq, (tick(seq),))


def take_all(mailbox: Mailbox) -> list[Word]:
    taken: list[Entry] = []
    with suppress(IndexError):
        while True:
            taken.append(mailbox.take())
    return words(taken)


class _Place:
    """One accepted event of the model: still queued, or lost."""

    def __init__(self, seq: int, key: int) -> None:
        self.seq = seq
        self.key = key
        self.is_lost = False


class _Model:
    """All events that were put and not passed yet, in order; a lost one stays in its place."""

    def __init__(self, capacity: int, overflow: Overflow, *, reports_losses: bool) -> None:
        self.capacity = capacity
        self.overflow = overflow
        self.reports_losses = reports_losses
        self.places: list[_Place] = []
        self.accepted = self.delivered = self.lost = self.high_water = 0

    def queued(self) -> list[_Place]:
        return [place for place in self.places if not place.is_lost]

    def put(self, seq: int, key: int) -> None:
        self.accepted += 1
        new = _Place(seq, key)
        if self.overflow is Overflow.COALESCE:
            self._lose([place for place in self.queued() if place.key == key])
        self.places.append(new)
        if len(self.queued()) > self.capacity:
            drops_oldest = self.overflow in (Overflow.DROP_OLDEST, Overflow.COALESCE)
            self._lose([self.queued()[0] if drops_oldest else new])
        self.high_water = max(self.high_water, len(self.queued()))

    def _lose(self, places: list[_Place]) -> None:
        for place in places:
            place.is_lost = True
            self.lost += 1

    def take(self) -> list[Word]:
        """Return the next entry in a list, or an empty list."""
        missing = 0
        while missing < len(self.places) and self.places[missing].is_lost:
            missing += 1
        gap, self.places = self.places[:missing], self.places[missing:]
        if gap and self.reports_losses:
            return [(len(gap), gap[0].seq, gap[-1].seq)]
        if not self.places:
            return []
        self.delivered += 1
        return [self.places.pop(0).seq]

    def close(self) -> None:
        self._lose(self.queued())
        self.places = []


class _MailboxMachine(RuleBasedStateMachine):
    """Puts, takes and closes in any order."""

    @initialize(
        capacity=st.integers(1, 5), overflow=st.sampled_from(list(Overflow)), reports_losses=st.booleans()
    )
    def begin(self, capacity: int, overflow: Overflow, *, reports_losses: bool) -> None:
        self.mailbox = mailbox_of(capacity, overflow, reports_losses=reports_losses)
        self.model = _Model(capacity, overflow, reports_losses=reports_losses)
        self.seq = 0
        self.is_closed = False
        self.entries = self.mailbox.entries(1)

    @rule(key=st.integers(1, 4), skipped=st.integers(0, 3))
    def put_one(self, key: int, skipped: int) -> None:
        self.seq += 1 + skipped  # sequence numbers have holes where an event was not for this mailbox
        self.mailbox.put_keyed(self.seq, tick(self.seq), key)
        if not self.is_closed:
            self.model.put(self.seq, key)

    @rule(count=st.integers(1, 12), skipped=st.integers(0, 3))
    def put_batch(self, count: int, skipped: int) -> None:
        first, self.seq = self.seq + 1 + skipped, self.seq + skipped + count
        self.mailbox.put(first, [tick(seq) for seq in range(first, self.seq + 1)])
        if not self.is_closed:
            for seq in range(first, self.seq + 1):
                self.model.put(seq, key=-seq)

    @rule()
    def take(self) -> None:
        taken: list[Entry] = []
        with suppress(IndexError):
            taken.append(self.mailbox.take())
        assert words(taken) == self.model.take()

    @rule(limit=st.integers(1, 4))
    def begin_iterator(self, limit: int) -> None:
        self.entries = self.mailbox.entries(limit)

    @rule()
    def take_by_iterator(self) -> None:
        """Go on with the iterator, whatever was put or lost since it began; it may only end too early."""
        taken: list[Entry] = []
        entries, are_plain = self.entries
        with suppress(IndexError):
            taken = list(islice(entries, 1))
        if taken:
            assert words(taken) == self.model.take()
            assert isinstance(taken[0], Tick) or not are_plain

    @rule(limit=st.integers(1, 8))
    def take_batch(self, limit: int) -> None:
        expected: list[Word] = []
        while len(expected) < limit and (taken := self.model.take()):
            expected += taken
        assert words(self.mailbox.take_batch(limit)) == expected

    @precondition(lambda self: self.seq > 20)
    @rule()
    def close(self) -> None:
        self.mailbox.close()
        self.model.close()
        self.is_closed = True

    @invariant()
    def books_agree(self) -> None:
        mailbox, model = self.mailbox, self.model
        assert len(mailbox) == len(model.queued()) <= mailbox.capacity
        assert mailbox.is_full() == (len(model.queued()) == model.capacity)
        snapshot = (mailbox.accepted, mailbox.lost, mailbox.high_water)
        assert snapshot == (model.accepted, model.lost, model.high_water)
        assert mailbox.accepted == model.delivered + mailbox.lost + len(mailbox)
        if model.queued() or (model.places and model.reports_losses):
            assert mailbox.contents


def test_model() -> None:
    """A mailbox behaves like a list that keeps each lost event in its place."""
    run_state_machine_as_test(_MailboxMachine, settings=settings(stateful_step_count=50))


@pytest.mark.nightly
def test_model_at_length() -> None:
    """A mailbox behaves like a list that keeps each lost event in its place."""
    long = settings(settings.get_profile("nightly"), stateful_step_count=60)
    run_state_machine_as_test(_MailboxMachine, settings=long)


@pytest.mark.parametrize("overflow", list(Overflow))
def test_nothing_is_lost_within_the_capacity(overflow: Overflow) -> None:
    """Up to its capacity a mailbox returns all its events, in order."""
    mailbox = mailbox_of(3, overflow)
    put(mailbox, 1, 2, 3)
    assert take_all(mailbox) == [1, 2, 3]
    assert mailbox.lost == 0


@pytest.mark.parametrize(
    ("overflow", "taken"),
    [
        (Overflow.DROP_OLDEST, [(2, 1, 2), 3, 4, 5]),
        (Overflow.DROP_NEWEST, [1, 2, 3, (2, 4, 5)]),
        (Overflow.WAIT, [1, 2, 3, (2, 4, 5)]),
        (Overflow.COALESCE, [(2, 1, 2), 3, 4, 5]),
    ],
)
def test_which_are_lost(overflow: Overflow, taken: list[object]) -> None:
    """Each overflow loses the events it is named for, and an `EventsLost` stands where events are missing."""
    mailbox = mailbox_of(3, overflow)
    put(mailbox, 1, 2, 3, 4, 5)
    assert take_all(mailbox) == taken


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
def test_what_was_begun_before_an_overflow_takes_nothing_after_it(overflow: Overflow) -> None:
    """A consumer that an overflow interrupts, at any step, takes neither a gap nor an event behind one."""
    mailbox = mailbox_of(2, overflow)
    put(mailbox, 1, 2)
    take, entries = mailbox.take, mailbox.entries(2)[0]
    put(mailbox, 3)
    for interrupted in (take, entries.__next__):
        with pytest.raises(IndexError):
            interrupted()
    assert len(take_all(mailbox)) == 3


def test_the_consumer_takes_while_an_overflow_begins() -> None:
    """An overflow loses nothing more, and raises nothing, if an event is taken in the middle of it."""
    mailbox = mailbox_of(2)
    put(mailbox, 1, 2)
    take, taken = mailbox.take, list[Entry]()

    def take_behind_its_back(frame: FrameType, what: str, argument: object) -> None:
        if (frame.f_code.co_name, what, argument) == ("_move_queue", "c_return", len):
            taken.append(take())

    sys.setprofile(take_behind_its_back)
    try:
        mailbox.put(3, [tick(3), tick(4)])
    finally:
        sys.setprofile(None)
    assert words(taken) == [1]
    assert take_all(mailbox) == [(1, 2, 2), 3, 4]


def test_what_was_begun_before_the_first_envelope_does_not_take_it() -> None:
    """A consumer learns that there are envelopes before it takes one."""
    mailbox = mailbox_of(9)
    put(mailbox, 1)
    entries, are_plain = mailbox.entries(9)
    assert are_plain
    mailbox.put_keyed(2, Envelope(Tick(n=2), 1, {}), key=None)
    with pytest.raises(IndexError):
        next(entries)
    entries, are_plain = mailbox.entries(2)
    assert not are_plain
    assert [type(entry) for entry in entries] == [Tick, Envelope]
    put(mailbox, 3)
    assert not mailbox.entries(1)[1]


def test_two_gaps_are_two_losses() -> None:
    """An `EventsLost` stands exactly where events are missing: two gaps give two."""
    mailbox = mailbox_of(2, Overflow.DROP_NEWEST)
    put(mailbox, 1, 2, 3)
    assert word(mailbox.take()) == 1
    put(mailbox, 4, 5, 6)
    assert take_all(mailbox) == [2, (1, 3, 3), 4, (2, 5, 6)]


def test_the_latest_of_a_key_keeps_its_place() -> None:
    """`COALESCE` keeps the latest of the queued events with equal keys, in that event's place."""
    mailbox = mailbox_of(5, Overflow.COALESCE)
    for seq, key in enumerate("abab", 1):
        mailbox.put_keyed(seq, tick(seq), key)
    assert take_all(mailbox) == [(2, 1, 2), 3, 4]


def test_a_taken_event_is_not_replaced() -> None:
    """A new event replaces queued events only, not those already taken."""
    mailbox = mailbox_of(5, Overflow.COALESCE)
    mailbox.put_keyed(1, tick(1), "a")
    assert word(mailbox.take()) == 1
    mailbox.put_keyed(2, tick(2), "a")
    assert take_all(mailbox) == [2]
    assert mailbox.lost == 0


def test_gaps_stay_fewer_than_events() -> None:
    """100,000 events with one key leave one event and one gap."""
    mailbox = mailbox_of(10, Overflow.COALESCE)
    for seq in range(1, 100_001):
        mailbox.put_keyed(seq, tick(seq), "the only one")
    assert len(mailbox.contents) <= 11
    assert take_all(mailbox) == [(99_999, 1, 99_999), 100_000]


def test_without_reporting_losses() -> None:
    """Without `reports_losses` only events are taken, and the counts still balance."""
    mailbox = mailbox_of(2, Overflow.DROP_NEWEST, reports_losses=False)
    put(mailbox, 1, 2, 3)
    assert words(mailbox.take_batch(9)) == [1, 2]
    assert mailbox.take_batch(9) == []
    assert (mailbox.accepted, mailbox.lost, len(mailbox)) == (3, 1, 0)


@pytest.mark.parametrize("overflow", list(Overflow))
def test_closed(overflow: Overflow) -> None:
    """A closed mailbox counts its queued events as lost and accepts nothing more."""
    mailbox = mailbox_of(2, overflow)
    put(mailbox, 1, 2, 3)
    mailbox.close()
    put(mailbox, 4)
    assert (len(mailbox), mailbox.accepted, mailbox.lost) == (0, 3, 3)
    assert not mailbox.contents
    with pytest.raises(IndexError):
        mailbox.take()


@pytest.mark.usefixtures("_threads_interleave")
@pytest.mark.parametrize("overflow", list(Overflow))
def test_closed_while_it_is_emptied(overflow: Overflow) -> None:
    """After `close` no event queued behind the lost ones is taken."""
    entries = [tick(seq) for seq in range(1, 3_001)]
    for _ in range(20):
        section = CriticalSection(lambda: None)
        mailbox = new_mailbox(section, len(entries), overflow, reports_losses=True)
        mailbox.put(1, entries)
        taken: list[Entry] = []
        closer = threading.Thread(target=section.run, args=(type(mailbox).close, mailbox))
        with suppress(IndexError):
            while True:
                taken.append(mailbox.take())
                if len(taken) == 5:
                    closer.start()
        closer.join()
        assert words(taken) == list(range(1, len(taken) + 1))
        assert mailbox.lost == len(entries) - len(taken)


def test_lag() -> None:
    """Lag is the age of the oldest queued event, without the lost ones before it; 0.0 if none is queued."""
    mailbox = mailbox_of(1)
    assert mailbox.lag() == 0.0
    for minutes, seq in ((9, 1), (5, 2)):
        happened = datetime.now(UTC) - timedelta(minutes=minutes)
        mailbox.put(seq, (Tick(n=seq, timestamp=happened),))
    assert 300 <= mailbox.lag() < 360
    mailbox.put(3, (Tick(n=3, timestamp=datetime.now(UTC) + timedelta(days=1)),))
    assert mailbox.lag() == 0.0


@pytest.mark.usefixtures("_threads_interleave")
@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("batch", [0, 7, -7])
def test_every_event_is_taken_or_in_one_loss(overflow: Overflow, batch: int) -> None:
    """While another thread puts, each event is taken, or covered by one `EventsLost`, once and in order."""
    section = CriticalSection(lambda: None)
    mailbox = new_mailbox(section, 8, overflow, reports_losses=True)
    last = 10_000
    taken: list[Entry] = []

    def produce() -> None:
        for seq in range(1, last + 1):
            section.run(lambda one: mailbox.put_keyed(one, tick(one), one % 5), seq)

    producer = threading.Thread(target=produce)
    producer.start()
    while producer.is_alive() or mailbox.contents:
        with suppress(IndexError):
            if batch < 0:
                for entry in mailbox.entries(-batch)[0]:
                    taken.append(entry)
            else:
                taken += mailbox.take_batch(batch) if batch else [mailbox.take()]
    producer.join()
    covered = delivered = 0
    for said in words(taken):
        count, first, until = (1, said, said) if isinstance(said, int) else said
        assert (first, until) == (covered + 1, covered + count)
        covered = until
        delivered += isinstance(said, int)
    assert covered == last
    assert (mailbox.accepted, mailbox.lost) == (last, last - delivered)
