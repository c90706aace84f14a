"""Entering, draining and closing a bus, and reading its streams to the end."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from eventbus import (
    BusStateError,
    DrainReport,
    Event,
    EventBus,
    NodeCompleted,
    NodeStarted,
    Overflow,
    StreamStateError,
    Subscriber,
    WouldDeadlockError,
    current_bus,
)
from tests.vocabulary import PATIENCE_SECONDS, in_every_host, running, until


def event(number: int = 0) -> NodeStarted:
    return NodeStarted(workflow_id="lifecycle", node_id="node", attempt=number)


async def hang(_: Event) -> None:
    await anyio.sleep_forever()


class Gate(Subscriber[NodeStarted]):
    """Takes an event, then waits until the gate is opened."""

    events = NodeStarted

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self.got: list[int] = []
        self.stopped = False
        self._is_open = False

    def open(self) -> None:
        """Let the events through; from any thread."""
        self._is_open = True

    async def handle(self, event: NodeStarted) -> None:
        """Keep it, and wait."""
        self.got.append(event.attempt)
        await until(lambda: self._is_open)

    async def stop(self) -> None:
        """Record that it was stopped."""
        self.stopped = True


def _has_reached(got: list[int], number: int) -> bool:
    return len(got) > number


# Entering


@pytest.mark.anyio
@in_every_host
async def test_queued_before_entering(host: str) -> None:
    """Events published before the bus is entered are queued for existing subscriptions and delivered on
    entry.
    """
    got: list[Event] = []
    bus = EventBus()
    assert bus.publish(event(0))
    bus.subscribe(got.append, NodeStarted)
    assert bus.publish(event(1))
    assert bus.statistics().subscriptions["append"].state == "waiting"
    async with running(bus, host):
        await bus.drain()
    assert [each.attempt for each in got if isinstance(each, NodeStarted)] == [1]


@pytest.mark.anyio
@in_every_host
async def test_entering_twice(host: str) -> None:
    """A running bus cannot be entered again, in either way, and keeps running."""
    got: list[Event] = []
    bus = EventBus([got.append])
    async with running(bus, host):
        for again in ("own thread", "caller's loop"):
            with pytest.raises(BusStateError, match="entered already"):
                async with running(bus, again):
                    pytest.fail("it was entered twice")
        bus.publish(event())
    assert len(got) == 1


@pytest.mark.anyio
@in_every_host
async def test_entering_a_closed_bus(host: str) -> None:
    """A closed bus stays closed: entering it or subscribing to it raises."""
    bus = EventBus()
    async with running(bus, host):
        pass
    for again in ("own thread", "caller's loop"):
        with pytest.raises(BusStateError, match="closed"):
            async with running(bus, again):
                pytest.fail("it was entered though closed")
    with pytest.raises(BusStateError, match="closed"):
        bus.subscribe(hang)
    with pytest.raises(BusStateError, match="closed"):
        bus.stream(NodeStarted).open()
    assert bus.publish(event()) is False


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("threading.Thread.start", RuntimeError("can't start new thread")),
        ("threading.Thread.start", MemoryError("no memory left")),
        ("asyncio.events.new_event_loop", OSError(24, "Too many open files")),
        ("asyncio.events.new_event_loop", RuntimeError("this policy refuses other threads")),
    ],
)
def test_a_bus_that_cannot_start(place: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus whose thread or loop cannot be started raises a `BusStateError` on entering, and is closed."""

    def refuse(*_: object) -> None:
        raise error

    bus = EventBus([hang])
    monkeypatch.setattr(place, refuse)
    with pytest.raises(BusStateError, match=re.escape(str(error))):
        bus.__enter__()
    assert current_bus() is None
    assert bus.publish(event()) is False
    assert bus.statistics().rejected == 1
    began = time.monotonic()
    bus.close()
    assert time.monotonic() - began < 1


@pytest.mark.anyio
async def test_streams_of_a_bus_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that waits when the bus cannot be started is notified that its stream has ended."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bus = EventBus()
    read: list[Event] = []

    async def read_all() -> None:
        async with bus.stream(NodeStarted) as stream:
            read.extend([each async for each in stream])

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_all)
            await anyio.wait_all_tasks_blocked()
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                with pytest.raises(BusStateError):
                    bus.__enter__()
    assert not read


