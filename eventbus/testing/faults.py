"""Faults to inject: each function returns a subscriber that misbehaves around another one.

    with SettlingBus([raising(SlowNodes(), every=3), recorder], allow_failures=True) as bus: ...

With them a test shows that a program copes when one of its subscribers is slow, raises, hangs, ends or is
cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio

from eventbus.bus import EventBus
from eventbus.contracts import Subscriber
from eventbus.delivery.handlers import ensure_async
from eventbus.events import Event

__all__ = ["cancelled", "crashing", "hanging", "raising", "slow"]

_Call: TypeAlias = "Callable[[], Awaitable[object]]"
_Fault: TypeAlias = "Callable[[int, _Call], Awaitable[object]]"


def slow(subscriber: Subscriber[Any], seconds: float) -> Subscriber[Any]:
    """Return a subscriber that waits before it handles each event."""

    async def fault(number: int, call: _Call) -> None:  # noqa: ARG001
        await anyio.sleep(seconds)
        await call()

    return _Faulty(subscriber, fault)


def raising(
    subscriber: Subscriber[Any], error: Exception | None = None, *, every: int = 1
) -> Subscriber[Any]:
    """Return a subscriber that raises instead of handling every n-th event.

    Args:
        subscriber: The subscriber.
        error: The exception; by default a `RuntimeError`.
        every: 1 for each event, 2 for the second, the fourth and so on.
    """

    async def fault(number: int, call: _Call) -> None:
        if number % every == 0:
            raise error or RuntimeError("injected")
        await call()

    return _Faulty(subscriber, fault)


def hanging(subscriber: Subscriber[Any], *, after: int = 0) -> Subscriber[Any]:
    """Return a subscriber that hangs, in an await, at the first event after some."""

    async def fault(number: int, call: _Call) -> None:
        await (call() if number <= after else anyio.sleep_forever())

    return _Faulty(subscriber, fault)


def crashing(
    subscriber: Subscriber[Any], error: BaseException | None = None, *, after: int = 0
) -> Subscriber[Any]:
    """Return a subscriber that raises what ends it, at the first event after some.

    Args:
        subscriber: The subscriber.
        error: The exception; by default ``SystemExit(1)``, which the close of the bus raises again.
        after: How many events it handles before.
    """

    async def fault(number: int, call: _Call) -> None:
        if number > after:
            raise error or SystemExit(1)
        await call()

    return _Faulty(subscriber, fault)


def cancelled(subscriber: Subscriber[Any], *, after: int = 0) -> Subscriber[Any]:
    """Return a subscriber whose calls are cancelled where they first suspend, after some events."""

    async def fault(number: int, call: _Call) -> None:
        with anyio.CancelScope() as scope:
            if number > after:
                scope.cancel()
            await call()

    return _Faulty(subscriber, fault)


class _Faulty(Subscriber[Any]):
    def __init__(self, inner: Subscriber[Any], fault: _Fault) -> None:
        self.events, self.capacity, self.overflow = inner.events, inner.capacity, inner.overflow
        self.key, self.name = inner.key, inner.name or type(inner).__name__
        self._inner = inner
        self._fault = fault
        self._number = 0

    async def start(self, bus: EventBus) -> None:
        await self._inner.start(bus)

    async def handle(self, event: Event) -> None:
        self._number += 1
        await self._fault(self._number, lambda: self._pass_on(event))

    async def _pass_on(self, event: Event) -> None:
        if self._inner.handles_batches:
            await ensure_async(self._inner.handle_batch)([event])
        else:
            await ensure_async(self._inner.handle)(event)

    async def stop(self) -> None:
        await self._inner.stop()
