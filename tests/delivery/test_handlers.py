"""How handlers are called, and how their failures are treated."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from eventbus import (
    Event,
    EventBus,
    EventsLost,
    Overflow,
    Subscriber,
    SubscriberError,
    SubscriberFailed,
    current_session_id,
    session_scope,
)
from tests.vocabulary import Tick, Tock, number, publish


async def settle(bus: EventBus) -> None:
    """Wait until all events, and the events published while handling them, are handled."""
    for _ in range(3):
        await bus.drain()


class _Recorder(Subscriber[Tick]):
    events = Tick

    def __init__(self) -> None:
        self.trace: list[str] = []

    async def start(self, bus: EventBus) -> None:
        self.trace.append("start")

    async def handle(self, event: Tick) -> None:
        self.trace.append(str(event.n))

    async def stop(self) -> None:
        self.trace.append("stop")


class _Raising(Subscriber[Tick]):
    """Raises on the given numbers."""

    events = Tick

    def __init__(self, *numbers: int, error: BaseException | None = None) -> None:
        self.numbers = numbers
        self.error = error or ValueError("on request")
        self.got: list[int] = []

    async def handle(self, event: Tick) -> None:
        self.got.append(event.n)
        if event.n in self.numbers:
            raise self.error


# 23. What may be a handler.

_got: list[int] = []


def _function(event: Tick) -> None:
    _got.append(event.n)


async def _coroutine(event: Tick) -> None:
    await anyio.lowlevel.checkpoint()
    _got.append(event.n)


def _returns_awaitable(event: Tick) -> Awaitable[None]:
    return _coroutine(event)


def _with_prefix(prefix: str, event: Tick) -> None:
    assert prefix == "prefix"
    _got.append(event.n)


async def _with_prefix_later(prefix: str, event: Tick) -> None:
    _with_prefix(prefix, event)


class _Methods:
    def method(self, event: Tick) -> None:
        _got.append(event.n)

    async def coroutine(self, event: Tick) -> None:
        _got.append(event.n)

    @classmethod
    def of_class(cls, event: Tick) -> None:
        _got.append(event.n)

    @staticmethod
    async def static(event: Tick) -> None:
        _got.append(event.n)


class _Callable:
    def __call__(self, event: Tick) -> None:
        _got.append(event.n)


class _AsyncCallable:
    async def __call__(self, event: Tick) -> None:
        _got.append(event.n)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "handler",
    [
        _function,
        _coroutine,
        _returns_awaitable,
        functools.partial(_with_prefix, "prefix"),
        functools.partial(_with_prefix_later, "prefix"),
        functools.partial(functools.partial(_with_prefix, "prefix")),
        _Methods().method,
        _Methods().coroutine,
        _Methods.of_class,
        _Methods.static,
        _Callable(),
        _AsyncCallable(),
    ],
)
async def test_what_may_be_a_handler(handler: Callable[[Tick], object]) -> None:
    """Handlers may be functions, methods, partials or callable objects, sync or async; an awaitable returned
    by a sync handler is awaited.
    """
    _got.clear()
    async with EventBus() as bus:
        subscription = bus.subscribe(handler, Tick)
        publish(bus, 1, 2)
        await bus.drain()
        assert subscription.statistics().failed == 0
    assert _got == [1, 2]


@pytest.mark.parametrize("handler", [None, 1, "handler", _Recorder, _Callable, Tick])
def test_what_may_not_be_a_handler(handler: Any) -> None:
    """A handler that is neither callable nor a `Subscriber` is refused, and so is a class in place of an
    instance.
    """
    bus = EventBus()
    with pytest.raises(SubscriberError):
        bus.subscribe(handler, Tick)
    assert bus.statistics().subscriptions == {}


@pytest.mark.anyio
async def test_on() -> None:
    """The decorator subscribes the function to the given or annotated events, and returns it."""
    got: list[str] = []
    bus = EventBus()

    @bus.on(Tick, name="first")
    def first(event: Any) -> None:
        got.append(f"first {event.n}")

    @bus.on
    async def second(event: Tock) -> None:
        got.append(f"second {event.n}")

    @bus.on()
    def third(event: Tick | Tock) -> None:
        got.append(f"third {event.n}")

    async with bus:
        bus.publish(Tick(n=1))
        await bus.drain()
        bus.publish(Tock(n=2))
        await bus.drain()
    assert sorted(got) == ["first 1", "second 2", "third 1", "third 2"]
    assert set(bus.statistics().subscriptions) == {"first", "second", "third"}
    first(Tick(n=9))
    assert got[-1] == "first 9"


@pytest.mark.anyio
async def test_a_handler_runs_outside_the_publishers_session() -> None:
    """An event gets its session when it is built; a handler never runs in the publisher's session scope."""
    seen: list[tuple[str | None, str | None]] = []

    def handle(event: Tick) -> None:
        seen.append((event.session_id, current_session_id()))

    with session_scope("around the bus"):
        async with EventBus([handle]) as bus:
            with session_scope("the publisher"):
                publish(bus, 1)
                await bus.drain()
        with session_scope("another"), EventBus([handle]) as own_thread:
            publish(own_thread, 2)
    assert seen == [("the publisher", None), ("another", None)]