def test_entered_where_no_loop_runs() -> None:
    """An `async with` block that no loop runs raises a `BusStateError`, and the bus is closed."""
    bus = EventBus([hang])
    with pytest.raises(BusStateError, match="no loop runs here"):
        bus.__aenter__().send(None)
    assert bus.publish(event()) is False
    assert current_bus() is None
    assert bus.close().complete


@pytest.mark.anyio
async def test_exceptions_of_the_body() -> None:
    """An exception of the block's body is raised unchanged, not in a group, after the bus has drained."""
    got: list[Event] = []
    error = ValueError("of the body")

    async def use() -> None:
        async with EventBus([got.append]) as bus:
            bus.publish(event())
            raise error

    with pytest.raises(ValueError, match="of the body") as caught:
        await use()
    assert caught.value is error
    assert len(got) == 1


def test_exceptions_of_the_body_of_a_plain_with() -> None:
    """An exception of the body of a plain `with` block is raised unchanged, after the bus has drained."""
    got: list[Event] = []
    error = KeyboardInterrupt()

    def use() -> None:
        with EventBus([got.append]) as bus:
            for number in range(100):
                bus.publish(event(number))
            raise error

    with pytest.raises(KeyboardInterrupt) as caught:
        use()
    assert caught.value is error
    assert len(got) == 100


@pytest.mark.anyio
async def test_cancelled_body() -> None:
    """A block whose body is cancelled drains first, then passes the cancellation on."""
    got: list[int] = []

    async def handle(event: NodeStarted) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        got.append(event.attempt)

    bus = EventBus([handle])
    with anyio.CancelScope() as scope:
        async with bus:
            for number in range(10):
                bus.publish(event(number))
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert got == list(range(10))
    assert bus.report is not None
    assert bus.report.complete


# Draining


@pytest.mark.anyio
@in_every_host
async def test_drain(host: str) -> None:
    """`drain` returns when every event accepted before it has been handled; the bus stays open."""
    handled: list[int] = []

    async def handle(event: NodeStarted) -> None:
        await anyio.lowlevel.checkpoint()
        handled.append(event.attempt)

    async with running(EventBus([handle]), host) as bus:
        for start in (0, 100):
            for number in range(start, start + 100):
                bus.publish(event(number))
            report = await bus.drain()
            assert handled == list(range(start + 100))
            assert report
            assert (report.complete, report.delivered, report.undelivered) == (True, start + 100, 0)
        assert bus.publish(event())
        assert bus.report is None


@pytest.mark.anyio
@in_every_host
async def test_drain_waits_for_a_running_call(host: str) -> None:
    """A drain waits for a running handler call even if nothing is queued."""
    gate = Gate()
    async with running(EventBus([gate]), host) as bus:
        bus.publish(event())
        await until(lambda: gate.got)
        report = await bus.drain(timeout=0.02)
        assert (bool(report), report.complete, report.undelivered) == (False, False, 0)
        gate.open()
        assert await bus.drain()


