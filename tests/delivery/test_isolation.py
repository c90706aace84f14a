"""What a subscriber, a tap or a key does harms nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from eventbus import (
    Event,
    EventBus,
    Overflow,
    Subscriber,
    SubscriberFailed,
    current_session_id,
    session_scope,
)
from eventbus.delivery.causality import MAX_CHAIN_DEPTH
from tests.vocabulary import Tick, Tock, in_every_host, publish, running, until

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
        self._maybe_raise("start")

    async def stop(self) -> None:
        self._maybe_raise("stop")

    async def handle(self, event: Tick) -> None:
        self._maybe_raise("handle")


class RaisingBatches(Raising):
    """Raises in `handle_batch`."""

    async def handle_batch(self, events: list[Tick]) -> None:  # type: ignore[override]
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
