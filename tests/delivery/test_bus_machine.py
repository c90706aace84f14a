"""The bus against a simple model, driven by Hypothesis in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventbus import Event, EventBus, EventsLost, EventStream, Overflow, SubscriberFailed

HISTORY = 20
QUARANTINE_AFTER = 10

Word: TypeAlias = "int | tuple[int, int, int]"
"""An event as its number, or a loss as its count, first and last number."""


class _Root(Event, frozen=True, kw_only=True):
    n: int
    key: int


def _key(event: _Root) -> int:
    return event.key


class _Left(_Root, frozen=True, kw_only=True):
    pass


class _Right(_Root, frozen=True, kw_only=True):
    pass


class _LeftLeaf(_Left, frozen=True, kw_only=True):
    pass


PUBLISHED: list[type[_Root]] = [_Root, _Left, _Right, _LeftLeaf]
WANTED: list[Any] = [
    Event,
    _Root,
    _Left,
    _LeftLeaf,
    _Left | _Right,
    _LeftLeaf | _Left,
    _Right | EventsLost,
    (_LeftLeaf, Event),
]

entries = st.tuples(st.sampled_from(PUBLISHED), st.integers(1, 3))


class _Model:
    """The expected contents of one stream: each event it got and has not passed yet, lost or not."""

    def __init__(self, wanted: Any, capacity: int, overflow: Overflow) -> None:
        classes = wanted if isinstance(wanted, tuple) else getattr(wanted, "__args__", (wanted,))
        self.wanted: tuple[type[Event], ...] = classes
        self.includes_losses = any(issubclass(EventsLost, each) for each in classes)
        self.capacity = capacity
        self.overflow = overflow
        self.held: list[list[Any]] = []  # [event, is lost]
        self.accepted = self.delivered = self.lost = 0

    def queued(self) -> list[list[Any]]:
        return [each for each in self.held if not each[1]]

    def give(self, event: _Root) -> None:
        if not isinstance(event, self.wanted):
            return
        self.accepted += 1
        new = [event, False]
        if self.overflow is Overflow.COALESCE:
            self._lose([each for each in self.queued() if each[0].key == event.key])
        self.held.append(new)
        if len(self.queued()) > self.capacity:
            drops_oldest = self.overflow in (Overflow.DROP_OLDEST, Overflow.COALESCE)
            self._lose([self.queued()[0] if drops_oldest else new])

    def _lose(self, them: list[list[Any]]) -> None:
        for each in them:
            each[1] = True
            self.lost += 1

    def take(self) -> Word | None:
        gap: list[int] = []
        while self.held and self.held[0][1]:
            gap.append(self.held.pop(0)[0].n)
        if gap and self.includes_losses:
            return (len(gap), gap[0], gap[-1])
        if not self.held:
            return None
        self.delivered += 1
        n: int = self.held.pop(0)[0].n
        return n


class _Streams(RuleBasedStateMachine):
    """A bus that is not entered, and streams that come, go, and are read at times."""

    streams = Bundle("streams")

    @initialize()
    def begin(self) -> None:
        self.bus = EventBus(history=HISTORY)
        self.accepted: list[_Root] = []
        self.rejected = 0
        self.tapped: list[Event] = []
        self.open: list[tuple[EventStream[Any], _Model]] = []
        self.is_closed = False
        self.is_tapped = False

    @rule(batch=st.lists(entries, min_size=1, max_size=6))
    def publish(self, batch: list[tuple[type[_Root], int]]) -> None:
        for cls, key in batch:
            event = cls(n=len(self.accepted) + 1, key=key)  # also its sequence number
            assert self.bus.publish(event) is not self.is_closed
            if self.is_closed:
                self.rejected += 1
            else:
                self.accepted.append(event)
        self.bus.statistics()  # reading the statistics moves all published events into the mailboxes
        if not self.is_closed:
            for _, model in self.open:
                for event in self.accepted[-len(batch) :]:
                    model.give(event)

    @rule(cls=st.sampled_from(PUBLISHED), count=st.integers(60, 140))
    def publish_many(self, cls: type[_Root], count: int) -> None:
        self.publish([(cls, 1)] * count)

    @rule(value=st.sampled_from([None, 1, "event", Event]))
    def publish_no_event(self, value: Any) -> None:
        with pytest.raises(TypeError):
            self.bus.publish(value)
        self.rejected += 1

    @precondition(lambda self: not self.is_closed)
    @rule(
        target=streams,
        wanted=st.sampled_from(WANTED),
        capacity=st.integers(1, 6),
        overflow=st.sampled_from(list(Overflow)),
        replay=st.integers(0, HISTORY + 2),
    )
    def subscribe(self, wanted: Any, capacity: int, overflow: Overflow, replay: int) -> int:
        options: dict[str, Any] = {"capacity": capacity, "overflow": overflow, "replay": replay}
        if overflow is Overflow.COALESCE:
            options["key"] = _key
        stream = self.bus.stream(wanted, **options)
        stream.open()
        model = _Model(wanted, capacity, overflow)
        matching = [event for event in self.accepted[-HISTORY:] if isinstance(event, model.wanted)]
        for event in matching[len(matching) - min(replay, len(matching)) :]:
            model.give(event)
        self.open.append((stream, model))
        return id(stream)

    @rule(which=streams, limit=st.integers(1, 8))
    def read(self, which: int, limit: int) -> None:
        for stream, model in self.open:
            if id(stream) == which:
                for _ in range(limit):
                    assert self._receive(stream) == model.take()

    def _receive(self, stream: EventStream[Any]) -> Word | None:
        try:
            event = stream.receive_nowait()
        except anyio.WouldBlock:
            assert not self.is_closed
            return None
        except anyio.EndOfStream:
            assert self.is_closed
            return None
        if isinstance(event, EventsLost):
            return (event.count, event.first_seq, event.last_seq)
        assert event is self.accepted[event.n - 1]
        n: int = event.n
        return n

    @rule(which=consumes(streams))
    def unsubscribe(self, which: int) -> None:
        for pair in [pair for pair in self.open if id(pair[0]) == which]:
            stream, model = pair
            self.open.remove(pair)
            stream.close()
            with pytest.raises(anyio.EndOfStream):
                stream.receive_nowait()
            snapshot = stream.statistics()
            assert (snapshot.queued, snapshot.accepted, snapshot.delivered) == (
                0,
                model.accepted,
                model.delivered,
            )
            assert snapshot.lost == model.lost + len(model.queued())

    @precondition(lambda self: not self.is_tapped)
    @rule()
    def tap(self) -> None:
        self.is_tapped = True
        self.untapped = len(self.accepted)
        self.bus.tap(_Left).connect(self.tapped.append, weak=False)

    @precondition(lambda self: len(self.accepted) > 30)
    @rule()
    def close(self) -> None:
        report = self.bus.close()
        assert report.complete
        assert self.bus.close() is report
        self.is_closed = True

    @invariant()
    def books_agree(self) -> None:
        statistics = self.bus.statistics()
        assert (statistics.accepted, statistics.rejected) == (len(self.accepted), self.rejected)
        assert len(statistics.subscriptions) == len(self.open)
        for stream, model in self.open:
            snapshot = stream.statistics()
            assert statistics.subscriptions[snapshot.name].accepted == snapshot.accepted
            assert (snapshot.accepted, snapshot.delivered, snapshot.lost, snapshot.queued) == (
                model.accepted,
                model.delivered,
                model.lost,
                len(model.queued()),
            )
            assert snapshot.accepted == snapshot.delivered + snapshot.lost + snapshot.queued
            assert snapshot.queued <= snapshot.high_water <= model.capacity

    @invariant()
    def taps_saw_all(self) -> None:
        if self.is_tapped:
            assert self.tapped == [e for e in self.accepted[self.untapped :] if isinstance(e, _Left)]


class _Handler:
    """A handler that fails at the given keys, and the events it should get."""

    def __init__(self, wanted: Any, bad_keys: frozenset[int], after: int) -> None:
        self.wanted = wanted
        self.classes: tuple[type[Event], ...] = getattr(wanted, "__args__", (wanted,))
        self.bad_keys = bad_keys
        self.after = after
        self.until: int | None = None
        self.got: list[int] = []

    def handle(self, event: _Root) -> None:
        self.got.append(event.n)
        if event.key in self.bad_keys:
            raise ValueError("on request")

    async def handle_later(self, event: _Root) -> None:
        await anyio.lowlevel.checkpoint()
        self.handle(event)

    def expected(self, accepted: list[_Root]) -> tuple[list[int], int]:
        """Return the numbers of the events it should have got, and the number of failures among them."""
        got: list[int] = []
        failed = in_row = 0
        for event in accepted[self.after : self.until]:
            if in_row < QUARANTINE_AFTER and isinstance(event, self.classes):
                got.append(event.n)
                in_row = in_row + 1 if event.key in self.bad_keys else 0
                failed += event.key in self.bad_keys
        return got, failed


class _Handlers(RuleBasedStateMachine):
    """A bus in its own thread, and handlers that come, go and fail."""

    handlers = Bundle("handlers")

    @initialize(enter_at_once=st.booleans())
    def begin(self, *, enter_at_once: bool) -> None:
        self.bus = EventBus()
        self.is_entered = False
        self.accepted: list[_Root] = []
        self.all: list[_Handler] = []
        self.subscriptions: dict[int, Any] = {}
        self.failures: list[SubscriberFailed] = []
        self.bus.subscribe(self.failures.append, SubscriberFailed, capacity=100_000)
        if enter_at_once:
            self.enter()

    @precondition(lambda self: not self.is_entered)
    @rule()
    def enter(self) -> None:
        self.bus.__enter__()
        self.is_entered = True

    @rule(batch=st.lists(entries, min_size=1, max_size=12))
    def publish(self, batch: list[tuple[type[_Root], int]]) -> None:
        for cls, key in batch:
            event = cls(n=len(self.accepted) + 1, key=key)
            assert self.bus.publish(event)
            self.accepted.append(event)

    @rule(
        target=handlers,
        wanted=st.sampled_from([_Root, _Left, _LeftLeaf | _Right, _Left | _LeftLeaf]),
        bad_keys=st.frozensets(st.integers(1, 3), max_size=3),
        is_async=st.booleans(),
    )
    def subscribe(self, wanted: Any, bad_keys: frozenset[int], *, is_async: bool) -> int:
        handler = _Handler(wanted, bad_keys, after=len(self.accepted))
        handle: Callable[[Any], object] = handler.handle_later if is_async else handler.handle
        name = f"handler {len(self.all)}"
        self.subscriptions[id(handler)] = self.bus.subscribe(handle, wanted, name=name, capacity=100_000)
        self.all.append(handler)
        return id(handler)

    @rule(which=consumes(handlers), after_a_drain=st.booleans())
    def unsubscribe(self, which: int, *, after_a_drain: bool) -> None:
        if after_a_drain and self.is_entered:
            self.drain()
        self.subscriptions.pop(which).unsubscribe()
        for handler in self.all:
            if id(handler) == which:
                handler.until = len(self.accepted)

    @precondition(lambda self: self.is_entered)
    @rule()
    def drain(self) -> None:
        assert anyio.run(self.bus.drain).complete
        self._check()
        assert anyio.run(self.bus.drain).complete  # and the events that handlers published during it
        self._check_failures()

    def teardown(self) -> None:
        if not hasattr(self, "bus"):
            return
        report = self.bus.close()
        assert report.complete is (report.undelivered == 0)
        assert report.complete or not self.is_entered
        assert not self.bus.publish(_Root(n=0, key=0))
        if self.is_entered:
            self._check()
        else:
            assert not any(handler.got for handler in self.all)

    def _check(self) -> None:
        for handler in self.all:
            expected, failed = handler.expected(self.accepted)
            if id(handler) in self.subscriptions:
                assert handler.got == expected
                snapshot = self.subscriptions[id(handler)].statistics()
                assert snapshot.failed == failed
                assert snapshot.accepted == snapshot.delivered + snapshot.lost + snapshot.queued
                assert (snapshot.delivered, snapshot.queued) == (len(expected), 0)
            else:
                assert handler.got == expected[: len(handler.got)]

    def _check_failures(self) -> None:
        for subscription in self.subscriptions.values():
            snapshot = subscription.statistics()
            reported = [each.quarantined for each in self.failures if each.subscriber == subscription.name]
            assert len(reported) == snapshot.failed
            assert reported.count(True) == (snapshot.state == "quarantined") == reported[-1:].count(True)


QUICK = settings(stateful_step_count=60)
QUICK_WITH_THREADS = settings(max_examples=50, stateful_step_count=50)
LONG = settings(settings.get_profile("nightly"), stateful_step_count=60)


def test_a_drain_of_nothing() -> None:
    """A bus without queued events is drained, whether it runs or not."""
    bus = EventBus()
    subscription = bus.subscribe(lambda event: None, _Root)
    assert anyio.run(bus.drain).complete
    bus.publish(_Root(n=1, key=1))
    assert not anyio.run(bus.drain).complete
    subscription.unsubscribe()
    assert anyio.run(bus.drain).complete


def test_streams() -> None:
    """In any order of publishing, subscribing, reading, ending and closing, each stream holds the right
    events.
    """
    run_state_machine_as_test(_Streams, settings=QUICK)


@pytest.mark.usefixtures("caplog")
def test_handlers() -> None:
    """In any order of publishing, subscribing, ending and draining, each handler gets the right events."""
    run_state_machine_as_test(_Handlers, settings=QUICK_WITH_THREADS)


@pytest.mark.nightly
@pytest.mark.parametrize("machine", [_Streams, _Handlers])
def test_at_length(machine: type[RuleBasedStateMachine]) -> None:
    """In any order of operations, every subscription gets the right events."""
    run_state_machine_as_test(machine, settings=LONG)