@pytest.mark.anyio
@in_every_host
async def test_drain_waits_for_nothing_later(host: str) -> None:
    """A drain does not wait for events accepted after it."""
    opened: set[int] = set()
    reports: list[DrainReport] = []

    async def handle(event_: NodeStarted) -> None:
        await until(lambda: event_.attempt in opened)

    async def drain() -> None:
        reports.append(await bus.drain())

    async with running(EventBus([handle]), host) as bus:
        bus.publish(event(0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            bus.publish(event(1))
            opened.add(0)
            await until(lambda: reports)
        assert reports[0].complete
        opened.add(1)


@pytest.mark.anyio
@in_every_host
async def test_drain_past_its_deadline(host: str) -> None:
    """A drain whose deadline passes reports the undelivered events and affects nothing."""
    gate = Gate()
    async with running(EventBus([gate]), host) as bus:
        for number in range(3):
            bus.publish(event(number))
        await until(lambda: gate.got)
        report = await bus.drain(timeout=0)
        assert (report.complete, report.delivered, report.undelivered) == (False, 1, 2)
        assert report.subscriptions["gate"].queued == 2
        gate.open()
        report = await bus.drain()
        assert (report.complete, report.delivered, report.undelivered) == (True, 3, 0)


@pytest.mark.anyio
async def test_drain_of_a_bus_that_does_not_run() -> None:
    """A drain of a bus that was not entered returns at once; it is complete if nothing is queued."""
    bus = EventBus([hang])
    assert not (await bus.drain()).undelivered
    bus.publish(event())
    report = await bus.drain()
    assert (report.complete, report.undelivered) == (False, 1)
    closed = await bus.aclose()
    assert await bus.drain() is closed


@pytest.mark.anyio
@in_every_host
async def test_drains_of_many_at_once(host: str) -> None:
    """Drains from many tasks and threads at once all end, whatever the deadlines of the others are."""
    drained: list[bool] = []

    async def drain(timeout: float | None) -> None:
        for number in range(30):
            bus.publish(event(number))
            report = await bus.drain(timeout)
            drained.append(timeout is not None or report.complete)

    def drain_in_thread(timeout: float | None) -> None:
        anyio.run(drain, timeout)

    async def handle(_: NodeStarted) -> None:
        await anyio.lowlevel.checkpoint()

    async with running(EventBus([handle]), host) as bus:
        with anyio.fail_after(PATIENCE_SECONDS * 3):
            async with anyio.create_task_group() as tasks:
                for timeout in (None, 0, None, 0.001):
                    tasks.start_soon(drain, timeout)
                    tasks.start_soon(anyio.to_thread.run_sync, drain_in_thread, timeout)
    assert drained == [True] * 240


@pytest.mark.anyio
async def test_drain_and_a_subscription_that_never_began() -> None:
    """A drain does not wait for a subscription that was ended before its first event."""
    gate = Gate()
    reports: list[DrainReport] = []

    async def drain() -> None:
        reports.append(await bus.drain())

    with EventBus([gate]) as bus:
        bus.publish(event())
        await until(lambda: gate.got)
        late = bus.subscribe(hang, NodeCompleted, name="late")
        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain)
                await anyio.wait_all_tasks_blocked()
                late.unsubscribe()
                gate.open()
    assert reports[0].complete


@pytest.mark.anyio
@in_every_host
@pytest.mark.parametrize("waiter", ["the handler", "a task of its", "a thread of its"])
async def test_drain_in_a_handler(host: str, waiter: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that awaits the drain of its own bus gets a `WouldDeadlockError` at once."""
    refused: list[str] = []

    async def drain() -> None:
        with pytest.raises(WouldDeadlockError, match="handle_and_drain"):
            await bus.drain()
        refused.append(waiter)

    async def handle_and_drain(_: NodeStarted) -> None:
        if waiter == "the handler":
            await drain()
        elif waiter == "a task of its":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain)
        else:
            await anyio.to_thread.run_sync(anyio.run, drain)

    async with running(EventBus([handle_and_drain]), host) as bus:
        bus.publish(event())
        with anyio.fail_after(PATIENCE_SECONDS):
            assert await bus.drain()
    assert refused == [waiter]
    assert not caplog.records


@pytest.mark.anyio
@in_every_host
async def test_drain_of_another_bus_in_a_handler(host: str) -> None:
    """A handler may await the drain of another bus."""
    got: list[Event] = []

    async def hand_on(event: NodeStarted) -> None:
        other.publish(event)
        assert await other.drain()
        assert len(got) == 1

    async with running(EventBus([got.append]), host) as other, running(EventBus([hand_on]), host) as bus:
        bus.publish(event())
        await bus.drain()
        assert bus.statistics().subscriptions["hand_on"].failed == 0
    assert len(got) == 1


# Closing


@pytest.mark.anyio
@in_every_host
async def test_close_delivers_and_reports(host: str) -> None:
    """`close` delivers all events accepted before it, to all subscriptions at the same time, and returns how
    many were delivered and how many were not.
    """
    one, other = Gate("one"), Gate("other")

    async def open_when_both_have_begun() -> None:
        await until(lambda: one.got and other.got)
        one.open()
        other.open()

    async with running(EventBus([one, other]), host) as bus:
        for number in range(10):
            bus.publish(event(number))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_when_both_have_begun)
            await bus.aclose()
        assert bus.publish(event(11)) is False
    report = bus.report
    assert one.got == other.got == list(range(10))
    assert one.stopped
    assert other.stopped
    assert report
    assert (report.complete, report.delivered, report.undelivered, report.lost) == (True, 20, 0, 0)
    assert {name: snapshot.delivered for name, snapshot in report.subscriptions.items()} == {
        "one": 10,
        "other": 10,
    }
    assert {snapshot.state for snapshot in report.subscriptions.values()} == {"ended"}


@pytest.mark.anyio
@in_every_host
async def test_handlers_publish_while_the_bus_drains(host: str) -> None:
    """Events that handlers publish while the bus drains are accepted and delivered, too; any other `publish`
    returns False from the beginning of the close.
    """
    got: list[int] = []
    is_closing = False

    async def go_on(each: NodeStarted) -> None:
        await until(lambda: is_closing)
        got.append(each.attempt)
        if each.attempt < 9:
            assert bus.publish(event(each.attempt + 1))

    async with running(EventBus([go_on]), host) as bus, anyio.create_task_group() as tasks:
        bus.publish(event())
        tasks.start_soon(bus.aclose)
        await until(lambda: not bus.publish(NodeCompleted(workflow_id="lifecycle", node_id="outside")))
        is_closing = True
    assert got == list(range(10))
    assert bus.report
    assert (bus.report.complete, bus.report.delivered) == (True, 10)


@pytest.mark.anyio
@in_every_host
async def test_close_past_its_deadline(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """A close returns at most 100 ms after its timeout; the remaining events are reported as undelivered and
    logged.
    """
    healthy: list[Event] = []
    caplog.set_level(logging.WARNING, logger="eventbus")
    async with running(EventBus([hang]), host) as bus:
        bus.subscribe(healthy.append, NodeStarted, name="healthy")
        for number in range(10):
            bus.publish(event(number))
        began = time.monotonic()
        report = await bus.aclose(0.05)
        assert 0.05 <= time.monotonic() - began < 1
    assert not report
    assert (report.complete, report.delivered, report.undelivered) == (False, 11, 9)
    assert report.subscriptions["hang"].queued == 9
    assert report.subscriptions["hang"].state == "cancelled"
    assert len(healthy) == 10
    assert 0.05 <= report.duration_seconds < 1
    _join_hosts()  # the bus's own thread logs it after the report
    assert "9 events undelivered: 'hang' (9)" in caplog.text


@pytest.mark.anyio
@in_every_host
async def test_no_call_starts_after_the_deadline(host: str) -> None:
    """After the deadline of a close no further handler call starts, even if handlers ignore their
    cancellation.
    """
    calls: list[float] = []

    def block_a_little(_: NodeStarted) -> None:
        calls.append(time.monotonic())
        time.sleep(0.01)  # the point of this handler

    async with running(EventBus([block_a_little]), host) as bus:
        for number in range(100):
            bus.publish(event(number))
        began = time.monotonic()
        report = await bus.aclose(0.05)
        assert time.monotonic() - began < 1
    _join_hosts()  # a thread that continued after its report would still call
    assert calls[-1] - began < 0.15
    assert report.delivered == len(calls) < 50
    assert report.undelivered == 100 - len(calls)


def _aclose_elsewhere(bus: EventBus, timeout: float) -> DrainReport:
    return anyio.run(bus.aclose, timeout)


@pytest.mark.parametrize("close", [EventBus.close, _aclose_elsewhere])
def test_close_while_a_handler_blocks_the_thread(close: Callable[[EventBus, float], DrainReport]) -> None:
    """In the bus's own thread the close still returns on time and reports the undelivered events."""
    inside, released = threading.Event(), threading.Event()

    def block(_: NodeStarted) -> None:
        inside.set()
        released.wait(PATIENCE_SECONDS)

    bus = EventBus([block]).__enter__()
    for number in range(3):
        bus.publish(event(number))
    assert inside.wait(PATIENCE_SECONDS)
    began = time.monotonic()
    report = close(bus, 0.05)
    assert 0.05 <= time.monotonic() - began < 1
    assert (report.complete, report.delivered, report.undelivered) == (False, 1, 2)
    assert bus.close() is report
    released.set()
    _join_hosts()
    assert bus.close() is report
    assert bus.report is report


@pytest.mark.parametrize("in_batches", [False, True])
def test_no_call_starts_after_a_late_report(in_batches: bool) -> None:
    """A subscriber that was about to be called when the thread was blocked gets nothing after the report."""
    blocks, released = threading.Event(), threading.Event()
    calls: list[object] = []

    class Late(Subscriber[NodeStarted]):
        async def handle(self, event: NodeStarted) -> None:
            calls.append(event)

    class LateBatches(Subscriber[NodeStarted]):
        async def handle_batch(self, events: Sequence[NodeStarted]) -> None:
            calls.append(events)

    def block(_: NodeStarted) -> None:
        blocks.set()
        assert released.wait(PATIENCE_SECONDS)

    bus = EventBus([block, LateBatches() if in_batches else Late()])
    with bus:
        bus.publish(event())  # both are woken in one turn of the loop, the one that blocks first
        assert blocks.wait(PATIENCE_SECONDS)
        report = bus.close(timeout=0)
        released.set()
    _join_hosts()
    assert report.undelivered == 1
    assert not calls


def _join_hosts() -> None:
    for thread in [each for each in threading.enumerate() if each.name == "eventbus-host"]:
        thread.join(PATIENCE_SECONDS)


@pytest.mark.anyio
@in_every_host
@pytest.mark.parametrize("hangs", [True, False])
async def test_closing_twice(host: str, hangs: bool) -> None:
    """Closing twice, from anywhere, gives the same report."""
    reports: list[DrainReport] = []

    async def close() -> None:
        reports.append(await bus.aclose(0.02))

    def close_in_thread() -> None:
        reports.append(bus.close(0.02))

    def close_in_another_loop() -> None:
        anyio.run(close)

    async with running(EventBus([hang] if hangs else []), host) as bus:
        bus.publish(event())
        bus.publish(event())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            tasks.start_soon(anyio.to_thread.run_sync, close_in_thread)
            tasks.start_soon(anyio.to_thread.run_sync, close_in_another_loop)
        await close()
        await anyio.to_thread.run_sync(close_in_thread)
        reports.append(bus.close())
    reports.append(bus.close())
    assert len(reports) == 7
    assert all(report is bus.report for report in reports)
    assert bus.report is not None
    assert bus.report.complete is not hangs


def test_closing_a_bus_that_was_not_entered() -> None:
    """Closing a bus that was never entered reports the queued events at once."""
    bus = EventBus([hang])
    for number in range(3):
        bus.publish(event(number))
    report = bus.close()
    assert (report.complete, report.delivered, report.undelivered) == (False, 0, 3)
    assert bus.report is report
    assert EventBus([hang]).close().complete


@pytest.mark.anyio
@in_every_host
@pytest.mark.parametrize("closing", ["close", "aclose", "close in a thread"])
async def test_closing_in_a_handler(host: str, closing: str) -> None:
    """A close called in a handler begins the close and returns at once."""
    got: list[int] = []
    began: list[DrainReport] = []

    async def handle_and_close(event_: NodeStarted) -> None:
        got.append(event_.attempt)
        if event_.attempt == 1:
            if closing == "aclose":
                began.append(await bus.aclose())
            elif closing == "close":
                began.append(bus.close())
            else:
                began.append(await anyio.to_thread.run_sync(bus.close))
            assert bus.publish(event(99)) is True

    bus = EventBus([handle_and_close])
    for number in range(5):
        bus.publish(event(number))
    async with running(bus, host):
        with anyio.fail_after(PATIENCE_SECONDS):
            report = await bus.aclose()
    assert got == [*range(5), 99]
    assert (report.complete, report.delivered) == (True, 6)
    assert len(began) == 1
    assert not began[0].complete
    assert began[0].undelivered == 3
    assert report.subscriptions["handle_and_close"].failed == 0


@pytest.mark.anyio
async def test_closing_in_the_loop_of_the_subscribers() -> None:
    """A close called in the loop its subscribers run in begins the close and returns at once."""
    gate = Gate()
    async with EventBus([gate]) as bus:
        bus.publish(event(0))
        bus.publish(event(1))
        began = time.monotonic()
        begun = bus.close()
        assert time.monotonic() - began < 1
        assert (begun.complete, begun.undelivered) == (False, 2)
        gate.open()
        report = await bus.aclose()
    assert (report.complete, report.delivered) == (True, 2)
    assert gate.got == [0, 1]


@pytest.mark.anyio
async def test_closing_from_a_thread_while_in_the_loop() -> None:
    """A close from another thread waits for subscribers that run in a loop."""
    gate = Gate()
    async with EventBus([gate]) as bus:
        bus.publish(event(0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_close_in_thread, bus)
            await until(lambda: gate.got and not bus.publish(event(1)))
            gate.open()
    assert gate.stopped


async def _close_in_thread(bus: EventBus) -> None:
    report = await anyio.to_thread.run_sync(bus.close)
    assert report.complete


@pytest.mark.anyio
@in_every_host
async def test_cancelled_aclose(host: str) -> None:
    """An `aclose` that is cancelled still drains, still reports, and passes the cancellation on."""
    gate = Gate()
    passed_on: list[bool] = []

    async def close(scope: anyio.CancelScope) -> None:
        with scope:
            await bus.aclose()
            await anyio.lowlevel.checkpoint()
            pytest.fail("the cancellation was swallowed")
        passed_on.append(scope.cancelled_caught)

    async with running(EventBus([gate]), host) as bus:
        bus.publish(event(0))
        bus.publish(event(1))
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close, scope)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            await until(lambda: gate.got)
            assert bus.publish(event(2)) is False  # it is closing
            scope.cancel()
            gate.open()
    assert passed_on == [True]
    assert bus.report is not None
    assert (bus.report.complete, bus.report.delivered) == (True, 2)


@pytest.mark.anyio
@in_every_host
async def test_publish_wait_when_the_bus_closes(host: str) -> None:
    """A `publish_wait` that is waiting when the bus closes returns False."""
    gate = Gate()
    gate.capacity, gate.overflow = 1, Overflow.WAIT
    answers: list[bool] = []

    async def publish() -> None:
        answers.append(await bus.publish_wait(event(2)))

    async with running(EventBus([gate]), host) as bus:
        bus.publish(event(0))
        await until(lambda: gate.got)
        bus.publish(event(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish)
            await until(lambda: bus._router.subscriptions["gate"].mailbox.waiting_room)
            tasks.start_soon(bus.aclose)
            await until(lambda: answers)
            gate.open()
    assert answers == [False]
    assert gate.got == [0, 1]


# Exceptions of subscribers that are not an `Exception`


@pytest.mark.anyio
async def test_system_exit_is_raised_once() -> None:
    """The bus raises the exception once, after the other subscriptions have drained, whichever caller closes
    it.
    """
    got: list[Event] = []
    outcomes: list[object] = []

    def leave(_: NodeStarted) -> None:
        raise SystemExit(3)

    async def close() -> None:
        try:
            outcomes.append(await bus.aclose())
        except SystemExit as error:
            outcomes.append(error.code)

    with EventBus([leave, got.append]) as bus:
        for number in range(20):
            bus.publish(event(number))
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(close)
    assert len(got) >= 20
    assert sorted(map(str, outcomes)) == sorted(["3", str(bus.report), str(bus.report)])


@pytest.mark.anyio
@pytest.mark.parametrize("drastic", [SystemExit, KeyboardInterrupt])
async def test_the_body_ends_for_what_a_subscriber_raised(drastic: type[BaseException]) -> None:
    """In the caller's loop the body of the block is cancelled, and the block raises the exception."""

    def leave(_: NodeStarted) -> None:
        raise drastic

    async def use() -> None:
        async with EventBus([leave]) as bus:
            bus.publish(event())
            await anyio.sleep_forever()

    with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(drastic):
        await use()


# Streams


@pytest.mark.anyio
@in_every_host
async def test_stream_is_subscribed_before_its_body(host: str) -> None:
    """A stream is subscribed before its body runs; it ends when the bus is closed and the stream is empty."""
    async with running(EventBus(), host) as bus:
        bus.publish(event(-1))
        async with bus.stream(NodeStarted) as stream:
            for number in range(10):
                bus.publish(event(number))
            report = await bus.aclose()
            assert report.undelivered == 0  # a stream keeps its events for its reader
            assert [each.attempt async for each in stream] == list(range(10))
            assert [each async for each in stream] == []
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            with pytest.raises(anyio.EndOfStream):
                stream.receive_nowait()


@pytest.mark.anyio
@in_every_host
@pytest.mark.parametrize("reader_backend", ["asyncio", "trio"])
async def test_stream_read_in_another_loop(host: str, reader_backend: str) -> None:
    """A stream may be read in any loop, whichever host the bus has."""
    got: list[int] = []
    reading = threading.Event()

    async def read() -> None:
        async with bus.stream(NodeStarted) as stream:
            reading.set()
            async for each in stream:
                got.append(each.attempt)

    async with running(EventBus(), host) as bus, anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, lambda: anyio.run(read, backend=reader_backend))
        await until(reading.is_set)
        for number in range(100):
            bus.publish(event(number))
            if number % 10 == 0:
                await until(partial(_has_reached, got, number))
        await bus.aclose()
    assert got == list(range(100))


@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("asyncio", "trio"), ("trio", "asyncio")])
def test_stream_read_in_two_loops_in_turn(backends: tuple[str, str]) -> None:
    """A stream may be read in one loop and then in another."""

    async def read(number: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_publish_when_waited_for, bus, number)
            with anyio.fail_after(PATIENCE_SECONDS):
                assert (await stream.receive()).attempt == number

    with EventBus() as bus:
        stream = bus.stream(NodeStarted)
        stream.open()
        for number, backend in enumerate(backends):
            anyio.run(read, number, backend=backend)
        stream.close()


