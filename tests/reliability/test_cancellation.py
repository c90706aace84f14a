"""Cancellation at every suspension of every operation, in every way, loses nothing.

`Interrupted` awaits an operation, counts its suspensions, and cancels it at the k-th one: when it suspends,
or when the awaited thing has happened and the operation has not been resumed yet. The tests try every k until
the operation finishes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from eventbus import Event, EventBus, EventStream, NodeProgress, Overflow

if TYPE_CHECKING:
    from tests.reliability.conftest import Check, Item, ItemsOf, Numbered

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 10
MOST_SUSPENSIONS = 200
MOST_TURNS = 12
"""More turns of a loop than any operation needs to end after it is resumed."""


class Interrupted:
    """An operation that is cancelled at its k-th suspension.

    Args:
        operation: The awaitable.
        k: At which suspension to cancel, from 1.
        cancel: Cancels it.
        late: Cancel when the awaited future is done and the operation not resumed yet; only asyncio
            suspends on futures.
    """

    def __init__(
        self, operation: Awaitable[Any], k: int, cancel: Callable[[], object], *, late: bool = False
    ) -> None:
        self._operation = operation
        self._k = k
        self._cancel = cancel
        self._late = late
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._operation.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                waited_for = resume()
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions == self._k:
                self._interrupt(waited_for)
            try:
                sent = yield waited_for
            except BaseException as error:
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, sent)

    def _interrupt(self, waited_for: object) -> None:
        if self._late and isinstance(waited_for, asyncio.Future):
            future: asyncio.Future[object] = waited_for
            future.add_done_callback(lambda _: self._cancel())
        else:
            self._cancel()


class Attempt:
    """One attempt at an operation, cancelled at its k-th suspension, and its outcome.

    Args:
        way: How to cancel it.
        k: At which suspension, from 1.
    """

    def __init__(self, way: Way, k: int) -> None:
        self._way = way
        self.k = k
        self.suspensions = 0
        self.was_cancelled = False
        self.is_done = False

    async def __call__(self, operation: Callable[[], Awaitable[object]]) -> None:
        """Run it, once."""
        await self._way(self, operation)
        assert self.is_done is not self.was_cancelled


Way = partial[Awaitable[None]]
"""Called with an attempt and an operation."""


async def by_scope(attempt: Attempt, operation: Callable[[], Awaitable[object]], *, late: bool) -> None:
    """Cancel an operation's scope."""
    with anyio.CancelScope() as scope:
        interrupted = Interrupted(operation(), attempt.k, scope.cancel, late=late)
        try:
            await interrupted
            attempt.is_done = True
        finally:
            attempt.suspensions = interrupted.suspensions
    attempt.was_cancelled = scope.cancelled_caught


async def by_task(attempt: Attempt, operation: Callable[[], Awaitable[object]], *, late: bool) -> None:
    """Cancel an operation's asyncio task, natively."""
    interrupted = Interrupted(operation(), attempt.k, lambda: task.cancel(), late=late)

    async def run() -> None:
        await interrupted
        attempt.is_done = True

    task = asyncio.create_task(run())
    try:
        await task
    except asyncio.CancelledError:
        attempt.was_cancelled = True
    attempt.suspensions = interrupted.suspensions


WAYS = {
    "scope": partial(by_scope, late=False),
    "scope, late": partial(by_scope, late=True),
    "task": partial(by_task, late=False),
    "task, late": partial(by_task, late=True),
}
in_every_way = pytest.mark.parametrize(
    ("anyio_backend", "way"),
    # Only asyncio can cancel a task natively, and only its futures make a late cancellation possible.
    [
        *(pytest.param("asyncio", way, id=f"asyncio, {name}") for name, way in WAYS.items()),
        pytest.param("trio", WAYS["scope"], id="trio, scope"),
    ],
)


async def every_suspension(way: Way, run: Callable[[Attempt], Awaitable[None]]) -> None:
    """Run a case for each suspension of its operation, which must have at least one, and must end."""
    for k in range(1, MOST_SUSPENSIONS):
        attempt = Attempt(way, k)
        with anyio.fail_after(PATIENCE_SECONDS):
            await run(attempt)
        if attempt.suspensions < k:
            assert k > 1, "this operation never suspends: nothing was cancelled"
            return
    pytest.fail(f"the operation suspends more than {MOST_SUSPENSIONS} times")


