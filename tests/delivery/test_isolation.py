"""What a subscriber, a tap or a key does harms nobody else."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from eventbus import (
    Event,
    EventBus,
    Overflow,
    Subscriber,
    SubscriberError,
    SubscriberFailed,
    WouldDeadlockError,
    current_session_id,
    session_scope,
)
from eventbus.delivery.causality import MAX_CHAIN_DEPTH, handling
from eventbus.delivery.mailbox import Mailbox
from tests.vocabulary import (
    Tick,
    Tock,
    TooSlowError,
    attempts,
    ignore,
    in_every_host,
    opened,
    publish,
    running,
    until,
)

pytestmark = pytest.mark.anyio

_variable: ContextVar[int] = ContextVar("variable", default=0)


class PanicError(BaseException):
    """What an extension raises that is no `Exception`."""


def a_panic() -> BaseException:
    return PanicError("the extension")


def a_group() -> BaseException:
    """A group of a cancellation and an error, as a task group may raise it."""
    return BaseExceptionGroup("both", [asyncio.CancelledError(), ValueError("too")])


def a_group_of_panics() -> BaseException:
    return BaseExceptionGroup("all", [PanicError(), BaseExceptionGroup("in it", [a_panic()])])


no_exceptions = pytest.mark.parametrize("error", [a_panic, a_group, a_group_of_panics])


class Raising(Subscriber[Tick]):
    """Raises in one of its methods."""

    def __init__(self, error: Callable[[], BaseException], where: str) -> None:
        self.name = "raising"
        self.error = error
        self.where = where
        self.handles_batch = where == "handle_batch"

    def _maybe_raise(self, where: str) -> None:
        if where == self.where:
            raise self.error()

    async def start(self, bus: EventBus) -> None:
        """Raise, if it is to."""
        self._maybe_raise("start")

    async def stop(self) -> None:
        """Raise, if it is to."""
        self._maybe_raise("stop")

    async def handle(self, event: Tick) -> None:
        """Raise, if it is to."""
        self._maybe_raise("handle")


class RaisingBatches(Raising):
    """Raises in `handle_batch`."""

    async def handle_batch(self, events: list[Tick]) -> None:  # type: ignore[override]
        """Raise, if it is to."""
        self._maybe_raise("handle_batch")


@in_every_host
@no_exceptions
@pytest.mark.parametrize("where", ["start", "stop", "handle", "handle_batch"])
async def test_what_is_no_exception_is_a_failure(
    host: str, error: Callable[[], BaseException], where: str
) -> None:
    """What a subscriber raises that is neither an `Exception` nor an exit is a failure like any other: it
    is counted and published, ends no other subscription, and does not come out of the close.
    """
    seen: list[int] = []
    failures: list[str] = []
    cls = RaisingBatches if where == "handle_batch" else Raising
    bus = EventBus([cls(error, where)])
    bus.subscribe(lambda event: seen.append(event.n), Tick)
    bus.subscribe(lambda event: failures.append(event.error_type), SubscriberFailed)
    async with running(bus, host):
        publish(bus, 1, 2)
        await bus.drain()
        publish(bus, 3)
        raising = bus.statistics().subscriptions["raising"]
    assert seen == [1, 2, 3]
    assert bus.report is not None
    if where != "stop":
        assert failures
        assert set(failures) == {type(error()).__name__}
    if where.startswith("handle"):
        assert raising.state == "running"
        assert raising.failed


@no_exceptions
@pytest.mark.parametrize("where", ["tap", "key"])
def test_what_is_no_exception_does_not_reach_the_publisher(
    error: Callable[[], BaseException], where: str
) -> None:
    """Nothing but `KeyboardInterrupt` and `SystemExit` leaves a tap or a key function."""

    def fail(event: Event) -> Any:
        raise error()

    bus = EventBus()
    seen: list[Event] = []
    if where == "tap":
        bus.tap(Tick).connect(fail)
        bus.tap(Event).connect(seen.append, weak=False)
    else:
        bus.subscribe(seen.append, Tick, overflow=Overflow.COALESCE, key=fail)
    with bus:
        publish(bus, 1, 2)
    assert len(seen) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_in_a_group_is_raised_by_the_close(error: type[BaseException]) -> None:
    """A group that contains an exit ends its subscription, and the close raises the exit itself."""

    def fail(event: Tick) -> None:
        raise BaseExceptionGroup("both", [ValueError(), error()])

    with pytest.raises(error), EventBus([fail]) as bus:
        publish(bus, 1)


@in_every_host
async def test_a_handler_that_raises_generator_exit_ends_alone(host: str) -> None:
    """A handler that raises `GeneratorExit` ends its own subscription and no other."""

    async def fail(event: Tick) -> None:
        raise GeneratorExit

    seen: list[int] = []
    bus = EventBus([fail])
    bus.subscribe(lambda event: seen.append(event.n), Tick)
    async with running(bus, host):
        publish(bus, 1)
        await bus.drain()
        publish(bus, 2)
    assert seen == [1, 2]


async def test_a_group_at_the_deadline_does_not_leave_the_close() -> None:
    """At the deadline of a close a handler may raise a group of its cancellation and an error."""

    async def fail_when_cancelled(event: Tick) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            raise BaseExceptionGroup("both", [error, ValueError()]) from None

    async with EventBus([fail_when_cancelled]) as bus:
        publish(bus, 1)
        await until(lambda: bus.statistics().subscriptions["fail_when_cancelled"].delivered)
        report = await bus.aclose(0.01)
    assert not report


@in_every_host
@pytest.mark.parametrize("kind", ["sync", "async", "batch"])
async def test_a_call_sees_nothing_of_the_one_before(host: str, kind: str) -> None:
    """Each call begins in the context that `start` left: what another call sets, or leaves open, is
    not seen.
    """
    seen: list[tuple[int, str | None]] = []
    scopes: list[Any] = []

    def handle(event: Event) -> None:
        seen.append((_variable.get(), current_session_id()))
        _variable.set(1)
        scopes.append(session_scope("left-open"))
        scopes[-1].__enter__()

    async def handle_async(event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        handle(event)
        await anyio.lowlevel.checkpoint()

    class Batches(Subscriber[Tick]):
        max_batch = 1

        async def handle_batch(self, events: list[Tick]) -> None:  # type: ignore[override]
            await handle_async(events[0])

    handlers: dict[str, Any] = {"sync": handle, "async": handle_async, "batch": Batches()}
    bus = EventBus()
    bus.subscribe(handlers[kind], Tick)
    async with running(bus, host):
        publish(bus, 1, 2, 3)
        await bus.drain()
        publish(bus, 4)
    assert seen == [(0, None)] * 4


@in_every_host
async def test_a_call_may_see_an_equal_value_of_the_one_before(host: str) -> None:
    """The one exception is a value that equals the one that `start` left: it may be another object."""
    seen: list[int] = []

    def handle(event: Event) -> None:
        seen.append(_variable.get())
        _variable.set(False)

    bus = EventBus()
    bus.subscribe(handle, Tick)
    with_default = _variable.set(0)
    async with running(bus, host):
        publish(bus, 1, 2)
    _variable.reset(with_default)
    assert seen == [0, 0]


def test_a_tap_and_a_key_change_no_context_of_the_publisher() -> None:
    """A context variable that a tap or a key function sets is not seen by the publisher."""

    def change(event: Event) -> int:
        return hash(_variable.set(5))

    bus = EventBus()
    bus.tap(Tick).connect(change)
    bus.subscribe(print, Tick, overflow=Overflow.COALESCE, key=change)
    publish(bus, 1)
    assert _variable.get() == 0
    bus.close()


async def test_a_heartbeat_that_a_handler_sets_up_goes_on() -> None:
    """A chain is what one event leads to while it is handled: what a handler starts and leaves running
    publishes for ever.
    """
    beats: list[bool] = []
    async with anyio.create_task_group() as tasks, EventBus() as bus:
        done = anyio.Event()

        async def beat() -> None:
            for n in range(2 * MAX_CHAIN_DEPTH):
                beats.append(bus.publish(Tock(n=n)))
                await bus.drain()  # it is no handler, and may
            done.set()

        async def begin(event: Tick) -> None:
            tasks.start_soon(beat)

        bus.subscribe(begin, Tick)
        bus.subscribe(lambda _: None, Tock)
        publish(bus, 1)
        await done.wait()
    assert beats == [True] * 2 * MAX_CHAIN_DEPTH


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_timer_that_sets_up_the_next_goes_on() -> None:
    """Each beat may be published by a timer that the handler of the beat before has set."""
    count = 0
    async with EventBus() as bus:

        def again(event: Tick) -> None:
            nonlocal count
            count += 1
            asyncio.get_running_loop().call_later(0, bus.publish, Tick(n=count))

        bus.subscribe(again, Tick)
        publish(bus, 0)
        await until(lambda: count > 2 * MAX_CHAIN_DEPTH)


@in_every_host
@pytest.mark.parametrize("kind", ["plain", "awaits", "child task", "thread"])
async def test_a_chain_is_cut_however_it_is_published(host: str, kind: str) -> None:
    """An endless chain is cut after 64 events, also if the handlers wait in between, or publish in tasks
    and threads that they wait for.
    """
    seen = 0
    bus = EventBus()

    async def handle(event: Event) -> None:
        nonlocal seen
        seen += 1
        other = Tock() if isinstance(event, Tick) else Tick()
        if kind == "child task":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(bus.publish_wait, other)
        elif kind == "thread":
            await anyio.to_thread.run_sync(bus.publish, other)
        else:
            if kind == "awaits":
                await anyio.lowlevel.checkpoint()
            bus.publish(other)

    bus.subscribe(handle, Tick)
    bus.subscribe(handle, Tock)
    async with running(bus, host):
        publish(bus, 1)
    assert seen == MAX_CHAIN_DEPTH + 1


async def test_a_thread_that_a_handler_started_may_close() -> None:
    """A thread that a handler started is no handler once the call has ended."""
    ended = threading.Event()
    reports: list[object] = []
    bus = EventBus()

    def handle(event: Tick) -> None:
        def work() -> None:
            ended.wait()
            reports.append(bus.close())

        threading.Thread(target=work).start()

    bus.subscribe(handle, Tick)
    with bus:
        publish(bus, 1)
        await bus.drain()
        ended.set()
        await until(lambda: reports)
    assert reports == [bus.report]


@in_every_host
async def test_handlers_that_wait_for_room_in_a_circle_notice_it(host: str) -> None:
    """Handlers that would wait for each other, for room or for a drain, in a circle of any length and
    through several buses, get a `WouldDeadlockError` instead.
    """
    errors: list[str] = []
    bus = EventBus()

    def subscribe(mine: type[Event], other: type[Event]) -> None:
        async def handle(event: Event) -> None:
            await anyio.sleep(0.01)
            try:
                for _ in range(3):
                    await bus.publish_wait(other())
            except WouldDeadlockError as error:
                errors.append(str(error))

        bus.subscribe(handle, mine, capacity=1, overflow=Overflow.WAIT, name=mine.__name__)

    subscribe(Tick, Tock)
    subscribe(Tock, Tick)
    with anyio.fail_after(5):
        async with running(bus, host):
            publish(bus, 1)
            bus.publish(Tock())
            await until(lambda: errors)
            await bus.aclose()
    assert "waits for that handler" in errors[0]


@pytest.mark.parametrize("buses", [2, 3])
@in_every_host
async def test_handlers_of_several_buses_that_drain_in_a_circle_notice_it(host: str, buses: int) -> None:
    """Handlers of several buses that drain each other in a circle: one gets a `WouldDeadlockError`."""
    errors: list[WouldDeadlockError] = []
    others = [EventBus() for _ in range(buses)]

    def subscribe(bus: EventBus, other: EventBus) -> None:
        async def handle(event: Tick) -> None:
            await anyio.sleep(0.01)
            try:
                await other.drain()
            except WouldDeadlockError as error:
                errors.append(error)

        bus.subscribe(handle, Tick)

    for number, bus in enumerate(others):
        subscribe(bus, others[number - 1])
    with anyio.fail_after(5):
        async with AsyncExitStack() as stack:
            for bus in others:
                await stack.enter_async_context(running(bus, host))
            for bus in others:
                publish(bus, 1)
            await until(lambda: errors)
    assert errors


def test_a_bus_cannot_be_subscribed_to_itself() -> None:
    """A bus's own `publish`, also in a partial, is refused as its handler."""
    bus = EventBus()
    for handler in (bus.publish, bus.publish_wait, partial(bus.publish)):
        with pytest.raises(SubscriberError, match="itself"):
            bus.subscribe(handler)
    bus.subscribe(EventBus().publish)
    bus.close()