# 24, 25, 26. Batches, start and stop, one at a time.


class _Collection(Subscriber[Tick]):
    events = Tick

    def __init__(self) -> None:
        self.collected: list[int] = []

    def __len__(self) -> int:
        return len(self.collected)

    async def handle(self, event: Tick) -> None:
        self.collected.append(event.n)


@pytest.mark.anyio
async def test_a_subscriber_that_is_false() -> None:
    """A subscriber that is false, like an empty collection, gets its events."""
    collection = _Collection()
    async with EventBus([collection]) as bus:
        publish(bus, 1, 2)
    assert collection.collected == [1, 2]


class _Batches(Subscriber[Tick]):
    events = Tick
    max_batch = 10

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def handle_batch(self, events: Sequence[Tick]) -> None:
        self.batches.append([event.n for event in events])


@pytest.mark.anyio
async def test_batches() -> None:
    """A `Subscriber` with `handle_batch` gets all queued events, at most `max_batch` at a time, in order."""
    batches = _Batches()
    bus = EventBus([batches])
    publish(bus, *range(25))
    async with bus:
        await bus.drain()
        publish(bus, 25)
        await bus.drain()
    sizes = [len(batch) for batch in batches.batches]
    assert sizes == [10, 10, 5, 1]
    assert [n for batch in batches.batches for n in batch] == list(range(26))
    assert bus.statistics().subscriptions["_Batches"].delivered == 26


@pytest.mark.anyio
@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.COALESCE])
async def test_batches_with_and_without_events_of_handlers(overflow: Overflow) -> None:
    """A `Subscriber` with `handle_batch` gets the events of handlers and those of others alike."""
    batches = _Batches()

    def answer(event: Tock) -> None:
        bus.publish(Tick(n=event.n))

    async with EventBus([answer]) as bus:
        options: dict[str, Any] = {"key": number} if overflow is Overflow.COALESCE else {}
        bus.subscribe(batches, overflow=overflow, **options)
        for n in range(0, 6, 2):
            bus.publish(Tock(n=n))
            await bus.drain()
            await bus.drain()  # what the handler has published, too
            publish(bus, n + 1)
            await bus.drain()
        failed = bus.statistics().subscriptions["_Batches"].failed
    assert [n for batch in batches.batches for n in batch] == list(range(6))
    assert failed == 0


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["task", "thread"])
async def test_start_and_stop(host: str) -> None:
    """`start` is called before a subscriber's first event, and `stop` after its last, each once."""
    recorder = _Recorder()
    bus = EventBus([recorder])
    publish(bus, 1)
    if host == "task":
        async with bus:
            publish(bus, 2)
    else:
        with bus:
            publish(bus, 2)
    assert recorder.trace == ["start", "1", "2", "stop"]


@pytest.mark.anyio
async def test_start_is_given_the_bus() -> None:
    """`start` gets the bus, and may publish on it and subscribe to it."""

    class Starting(_Recorder):
        async def start(self, bus: EventBus) -> None:
            bus.subscribe(lambda event: self.trace.append(f"tock {event.n}"), Tock)
            bus.publish(Tock(n=7))
            bus.publish(Tick(n=8))

    starting = Starting()
    async with EventBus([starting]) as bus:
        await anyio.wait_all_tasks_blocked()
        await settle(bus)
    assert sorted(starting.trace) == ["8", "stop", "tock 7"]