class GatedBus:
    """A bus in this loop whose only subscriber takes its first event, then waits for a gate."""

    def __init__(self, bus: EventBus, numbered: Numbered, capacity: int) -> None:
        self.bus = bus
        self.numbered = numbered
        self.gate = anyio.Event()
        self.got: list[Event] = []
        bus.subscribe(self._handle, NodeProgress, name="gated", capacity=capacity, overflow=Overflow.WAIT)

    async def _handle(self, event: Event) -> None:
        self.got.append(event)
        await self.gate.wait()

    def publish(self, number: int) -> None:
        """Publish an event that is accepted."""
        assert self.bus.publish(self.numbered("main", number))


@asynccontextmanager
async def gated_bus(numbered: Numbered, capacity: int = 100) -> AsyncGenerator[GatedBus]:
    """Yield a bus whose handler is handling its first event, number 0."""
    async with EventBus() as bus:
        gated = GatedBus(bus, numbered, capacity)
        gated.publish(0)
        while not gated.got:
            await anyio.lowlevel.checkpoint()
        yield gated
        gated.gate.set()


async def _after(turns: int, then: Callable[[], object]) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    then()


# publish_wait


@in_every_way
async def test_cancelled_publish_wait(way: Way, check: Check, numbered: Numbered, items_of: ItemsOf) -> None:
    """A `publish_wait` that is cancelled while it waits publishes nothing."""

    async def run(attempt: Attempt) -> None:
        async with gated_bus(numbered, capacity=1) as gated, anyio.create_task_group() as tasks:
            gated.publish(1)
            tasks.start_soon(_after, 3, gated.gate.set)
            await attempt(lambda: gated.bus.publish_wait(numbered("main", 2)))
        attempted = [("main", number) for number in range(3)]
        accepted = attempted if attempt.is_done else attempted[:2]
        assert not any(check(attempted, accepted, items_of(gated.got)).values())

    await every_suspension(way, run)


@pytest.mark.parametrize("first_leaves", [True, False])
async def test_one_of_two_who_wait_is_cancelled(first_leaves: bool, numbered: Numbered) -> None:
    """Room that becomes free while its `publish_wait` is cancelled goes to the next waiting one."""
    for turns in range(MOST_TURNS):
        scopes = [anyio.CancelScope(), anyio.CancelScope()]
        leaving = 0 if first_leaves else 1
        published: list[int] = []
        async with gated_bus(numbered, capacity=1) as gated:
            gated.publish(2)
            with anyio.fail_after(PATIENCE_SECONDS):
                async with anyio.create_task_group() as tasks:
                    for number, scope in enumerate(scopes):
                        tasks.start_soon(_publish_within, scope, gated, number, published)
                        await anyio.wait_all_tasks_blocked()
                    gated.gate.set()
                    await _after(turns, scopes[leaving].cancel)
            assert 1 - leaving in published
            assert (await gated.bus.aclose()).delivered == 2 + len(published)


async def _publish_within(scope: anyio.CancelScope, gated: GatedBus, number: int, into: list[int]) -> None:
    with scope:
        await gated.bus.publish_wait(gated.numbered("waiting", number))
        into.append(number)


# Streams


@in_every_way
async def test_cancelled_reader_of_a_stream(
    way: Way, check: Check, numbered: Numbered, items_of: ItemsOf
) -> None:
    """A stream that is cancelled while it waits loses nothing."""
    count = 6

    async def publish_all(bus: EventBus) -> None:
        for number in range(count):
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            bus.publish(numbered("main", number))

    async def run(attempt: Attempt) -> None:
        got: list[Event] = []
        async with EventBus() as bus, bus.stream(NodeProgress) as stream, anyio.create_task_group() as tasks:

            async def read() -> None:
                async for event in stream:
                    got.append(event)
                    if len(got) == count:
                        return

            tasks.start_soon(publish_all, bus)
            await attempt(read)
            if attempt.was_cancelled:
                await read()
        everything = [("main", number) for number in range(count)]
        assert not any(check(everything, everything, items_of(got)).values())

    await every_suspension(way, run)