@in_every_host
async def test_a_bridge_both_ways_is_cut_and_said_once(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """Two buses that publish each other's events end after a chain of 64, and say so once."""
    one, two = EventBus(), EventBus()
    one.subscribe(two.publish)
    two.subscribe(one.publish)
    async with running(one, host), running(two, host):
        publish(one, 1)
        await until(lambda: one.statistics().rejected + two.statistics().rejected)
        total = one.statistics().accepted + two.statistics().accepted
    assert total == MAX_CHAIN_DEPTH + 1
    assert caplog.text.count("is cut") == 1


@in_every_host
@pytest.mark.parametrize("fails", ["handler", "tap"])
async def test_a_log_handler_may_publish_on_the_bus(host: str, fails: str) -> None:
    """A logging handler that publishes on the bus whose warnings it gets causes no endless loop."""

    class Publishing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bus.publish(Tock())

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    bus = EventBus()
    if fails == "tap":
        bus.tap(Event).connect(fail)
    else:
        bus.subscribe(fail, Event)
    logger, handler = logging.getLogger("eventbus"), Publishing()
    logger.addHandler(handler)
    try:
        async with running(bus, host):
            publish(bus, 1)
            await bus.drain()
    finally:
        logger.removeHandler(handler)
    assert bus.statistics().accepted < 2 * MAX_CHAIN_DEPTH


@pytest.mark.parametrize("what", ["streams", "handlers"])
def test_subscribing_and_leaving_cost_the_same_however_many_there_are(what: str) -> None:
    """Opening streams, subscribing handlers of one name, and leaving cost in proportion to their number."""

    def seconds(count: int) -> float:
        bus = EventBus()
        began = time.perf_counter()
        if what == "streams":
            streams = [opened(bus) for _ in range(count)]
            for stream in streams:
                stream.close()
        else:
            subscriptions = [bus.subscribe(ignore) for _ in range(count)]
            for subscription in subscriptions:
                subscription.unsubscribe()
        bus.close()
        return time.perf_counter() - began

    for attempt in attempts():
        with attempt:
            few, many = seconds(500), seconds(4_000)
            if many > 24 * few:  # 8 times as many
                raise TooSlowError(f"{few=} {many=}")


@in_every_host
async def test_only_a_call_whose_event_was_taken_begins_after_unsubscribing(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `unsubscribe` has returned, at most the call begins whose event the bus's own thread had taken
    already.
    """
    seen: list[int] = []
    bus = EventBus()
    subscription = bus.subscribe(lambda event: seen.append(event.n), Tick)
    publish(bus, 1, 2, 3)
    bus.statistics()  # distributes them
    entries_of = Mailbox.entries

    def take_and_unsubscribe(mailbox: Mailbox, limit: int) -> tuple[Iterator[Any], bool]:
        entries, are_plain = entries_of(mailbox, limit)
        return map(unsubscribed, entries), are_plain

    def unsubscribed(entry: Any) -> Any:
        subscription.unsubscribe()  # as another thread may, at this moment
        return entry

    monkeypatch.setattr(Mailbox, "entries", take_and_unsubscribe)
    async with running(bus, host):
        await until(lambda: subscription.has_ended())
        await bus.drain()
    assert seen == [1]


def _output_of_fork(child: Callable[[], object]) -> str:
    """Return what a function returns in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writer, str(child()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        output = pipe.read()
    os.waitpid(pid, 0)
    return output


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_a_forked_child_says_once_that_nobody_runs_the_bus(caplog: pytest.LogCaptureFixture) -> None:
    """A child that publishes into a bus which only its parent runs is told so, once; the events
    are queued.
    """
    bus = EventBus([ignore])

    def child() -> object:
        caplog.clear()
        accepted = [bus.publish(Tick(n=n)) for n in range(1_000)]
        queued = bus.statistics().subscriptions["ignore"].queued
        return all(accepted), queued, caplog.text.count("runs nowhere here")

    with bus:
        assert _output_of_fork(child) == "(True, 1000, 1)"
    assert "nowhere" not in caplog.text


@needs_fork
def test_a_forked_child_may_leave_the_block_of_its_parents_bus() -> None:
    """Leaving the block there closes the child's bus, at once."""
    with EventBus([ignore]) as bus:

        def child() -> object:
            bus.__exit__(None, None, None)
            return bus.report is not None and bool(bus.report), bus.publish(Tick())

        assert _output_of_fork(child) == "(True, False)"
        publish(bus, 1)


def _publish_in_a_child(writer: Any) -> None:
    async def handle(event: Tick) -> None:
        await anyio.sleep(0.01)
        writer.send(event.n)

    bus = EventBus([handle])
    bus.__enter__()
    publish(bus, 1, 2)


@needs_fork
def test_a_forked_child_of_multiprocessing_drains_before_it_ends() -> None:
    """Such a child ends without `atexit`; the buses that it has entered are drained nevertheless."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_publish_in_a_child, args=(writer,))
    process.start()
    process.join()
    writer.close()
    assert [reader.recv(), reader.recv()] == [1, 2]
    reader.close()


async def test_calls_are_told_apart_as_soon_as_a_handler_waits() -> None:
    """What an earlier call of a handler started is no part of a later one, also after many calls without a
    wait.
    """
    last = 305
    now_at, mistaken = 0, set[int]()

    async def watch() -> None:
        while now_at < last:
            if handling() is not None:
                mistaken.add(now_at)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:

        async def handle(each: Tick) -> None:
            nonlocal now_at
            now_at = each.n
            if each.n == 300:
                tasks.start_soon(watch)
            for _ in range(5 * (each.n > 300)):
                await anyio.lowlevel.checkpoint()

        async with EventBus([handle]) as bus:
            publish(bus, *range(1, last + 1))
            await bus.drain()
    assert mistaken <= {301}  # the first that waited did so in a call that others had shared