@pytest.mark.anyio
async def test_stop_after_unsubscribing() -> None:
    """A subscriber that is unsubscribed is stopped while the bus keeps running."""
    recorder = _Recorder()
    stopped = anyio.Event()

    class Stopping(_Recorder):
        async def stop(self) -> None:
            await recorder.stop()
            stopped.set()

    async with EventBus() as bus:
        subscription = bus.subscribe(Stopping())
        publish(bus, 1)
        await bus.drain()
        subscription.unsubscribe()
        with anyio.fail_after(5):
            await stopped.wait()
        publish(bus, 2)
    assert recorder.trace == ["stop"]


@pytest.mark.anyio
@pytest.mark.parametrize("batched", [False, True])
async def test_one_call_at_a_time(batched: bool) -> None:
    """One handler call runs at a time per subscription, while other subscriptions' handlers run."""
    running: dict[str, int] = {}
    most: dict[str, int] = {}
    both = anyio.Event()

    async def work(name: str) -> None:
        running[name] = running.get(name, 0) + 1
        most[name] = max(most.get(name, 0), running[name])
        if len([each for each in running.values() if each]) == 2:
            both.set()
        with anyio.fail_after(5):
            await both.wait()
        await anyio.lowlevel.checkpoint()
        running[name] -= 1

    class Worker(Subscriber[Tick]):
        events = Tick

        async def handle(self, event: Tick) -> None:
            await work(self.name or "")

    class BatchWorker(Subscriber[Tick]):
        events = Tick

        async def handle_batch(self, events: Sequence[Tick]) -> None:
            await work(self.name or "")

    async with EventBus() as bus:
        for name in ("one", "two"):
            worker = BatchWorker() if batched else Worker()
            worker.name = name
            bus.subscribe(worker)
        for n in range(20):
            publish(bus, n)
            await anyio.lowlevel.checkpoint()
        await bus.drain()
    assert most == {"one": 1, "two": 1}