async def _publish_when_waited_for(bus: EventBus, number: int) -> None:
    await anyio.wait_all_tasks_blocked()
    bus.publish(event(number))


@pytest.mark.anyio
@in_every_host
@pytest.mark.parametrize("leave", ["the bus closes", "the stream is closed"])
async def test_stream_that_ends_while_waited_for(host: str, leave: str) -> None:
    """A waiting reader is notified when the bus or the stream has closed."""
    got: list[Event] = []
    async with running(EventBus(), host) as bus, bus.stream(NodeStarted) as stream:

        async def read() -> None:
            got.extend([each async for each in stream])

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                if leave == "the bus closes":
                    await bus.aclose()
                else:
                    stream.close()
    assert got == []


@pytest.mark.anyio
@in_every_host
async def test_cancelled_reader(host: str) -> None:
    """A stream that is cancelled while it waits loses nothing."""
    async with running(EventBus(), host) as bus, bus.stream(NodeStarted) as stream:
        for number in range(5):
            with anyio.move_on_after(0.001) as scope:
                await stream.receive()
            assert scope.cancelled_caught
            bus.publish(event(number))
            assert (await stream.receive()).attempt == number


@pytest.mark.anyio
async def test_stream_closed_just_as_it_is_woken() -> None:
    """A stream of another loop that is closed just as it is woken does not keep the bus's thread awake."""
    got: list[Event] = []

    async def read() -> None:
        assert [each async for each in stream] == []

    with EventBus() as bus:
        bus.subscribe(got.append, NodeCompleted)
        async with anyio.create_task_group() as tasks:
            async with bus.stream(NodeStarted) as stream:
                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                bus.publish(event())  # rings this loop
            bus.publish(Event())  # rings no loop, without a subscription; this loop finds it in its next turn
        for _ in range(2):
            bus.publish(NodeCompleted(workflow_id="lifecycle", node_id="node"))
            assert await bus.drain(PATIENCE_SECONDS)
    assert len(got) == 2


