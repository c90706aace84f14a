"""The default bus: the innermost entered one, or the only running one."""

from __future__ import annotations

import contextvars

import anyio
import pytest

from eventbus import Event, EventBus, current_bus
from eventbus.delivery import current_bus as current_module


def test_none() -> None:
    """Without an entered bus there is no default."""
    bus = EventBus()
    assert current_bus() is None
    bus.close()


def test_innermost_entered() -> None:
    """The innermost entered bus is the default; when it is left, the outer one is again."""
    with EventBus(name="outer") as outer:
        with EventBus(name="inner") as inner:
            assert current_bus() is inner
        assert current_bus() is outer
    assert current_bus() is None


def test_the_only_one_running_elsewhere() -> None:
    """In a context that entered none, the only running bus is the default; with two there is no default."""
    elsewhere = contextvars.Context()
    with EventBus() as bus:
        assert elsewhere.run(current_bus) is bus
        with EventBus():
            assert elsewhere.run(current_bus) is None
        assert elsewhere.run(current_bus) is bus


def test_closed_inside_its_block() -> None:
    """A closed bus is not the default, even inside its block."""
    with EventBus() as outer, EventBus() as inner:
        inner.close()
        assert current_bus() is outer


@pytest.mark.anyio
async def test_entered_in_a_task() -> None:
    """A bus entered in one task is the innermost there, and the only one running in others."""
    seen: list[object] = []

    async def look() -> None:
        seen.append(current_bus())

    async with EventBus() as bus, anyio.create_task_group() as tasks:
        assert current_bus() is bus
        tasks.start_soon(look)
    assert seen == [bus]
    assert current_bus() is None


def test_left_in_another_context() -> None:
    """Leaving a bus in another context than it was entered in raises nothing."""
    bus = EventBus()
    contextvars.Context().run(bus.__enter__)
    bus.__exit__(None, None, None)
    assert bus.publish(Event()) is False


def test_forgotten_in_a_forked_child() -> None:
    """A forked child has no bus running."""

    def look() -> None:
        with EventBus() as bus:
            running = dict(current_module._running)
            try:
                current_module.forget_all()
                assert current_bus() is None
            finally:
                current_module._running.update(running)
            assert current_bus() is bus

    contextvars.copy_context().run(look)