@pytest.mark.parametrize("host", ["own thread", "caller's loop"])
async def test_reader_cancelled_just_as_mail_comes(host: str, numbered: Numbered) -> None:
    """A reader that is cancelled after it is woken and before it is resumed takes nothing."""
    bus = EventBus()
    async with AsyncExitStack() as stack:
        if host == "own thread":
            stack.enter_context(bus)
        else:
            await stack.enter_async_context(bus)
        stream = await stack.enter_async_context(bus.stream(NodeProgress))
        for turns in range(MOST_TURNS):
            got: list[Event] = []
            scope = anyio.CancelScope()
            with anyio.fail_after(PATIENCE_SECONDS):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_read_one_within, scope, stream, got)
                    await anyio.wait_all_tasks_blocked()
                    bus.publish(numbered("main", turns))
                    await _after(turns, scope.cancel)
                assert stream.statistics().queued == 1 - len(got)
                if not got:
                    await _read_one_within(anyio.CancelScope(), stream, got)
            assert [event.attempt for event in got if isinstance(event, NodeProgress)] == [turns]


async def _read_one_within(
    scope: anyio.CancelScope, stream: EventStream[NodeProgress], into: list[Event]
) -> None:
    with scope:
        into.append(await stream.receive())


# drain


@in_every_way
async def test_cancelled_drain(way: Way, check: Check, numbered: Numbered, items_of: ItemsOf) -> None:
    """A `drain` that is cancelled affects nothing: each event is delivered once, and the next drain waits."""

    async def run(attempt: Attempt) -> None:
        async with gated_bus(numbered) as gated, anyio.create_task_group() as tasks:
            gated.publish(1)
            gated.publish(2)
            tasks.start_soon(_after, 3, gated.gate.set)
            await attempt(gated.bus.drain)
            report = await gated.bus.drain()
            assert report.complete
            assert report.delivered == 3
        everything = [("main", number) for number in range(3)]
        assert not any(check(everything, everything, items_of(gated.got)).values())

    await every_suspension(way, run)


# aclose


@in_every_way
async def test_cancelled_aclose(way: Way, check: Check, numbered: Numbered, items_of: ItemsOf) -> None:
    """An `aclose` that is cancelled still drains, still reports, and passes the cancellation on."""

    async def run(attempt: Attempt) -> None:
        async with gated_bus(numbered) as gated, anyio.create_task_group() as tasks:
            gated.publish(1)
            gated.publish(2)
            tasks.start_soon(_after, 3, gated.gate.set)
            await attempt(partial(_close_and_go_on, gated.bus))
            assert attempt.was_cancelled or attempt.suspensions < attempt.k
            report = gated.bus.report
            assert report is not None
            assert report.complete
            assert report.delivered == 3
        everything = [("main", number) for number in range(3)]
        assert not any(check(everything, everything, items_of(gated.got)).values())

    await every_suspension(way, run)


async def _close_and_go_on(bus: EventBus) -> None:
    await bus.aclose()
    await anyio.lowlevel.checkpoint()


@in_every_way
async def test_an_aclose_is_on_time_though_cancelled(way: Way, numbered: Numbered) -> None:
    """A cancelled `aclose` of a bus whose handler hangs still reports the undelivered events."""

    async def run(attempt: Attempt) -> None:
        async with gated_bus(numbered) as gated:
            gated.publish(1)
            await attempt(partial(gated.bus.aclose, 0.01))
            assert attempt.suspensions < 10  # it waits without polling
            report = gated.bus.report
            assert report is not None
            assert (report.complete, report.delivered, report.undelivered) == (False, 1, 1)

    await every_suspension(way, run)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_closing_task_cancelled_again_and_again(numbered: Numbered) -> None:
    """An `aclose` that is cancelled three times still drains."""
    async with gated_bus(numbered) as gated:
        gated.publish(1)
        task = asyncio.create_task(gated.bus.aclose())
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            task.cancel()
        gated.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gated.bus.report is not None
        assert gated.bus.report.delivered == 2


# The whole block


@in_every_way
async def test_cancelled_block(way: Way, check: Check, numbered: Numbered, items_of: ItemsOf) -> None:
    """A cancelled ``async with`` block delivers the events published in it before the cancellation."""

    async def run(attempt: Attempt) -> None:
        got: list[Event] = []
        accepted: list[Item] = []
        bus = EventBus()

        async def handle(event: NodeProgress) -> None:
            await anyio.lowlevel.checkpoint()
            got.append(event)

        async def use() -> None:
            async with bus:
                bus.subscribe(handle)
                for number in range(4):
                    accepted.append(("main", number))
                    assert bus.publish(numbered("main", number))
                    await anyio.lowlevel.checkpoint()
                await bus.drain()

        await attempt(use)
        assert bus.report is not None
        assert bus.report.complete
        assert not any(check(accepted, accepted, items_of(got)).values())

    await every_suspension(way, run)
