"""An ``async with`` block that is left in another task than it was entered in."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import anyio
import pytest

from eventbus import BusStateError, Event, EventBus
from tests.vocabulary import publish, until

Got = list[Event]
Left = Callable[[EventBus], Awaitable[None]]


async def _by_hand(bus: EventBus) -> None:
    await asyncio.create_task(bus.__aenter__())
    publish(bus, 1)
    await asyncio.create_task(bus.__aexit__(None, None, None))


async def _by_an_exit_stack(bus: EventBus) -> None:
    stack = AsyncExitStack()
    await stack.enter_async_context(bus)
    publish(bus, 1)
    with anyio.fail_after(5):
        await asyncio.create_task(stack.aclose())


async def _by_an_async_generator(bus: EventBus) -> None:
    async def fixture() -> AsyncGenerator[EventBus]:
        async with bus:
            yield bus

    values = fixture()
    publish(await asyncio.create_task(anext(values)), 1)
    await asyncio.create_task(values.aclose())


async def _among_other_scopes(bus: EventBus) -> None:
    outer = anyio.CancelScope()
    with outer:
        await bus.__aenter__()
    with anyio.CancelScope():
        publish(bus, 1)
        await bus.__aexit__(None, None, None)


async def _by_two_blocks_crosswise(bus: EventBus) -> None:
    other = await EventBus().__aenter__()
    await bus.__aenter__()
    publish(bus, 1)
    await other.__aexit__(None, None, None)
    await bus.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "use",
    [_by_hand, _by_an_exit_stack, _by_an_async_generator, _among_other_scopes, _by_two_blocks_crosswise],
)
def test_left_in_another_task(use: Left) -> None:
    """Under asyncio an `async with` block may be left in another task than it was entered in, as test
    fixtures do, and leaves no task behind.
    """
    got: Got = []

    async def main() -> None:
        bus = EventBus([got.append])
        await use(bus)
        assert bus.report is not None
        assert bus.report.complete
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert len(got) == 1


def test_in_a_case_of_unittest() -> None:
    """A bus entered by `enterAsyncContext` serves the test, and is closed by its clean-up."""
    got: Got = []

    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self) -> None:
            self.bus = await self.enterAsyncContext(EventBus([got.append]))

        async def test(self) -> None:
            publish(self.bus, 1)
            await self.bus.drain()
            publish(self.bus, 2)

    result = unittest.TestResult()
    Case("test").run(result)
    assert not [*result.errors, *result.failures]
    assert len(got) == 2


def test_what_a_subscriber_raises_leaves_no_cancellation_behind() -> None:
    """The body is cancelled for what a subscriber raised; the task may go on after the block."""

    def leave(_: Event) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        for closes_itself in (False, True):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the whole block is the point
                async with EventBus([leave]) as bus:
                    publish(bus, 1)
                    if closes_itself:
                        await bus.aclose()
                    await anyio.sleep(5)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            await asyncio.sleep(0)

    asyncio.run(main())


def test_left_in_another_task_under_trio() -> None:
    """trio does not allow it: the bus is closed all the same, and one error says what to do."""
    import trio

    got: Got = []
    errors: list[BaseException] = []

    async def leave(bus: EventBus) -> None:
        try:
            await bus.__aexit__(None, None, None)
        except BusStateError as error:
            errors.append(error)

    async def main() -> None:
        bus = EventBus([got.append])
        async with bus:
            publish(bus, 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave, bus)

    trio.run(main)
    assert len(got) == 1
    assert "trio lets only the task that entered" in str(errors[0])


@pytest.mark.anyio
async def test_a_handler_that_shields_itself_delays_leaving() -> None:
    """A handler that shields itself from cancellation does not delay `aclose`, but it does delay leaving an
    `async with` block.
    """
    is_inside, is_over, has_ended = False, False, False

    async def shield(_: Event) -> None:
        nonlocal is_inside, has_ended
        is_inside = True
        with anyio.CancelScope(shield=True):
            await until(lambda: is_over)
        has_ended = True

    async def end_soon() -> None:
        nonlocal is_over
        await anyio.sleep(0.15)  # longer than an `aclose` after its deadline
        is_over = True

    async with anyio.create_task_group() as tasks:
        async with EventBus([shield]) as bus:
            publish(bus, 1)
            await until(lambda: is_inside)
            assert not (await bus.aclose(0)).complete
            assert not has_ended
            tasks.start_soon(end_soon)
        assert has_ended