@pytest.mark.anyio
async def test_stream_used_wrongly() -> None:
    """A stream that is not open cannot be read, and neither can one that another task is reading."""
    async with EventBus() as bus:
        stream = bus.stream(NodeStarted)
        with pytest.raises(StreamStateError, match="not open"):
            await stream.receive()
        with pytest.raises(StreamStateError, match="not open"):
            stream.statistics()
        stream.close()
        async with stream, anyio.create_task_group() as tasks:
            tasks.start_soon(stream.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(StreamStateError, match="another task"):
                await stream.receive()
            with pytest.raises(anyio.WouldBlock):
                stream.receive_nowait()
            tasks.cancel_scope.cancel()


def test_streams_opened_in_many_loops_at_once() -> None:
    """Streams are opened, read and closed in several loops at once, and each reader gets its events."""
    failures: list[BaseException] = []
    before = sys.getswitchinterval()

    async def read() -> None:
        for _ in range(60):
            async with bus.stream(NodeStarted) as stream:
                with anyio.fail_after(PATIENCE_SECONDS):
                    await stream.receive()

    def run() -> None:
        try:
            for _ in range(2):
                anyio.run(read)
        except BaseException as error:
            failures.append(error)

    sys.setswitchinterval(1e-6)
    try:
        with EventBus() as bus:
            readers = [threading.Thread(target=run) for _ in range(6)]
            for reader in readers:
                reader.start()
            while any(reader.is_alive() for reader in readers):
                bus.publish(event())
                readers[0].join(0.000_5)
    finally:
        sys.setswitchinterval(before)
    assert bus.close().complete
    assert not failures
