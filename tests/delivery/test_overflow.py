"""Which events a full mailbox loses, and how its subscription is notified."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest

from eventbus import Event, EventBus, EventsLost, EventStream, Overflow, Subscriber, SubscriberError
from tests import vocabulary
from tests.vocabulary import Tick, Tock, Word, ignore, number, opened, word, words


def by_key(event: Tick) -> str:
    return event.key


def publish(bus: EventBus, *numbers: int) -> None:
    vocabulary.publish(bus, *numbers)
    bus.statistics()  # reading the statistics moves all published events into the mailboxes


def read(stream: EventStream[Any]) -> list[Word]:
    """Read all that is queued: a tick as its number, a loss as its count, first and last number."""
    return words(vocabulary.read(stream))


@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("capacity", [1, 3, 64, 65, 100])
def test_never_more_than_the_capacity(bus: EventBus, overflow: Overflow, capacity: int) -> None:
    """A mailbox never holds more events than its capacity."""
    key = {"key": number} if overflow is Overflow.COALESCE else {}
    stream = opened(bus, overflow=overflow, capacity=capacity, **key)
    for n in range(1, 301):
        publish(bus, n)
        assert stream.statistics().queued == min(n, capacity)
    assert stream.statistics().high_water == capacity
    assert len([each for each in read(stream) if isinstance(each, int)]) == capacity


@pytest.mark.parametrize(
    ("overflow", "kept"),
    [
        (Overflow.DROP_OLDEST, [(4, 1, 4), 5, 6, 7]),
        (Overflow.DROP_NEWEST, [1, 2, 3, (4, 4, 7)]),
        (Overflow.WAIT, [1, 2, 3, (4, 4, 7)]),
    ],
)
def test_which_are_lost(bus: EventBus, overflow: Overflow, kept: Sequence[Word]) -> None:
    """`DROP_OLDEST` loses the oldest queued events, `DROP_NEWEST` the new ones."""
    stream = opened(bus, overflow=overflow, capacity=3)
    publish(bus, *range(1, 8))
    assert read(stream) == kept


def test_coalesce(bus: EventBus) -> None:
    """`COALESCE` keeps the latest of the queued events with equal keys, in that event's place; beyond its
    capacity it loses the oldest.
    """
    stream = opened(bus, Tick, overflow=Overflow.COALESCE, key=by_key, capacity=3)
    for n, key in enumerate("aabacbd", 1):
        bus.publish(Tick(n=n, key=key))
    # a=4, c=5, b=6 were queued when d came: the oldest of the three was lost.
    assert read(stream) == [5, 6, 7]
    assert stream.statistics().lost == 4


def test_coalesce_keys_belong_to_one_subscription(bus: EventBus) -> None:
    """Keys belong to one subscription: an event replaced in one mailbox stays in the others."""
    of_key = opened(bus, Tick, overflow=Overflow.COALESCE, key=by_key)
    of_number = opened(bus, Tick, overflow=Overflow.COALESCE, key=number)
    plain = opened(bus, Tick)
    publish(bus, 1, 2, 3)
    assert (read(of_key), read(of_number), read(plain)) == ([3], [1, 2, 3], [1, 2, 3])


def test_coalesce_counts_replayed_events(bus: EventBus) -> None:
    """`COALESCE` keeps the latest of the queued events with equal keys, including replayed ones."""
    publish(bus, 1, 2, 3)
    stream = opened(bus, Tick, overflow=Overflow.COALESCE, key=by_key, replay=3)
    publish(bus, 4)
    assert read(stream) == [4]


def test_a_key_runs_in_the_publishers_thread(bus: EventBus) -> None:
    """A key function runs in the publisher's thread."""
    threads: list[int] = []

    def key(event: Tick) -> int:
        threads.append(threading.get_ident())
        return event.n

    opened(bus, Tick, overflow=Overflow.COALESCE, key=key)
    publisher = threading.Thread(target=publish, args=(bus, 1, 2))
    publisher.start()
    publisher.join()
    assert threads == [publisher.ident, publisher.ident]


def _raise(event: Event) -> int:
    raise RuntimeError("no key")