# 27, 28. Failure.


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        StopIteration(),
        StopAsyncIteration(),
        RecursionError(),
        MemoryError(),
        ExceptionGroup("several", [ValueError()]),
        anyio.EndOfStream(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_affects_nothing_else(error: Exception) -> None:
    """A handler that raises affects nothing else: its subscription gets the next event, and other
    subscriptions get all of theirs.
    """
    raising, recorder = _Raising(2, error=error), _Recorder()
    async with EventBus([raising, recorder]) as bus:
        publish(bus, 1, 2, 3)
        await bus.drain()
        assert bus.statistics().subscriptions["_Raising"].state == "running"
        assert bus.statistics().subscriptions["_Raising"].failed == 1
    assert raising.got == [1, 2, 3]
    assert recorder.trace == ["start", "1", "2", "3", "stop"]


@pytest.mark.anyio
async def test_a_sync_handler_that_raises_too() -> None:
    """A sync handler that raises, or whose awaitable raises, affects nothing else."""
    got: list[int] = []

    def raise_now(event: Tick) -> None:
        raise ValueError

    def raise_later(event: Tick) -> Awaitable[None]:
        return _Raising(*range(9)).handle(event)

    async with EventBus([raise_now, raise_later]) as bus:
        bus.subscribe(lambda event: got.append(event.n), Tick)
        publish(bus, 1, 2, 3)
        await bus.drain()
        failed = {name: each.failed for name, each in bus.statistics().subscriptions.items()}
    assert failed == {"raise_now": 3, "raise_later": 3, "<lambda>": 0}
    assert got == [1, 2, 3]


@pytest.mark.anyio
async def test_a_failure_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is counted, logged at most once per cause every 20 s, and published as `SubscriberFailed`."""
    failures: list[SubscriberFailed] = []
    async with EventBus([_Raising(1, 2)]) as bus:
        bus.subscribe(failures.append, SubscriberFailed)
        with session_scope("the session of the event"):
            publish(bus, 1, 3, 2, 4)
        await settle(bus)
        assert bus.statistics().subscriptions["_Raising"].failed == 2
    said = [(each.subscriber, each.error_type, each.quarantined, each.session_id) for each in failures]
    assert said == [("_Raising", "ValueError", False, "the session of the event")] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "subscriber '_Raising': failed to handle a Tick: ValueError"
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.records[0].exc_info is not None
    assert "on request" not in "".join(each.error_type for each in failures)


@pytest.mark.anyio
async def test_once_per_cause_and_20_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is logged at most once per cause every 20 s; the next line counts the ones left out."""
    now = [1_000.0]
    monkeypatch.setattr("eventbus.delivery.rate_limited_log.time", SimpleNamespace(monotonic=lambda: now[0]))

    def fail(event: Tick) -> None:
        if event.n >= 0:
            raise (KeyError if event.n == 99 else ValueError)("on request")

    async def at(seconds: float, *numbers: int) -> int:
        caplog.clear()
        now[0] = 1_000.0 + seconds
        publish(bus, *numbers)
        await settle(bus)
        publish(bus, -1)  # a success: no quarantine
        await settle(bus)
        return len(caplog.records)

    async with EventBus([fail]) as bus:
        assert await at(0, 1, 2, 3) == 1
        assert await at(19.9, 4) == 0
        assert await at(19.9, 99) == 1  # another cause is logged at once
        assert await at(20, 5) == 1
        assert caplog.records[0].getMessage().endswith("(3 more like it suppressed)")
        assert await at(39, 6) == 0
        assert await at(40.1, 7) == 1
        assert caplog.records[0].getMessage().endswith("(1 more like it suppressed)")


@pytest.mark.anyio
async def test_failing_to_handle_a_failure_publishes_none() -> None:
    """A failure to handle `SubscriberFailed` or `EventsLost` is not published."""
    failures: list[SubscriberFailed] = []

    def fail(event: SubscriberFailed | EventsLost) -> None:
        raise ValueError

    def fail_at_ticks(event: Tick) -> None:
        raise TypeError

    async with EventBus() as bus:
        bus.subscribe(fail, SubscriberFailed | EventsLost, name="fails at the bus's own")
        small = bus.subscribe(fail, EventsLost | Tock, name="fails at losses", capacity=1)
        bus.subscribe(fail_at_ticks)
        bus.subscribe(failures.append, SubscriberFailed)
        publish(bus, 1)
        await settle(bus)
        for _ in range(3):
            bus.publish(Tock())
        await settle(bus)
        # One loss, whose failure is not published, and one tock, whose failure is.
        assert small.statistics().failed == 2
        assert bus.statistics().subscriptions["fails at the bus's own"].failed == 2
    assert [each.subscriber for each in failures] == ["fail_at_ticks", "fails at losses"]


@pytest.mark.anyio
async def test_a_failed_batch_is_one_failure() -> None:
    """A batch that raises is one failure; the next batch is delivered."""
    failures: list[SubscriberFailed] = []

    class Failing(_Batches):
        async def handle_batch(self, events: Sequence[Tick]) -> None:
            await super().handle_batch(events)
            if len(self.batches) == 1:
                raise ValueError

    failing = Failing()
    bus = EventBus([failing])
    bus.subscribe(failures.append, SubscriberFailed)
    publish(bus, *range(15))
    async with bus:
        await settle(bus)
        assert bus.statistics().subscriptions["Failing"].failed == 1
    assert [len(batch) for batch in failing.batches] == [10, 5]
    assert len(failures) == 1


@pytest.mark.anyio
async def test_a_failure_at_the_depth_limit_is_published() -> None:
    """A failure at the depth limit is published as `SubscriberFailed`; events of its handlers are cut."""
    failures: list[SubscriberFailed] = []

    def chain(event: Tick) -> None:
        if not bus.publish(Tick(n=event.n + 1)):
            raise ValueError

    async with EventBus([chain]) as bus:
        bus.subscribe(failures.append, SubscriberFailed)
        publish(bus, 0)
        while not bus.statistics().subscriptions["chain"].failed:
            await bus.drain()
        await settle(bus)
    assert [each.subscriber for each in failures] == ["chain"]


@pytest.mark.anyio
async def test_a_failed_batch_is_published_by_its_first_own_event() -> None:
    """A failed batch is published as `SubscriberFailed` unless it holds only the bus's own events."""
    failures: list[SubscriberFailed] = []

    class Failing(Subscriber[Event]):
        async def handle_batch(self, events: Sequence[Event]) -> None:
            raise ValueError

    bus = EventBus([Failing()])
    bus.subscribe(failures.append, SubscriberFailed)
    publish(bus, 1)
    bus.publish(SubscriberFailed(subscriber="another", error_type="KeyError"))
    async with bus:
        await settle(bus)
        assert bus.statistics().subscriptions["Failing"].failed == 2  # and once at its own failure
    assert [each.subscriber for each in failures] == ["another", "Failing"]


# 29. Quarantine.


class _Failing(Subscriber[Tick]):
    """Always fails, and records its calls."""

    events = Tick
    name = "failing"

    def __init__(self) -> None:
        self.calls: list[int | str] = []

    async def handle(self, event: Tick) -> None:
        self.calls.append(event.n)
        raise ValueError

    async def stop(self) -> None:
        self.calls.append("stop")


class _FailingInBatches(_Failing):
    max_batch = 1

    async def handle_batch(self, events: Sequence[Tick]) -> None:
        await self.handle(events[0])


@pytest.mark.anyio
@pytest.mark.parametrize("cls", [_Failing, _FailingInBatches])
async def test_quarantine(cls: type[_Failing]) -> None:
    """After ten failures in a row a subscription is quarantined: it gets a last `SubscriberFailed` that
    reports this, and no more events.
    """
    failures: list[SubscriberFailed] = []
    failing, recorder = cls(), _Recorder()
    async with EventBus([recorder]) as bus:
        subscription = bus.subscribe(failing)
        bus.subscribe(failures.append, SubscriberFailed)
        publish(bus, *range(12))
        await settle(bus)
        publish(bus, 12)
        await settle(bus)
        snapshot = subscription.statistics()
        assert (snapshot.state, snapshot.failed, snapshot.delivered) == ("quarantined", 10, 10)
        assert snapshot.accepted == snapshot.delivered + snapshot.lost
        assert bus.statistics().subscriptions["failing"] == snapshot
    assert failing.calls == [*range(10), "stop"]
    assert [each.quarantined for each in failures] == [*[False] * 9, True]
    assert recorder.trace == ["start", *map(str, range(13)), "stop"]


@pytest.mark.anyio
async def test_a_quarantine_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The first failure and the quarantine are logged, and no others of that cause."""
    async with EventBus([_Failing()]) as bus:
        publish(bus, *range(12))
        await settle(bus)
    failure, quarantine = [record.getMessage() for record in caplog.records]
    assert "failed to handle" in failure
    assert "'failing'" in quarantine
    assert "quarantined: it failed 10 times in a row" in quarantine


@pytest.mark.anyio
async def test_a_success_resets_the_count() -> None:
    """A success resets the count."""
    raising = _Raising(*(n for n in range(100) if n % 10 != 9))
    async with EventBus([raising]) as bus:
        publish(bus, *range(100))
        await bus.drain()
        snapshot = bus.statistics().subscriptions["_Raising"]
    assert (snapshot.state, snapshot.failed, snapshot.delivered) == ("running", 90, 100)


@pytest.mark.anyio
async def test_quarantine_of_a_handler_that_always_fails() -> None:
    """A quarantine is published even if the tenth failure was to handle a `SubscriberFailed`."""
    failures: list[SubscriberFailed] = []

    def fail(event: Event) -> None:
        raise ValueError

    async with EventBus([fail]) as bus:
        bus.subscribe(failures.append, SubscriberFailed)
        for n in range(12):
            publish(bus, n)
            await settle(bus)
        assert bus.statistics().subscriptions["fail"].state == "quarantined"
    assert [each.quarantined for each in failures].count(True) == 1
    assert failures[-1].quarantined


class _SlowLog(logging.Handler):
    """Logs the end of a subscription slowly."""

    def __init__(self, go_on: threading.Event) -> None:
        super().__init__()
        self.go_on = go_on

    def emit(self, record: logging.LogRecord) -> None:
        if "quarantined" in record.getMessage() or "ended" in record.getMessage():
            self.go_on.wait(0.5)


@pytest.mark.parametrize(
    ("error", "failures"), [(ValueError(), 10), (SystemExit(), 1)], ids=["quarantined", "ended"]
)
def test_a_drain_waits_for_published_failures(error: BaseException, failures: int) -> None:
    """`drain` returns when every event was handled; events published for failures are accepted by then."""
    begin, go_on = threading.Event(), threading.Event()
    slow = _SlowLog(go_on)

    def fail(event: Tick) -> None:
        begin.wait(5)
        raise error

    async def drain(bus: EventBus) -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.drain)
            await anyio.wait_all_tasks_blocked()
            begin.set()
        return bus.statistics().accepted

    logging.getLogger("eventbus").addHandler(slow)
    bus = EventBus([fail])
    publish(bus, *range(10))
    try:
        bus.__enter__()
        assert anyio.run(drain, bus) == 10 + failures
    finally:
        go_on.set()
        logging.getLogger("eventbus").removeHandler(slow)
        with suppress(SystemExit):
            bus.__exit__(None, None, None)


class _BrokenLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log is broken")


@pytest.mark.anyio
async def test_a_broken_log_changes_nothing() -> None:
    """A logging handler that raises changes nothing: failures are counted, and failures and quarantine
    published.
    """
    failures: list[SubscriberFailed] = []
    logger, broken = logging.getLogger("eventbus"), _BrokenLog()
    logger.addHandler(broken)
    try:
        async with EventBus([_Raising(*range(20))]) as bus:
            bus.subscribe(failures.append, SubscriberFailed)
            publish(bus, *range(12))
            await settle(bus)
            snapshot = bus.statistics().subscriptions["_Raising"]
    finally:
        logger.removeHandler(broken)
    assert (snapshot.state, snapshot.failed) == ("quarantined", 10)
    assert {each.error_type for each in failures} == {"ValueError"}
    assert failures[-1].quarantined


# 30, 31. More than a failure.


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_bus_raises_it_once(kind: type[BaseException]) -> None:
    """A handler that raises `KeyboardInterrupt` or `SystemExit` ends its subscription; the bus raises the
    exception once, after the other subscriptions have drained.
    """
    raising, recorder = _Raising(2, error=kind("out")), _Recorder()
    bus = EventBus([raising, recorder])
    publish(bus, *range(1, 6))
    bus.__enter__()
    with pytest.raises(kind, match="out"):
        bus.close()
    assert raising.got == [1, 2]
    assert recorder.trace == ["start", "1", "2", "3", "4", "5", "stop"]
    report = bus.close()
    assert report.subscriptions["_Raising"].state == "failed"
    assert report.subscriptions["_Raising"].lost == 3
    bus.__exit__(None, None, None)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_the_block_raises_it_in_the_callers_loop(kind: type[BaseException]) -> None:
    """In the caller's loop the `async with` block raises it once, after the other subscriptions drained."""
    raising, recorder = _Raising(2, error=kind("out")), _Recorder()
    bus = EventBus([raising, recorder])

    async def run() -> None:
        async with bus:
            publish(bus, *range(1, 6))
            with anyio.fail_after(5):
                await anyio.sleep_forever()

    with pytest.raises(kind, match="out"):
        await run()
    assert recorder.trace == ["start", "1", "2", "3", "4", "5", "stop"]
    assert await bus.aclose()


@pytest.mark.anyio
async def test_a_handler_that_cancels_itself() -> None:
    """A handler that raises `CancelledError` itself ends its own subscription and no other, in any loop."""
    raising, recorder = _Raising(2, error=asyncio.CancelledError()), _Recorder()
    async with EventBus([raising, recorder]) as bus:
        publish(bus, 1, 2, 3)
        await bus.drain()
        publish(bus, 4)
        await bus.drain()
        assert bus.statistics().subscriptions["_Raising"].state in ("cancelled", "failed")
    assert raising.got == [1, 2]
    assert recorder.trace == ["start", "1", "2", "3", "4", "stop"]


@pytest.mark.anyio
async def test_a_handlers_own_cancel_scope() -> None:
    """A handler that cancels a scope of its own, and continues, stays subscribed."""
    got: list[int] = []

    async def with_timeout(event: Tick) -> None:
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        got.append(event.n)

    async with EventBus([with_timeout]) as bus:
        publish(bus, 1, 2)
        await bus.drain()
    assert got == [1, 2]


@pytest.mark.anyio
async def test_a_start_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A subscriber whose `start` fails gets no events and is reported; other subscribers are unaffected."""
    failures: list[SubscriberFailed] = []

    class Unable(_Recorder):
        async def start(self, bus: EventBus) -> None:
            raise OSError("no such file")

    unable, recorder = Unable(), _Recorder()
    bus = EventBus([unable, recorder])
    bus.subscribe(failures.append, SubscriberFailed)
    publish(bus, 1, 2)
    async with bus:
        await settle(bus)
        publish(bus, 3)
        await settle(bus)
        snapshot = bus.statistics().subscriptions["Unable"]
    assert (snapshot.state, snapshot.delivered, snapshot.lost, snapshot.failed) == ("failed", 0, 2, 1)
    assert "start" not in unable.trace
    assert not {"1", "2", "3"} & set(unable.trace)
    assert recorder.trace == ["start", "1", "2", "3", "stop"]
    assert [(each.subscriber, each.error_type) for each in failures] == [("Unable", "OSError")]
    assert [record.getMessage() for record in caplog.records] == ["subscriber 'Unable': is ended: OSError"]


@pytest.mark.anyio
async def test_a_stop_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A subscriber whose `stop` fails is counted and logged; other subscribers are unaffected."""

    class Unable(_Recorder):
        async def stop(self) -> None:
            raise OSError("disk full")

    unable, recorder = Unable(), _Recorder()
    async with EventBus([unable, recorder]) as bus:
        publish(bus, 1)
    assert unable.trace == ["start", "1"]
    assert recorder.trace == ["start", "1", "stop"]
    assert bus.statistics().subscriptions["Unable"].failed == 1
    assert len(caplog.records) == 1
    assert "'Unable'" in caplog.text
    assert "OSError" in caplog.text


# 33. The end of a subscription.


def test_no_call_starts_after_unsubscribe() -> None:
    """After `unsubscribe` has returned, no new handler call starts; a running call finishes."""
    under_way, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    trace: list[str] = []

    def handle(event: Tick) -> None:
        trace.append(f"begin {event.n}")
        under_way.set()
        go_on.wait(5)
        trace.append(f"end {event.n}")
        ended.set()

    with EventBus() as bus:
        subscription = bus.subscribe(handle)
        publish(bus, 1, 2, 3)
        assert under_way.wait(5)
        subscription.unsubscribe()
        publish(bus, 4)
        go_on.set()
        assert ended.wait(5)
        snapshot = subscription.statistics()
        assert (snapshot.accepted, snapshot.delivered, snapshot.lost, snapshot.queued) == (3, 1, 2, 0)
    assert trace == ["begin 1", "end 1"]


@pytest.mark.anyio
async def test_unsubscribing_in_the_handler() -> None:
    """A handler may end its own subscription: the running call is its last."""
    got: list[int] = []

    async def once(event: Tick) -> None:
        subscription.unsubscribe()
        await anyio.lowlevel.checkpoint()
        got.append(event.n)

    async with EventBus() as bus:
        subscription = bus.subscribe(once)
        publish(bus, 1, 2, 3)
        await bus.drain()
        await anyio.wait_all_tasks_blocked()
        subscription.unsubscribe()
        assert bus.statistics().subscriptions == {}
    assert got == [1]


def test_unsubscribing_in_many_threads() -> None:
    """A subscription may be ended from anywhere, any number of times, while threads read its statistics."""
    errors: list[BaseException] = []

    def end(barrier: threading.Barrier, bus: EventBus, subscriptions: list[Any]) -> None:
        barrier.wait()
        try:
            for each in subscriptions:
                each.unsubscribe()
                bus.statistics()
        except BaseException as error:
            errors.append(error)

    for _ in range(200):
        bus = EventBus()
        subscriptions = [bus.subscribe(_function, overflow=Overflow.DROP_NEWEST) for _ in range(5)]
        barrier = threading.Barrier(3)
        threads = [threading.Thread(target=end, args=(barrier, bus, subscriptions)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bus.statistics().subscriptions == {}
    assert errors == []