def _unhashable(event: Event) -> list[int]:
    return []


@pytest.mark.parametrize("key", [_raise, _unhashable])
def test_a_key_that_raises(
    bus: EventBus, key: Callable[[Event], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """If a key function raises, the exception is logged and the event replaces none."""
    stream = opened(bus, Tick, overflow=Overflow.COALESCE, key=key, name="progress")
    publish(bus, 1, 2, 3)
    assert read(stream) == [1, 2, 3]
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert "'progress'" in caplog.text
    assert "key of a Tick" in caplog.text


@pytest.mark.anyio
async def test_wait(bus: EventBus) -> None:
    """`WAIT` loses the new event when a plain `publish` finds the mailbox full; `publish_wait` loses none."""
    stream = opened(bus, overflow=Overflow.WAIT, capacity=2)
    taken: list[Word] = []

    async def consume() -> None:
        while len(taken) < 6:
            taken.append(word(await stream.receive()))

    publish(bus, 1, 2, 3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        for n in range(4, 7):
            assert await bus.publish_wait(Tick(n=n))
    assert taken == [1, 2, (1, 3, 3), 4, 5, 6]
    assert stream.statistics().lost == 1


def test_loss_is_reported_in_its_place(bus: EventBus) -> None:
    """A subscription whose events include `EventsLost` gets one exactly where events are missing, with their
    count and the sequence numbers of the first and the last.
    """
    stream = opened(bus, Tick | EventsLost, capacity=2, overflow=Overflow.DROP_NEWEST)
    publish(bus, 1, 2)
    bus.publish(Tock())  # the bus's third event, which this subscription does not get
    publish(bus, 4, 5)
    assert word(stream.receive_nowait()) == 1
    publish(bus, 6, 7)
    assert read(stream) == [2, (2, 4, 5), 6, (1, 7, 7)]


def test_losses_between_two_reads_are_one_event(bus: EventBus) -> None:
    """Until the reader reads again, all losses in one place are one `EventsLost`."""
    stream = opened(bus, capacity=1)
    for n in range(1, 1_001):
        publish(bus, n)
    assert read(stream) == [(999, 1, 999), 1000]


@pytest.mark.parametrize("events", [Tick, Tick | Tock, (Tick, Tock)])
def test_without_events_lost_losses_are_only_counted(bus: EventBus, events: Any) -> None:
    """A subscription whose events do not include `EventsLost` gets none."""
    stream = opened(bus, events, capacity=1)
    publish(bus, 1, 2, 3)
    assert read(stream) == [3]
    assert stream.statistics().lost == 2


@pytest.mark.parametrize("events", [Event, EventsLost | Tick, (Tick, EventsLost)])
def test_what_includes_events_lost(bus: EventBus, events: Any) -> None:
    """A base class, a union and a tuple include `EventsLost` if one of their classes does."""
    stream = opened(bus, events, capacity=1)
    publish(bus, 1, 2, 3)
    assert read(stream) == [(2, 1, 2), 3]


def test_a_loss_belongs_to_one_subscription(bus: EventBus) -> None:
    """An `EventsLost` belongs to one subscription: it has no sequence number, is not in the history, and is
    not seen by taps or other subscriptions.
    """
    small, large = opened(bus, capacity=1), opened(bus)
    tapped: list[Event] = []
    bus.tap(Event).connect(tapped.append, weak=False)
    publish(bus, 1, 2)
    assert read(small) == [(1, 1, 1), 2]
    publish(bus, 3)
    assert read(large) == [1, 2, 3]
    assert [word(event) for event in tapped] == [1, 2, 3]
    assert bus.statistics().accepted == 3
    assert read(opened(bus, replay=100)) == [1, 2, 3]
    publish(bus, 4, 5)
    assert read(small) == [(2, 3, 4), 5]  # the `EventsLost` took no sequence number


def test_a_loss_has_no_session(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `EventsLost` has no session: neither its reader's nor the process's."""
    monkeypatch.setenv("EVENTBUS_SESSION_ID", "the-process")
    stream = opened(bus, EventsLost | Tick, capacity=1)
    publish(bus, 1, 2)
    lost = stream.receive_nowait()
    assert isinstance(lost, EventsLost)
    assert lost.session_id is None


class _Batches(Subscriber[Event]):
    capacity = 4

    def __init__(self) -> None:
        self.batches: list[list[Word]] = []

    async def handle_batch(self, events: Sequence[Event]) -> None:
        self.batches.append([word(event) for event in events])


@pytest.mark.anyio
async def test_loss_in_a_batch() -> None:
    """A subscriber that handles batches gets the `EventsLost` in its place in the batch."""
    batches = _Batches()
    bus = EventBus([batches])
    publish(bus, *range(1, 11))
    async with bus:
        pass
    assert list(itertools.chain(*batches.batches)) == [(6, 1, 6), 7, 8, 9, 10]


@pytest.mark.anyio
async def test_loss_in_a_handler() -> None:
    """A handler gets the `EventsLost` before the first event after the missing ones."""
    got: list[Word] = []
    bus = EventBus()
    bus.subscribe(lambda event: got.append(word(event)), Event, capacity=2)
    publish(bus, 1, 2, 3)
    async with bus:
        await bus.drain()
        publish(bus, 4)
        await bus.drain()
        assert bus.statistics().subscriptions["<lambda>"].delivered == 3  # without the `EventsLost`
    assert got == [(1, 1, 1), 2, 3, 4]


@pytest.mark.usefixtures("_threads_interleave")
@pytest.mark.parametrize("overflow", list(Overflow))
def test_the_counts_balance_at_every_instant(overflow: Overflow) -> None:
    """`accepted == delivered + lost + queued` holds for every subscription at every instant."""
    times_read = 0
    with EventBus() as bus:
        key = _by_fiftieth if overflow is Overflow.COALESCE else None
        subscription = bus.subscribe(ignore, Tick, capacity=100, overflow=overflow, key=key)
        publisher = threading.Thread(target=publish, args=(bus, *range(8_000)))
        publisher.start()
        while publisher.is_alive() or subscription.statistics().queued:
            for snapshot in (subscription.statistics(), *bus.statistics().subscriptions.values()):
                assert snapshot.accepted == snapshot.delivered + snapshot.lost + snapshot.queued
                times_read += 1
        publisher.join()
        snapshot = subscription.statistics()
        assert (snapshot.accepted, snapshot.queued) == (8_000, 0)
    assert times_read > 50


def _by_fiftieth(event: Tick) -> int:
    return event.n % 50


def test_the_counts_balance_while_a_consumer_takes_without_the_lock(bus: EventBus) -> None:
    """`accepted == delivered + lost + queued` holds even if an event is taken during the reading."""
    stream = opened(bus)
    publish(bus, 1, 2, 3)
    frames_seen = 0

    def take_at_every_call(frame: Any, what: str, argument: object) -> None:
        nonlocal frames_seen
        if "eventbus" in frame.f_code.co_filename and frames_seen in steps:
            with suppress(IndexError):
                taker.take()
        frames_seen += 1

    taker = bus._router.subscriptions["stream"].mailbox
    for step in range(40):
        publish(bus, step)
        frames_seen, steps = 0, {step}
        sys.setprofile(take_at_every_call)
        try:
            snapshot = stream.statistics()
        finally:
            sys.setprofile(None)
        assert snapshot.accepted == snapshot.delivered + snapshot.lost + snapshot.queued


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, None, "many"])
def test_a_capacity_below_one(bus: EventBus, capacity: Any) -> None:
    """A capacity is an integer of 1 or more."""
    with pytest.raises(SubscriberError, match="capacity"):
        opened(bus, capacity=capacity)


def test_key_and_coalesce_need_each_other(bus: EventBus) -> None:
    """`COALESCE` needs a key, and a key needs `COALESCE`."""
    with pytest.raises(SubscriberError, match="needs key="):
        opened(bus, overflow=Overflow.COALESCE)
    with pytest.raises(SubscriberError, match="COALESCE only"):
        opened(bus, key=id)
    with pytest.raises(SubscriberError, match="not an Overflow"):
        opened(bus, overflow="drop_oldest")
    assert bus.statistics().subscriptions == {}
