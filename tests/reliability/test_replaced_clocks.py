"""Clocks that a test of the program has replaced: standing still, or far ahead at each reading.

freezegun and time-machine do this. The timers of an asyncio loop are then never due, or at once.
"""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial

import anyio
import anyio.to_thread
import pytest

from eventbus import DrainReport, EventBus, Subscriber
from eventbus.delivery.clock import elapsed_seconds
from tests.vocabulary import PATIENCE_SECONDS, Tick, publish, running

pytestmark = pytest.mark.anyio

in_both_hosts = pytest.mark.parametrize(
    ("anyio_backend", "host"), [("asyncio", "own thread"), ("asyncio", "caller's loop")]
)


@pytest.fixture(params=["stands still", "jumps"], autouse=True)
def _clock(request: pytest.FixtureRequest, anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the clocks; the loops of the tests are asyncio's, trio has a clock of its own."""
    first, readings = time.monotonic(), itertools.count()

    def clock() -> float:
        return first if request.param == "stands still" else first + 3_600 * next(readings)

    for name in ("monotonic", "perf_counter", "time"):
        monkeypatch.setattr(time, name, clock)


class Hanging(Subscriber[Tick]):
    """Hangs in `handle` until it is cancelled, and then in `stop`."""

    async def handle(self, event: Tick) -> None:
        """Hang."""
        await anyio.Event().wait()

    async def stop(self) -> None:
        """Hang, too."""
        await anyio.Event().wait()


class Slow(Subscriber[Tick]):
    """Takes real time for each event."""

    async def handle(self, event: Tick) -> None:
        """Wait for 20 ms."""
        await anyio.to_thread.run_sync(threading.Event().wait, 0.02)


async def _drain(bus: EventBus, timeout: float) -> DrainReport:
    return await bus.drain(timeout)


async def _aclose(bus: EventBus, timeout: float) -> DrainReport:
    return await bus.aclose(timeout)


async def _close_in_a_thread(bus: EventBus, timeout: float) -> DrainReport:
    return await anyio.to_thread.run_sync(partial(bus.close, timeout))


ENDS = {"drain": _drain, "aclose": _aclose, "close": _close_in_a_thread}


@in_both_hosts
@pytest.mark.parametrize("end", ENDS)
async def test_a_hung_subscriber(end: str, host: str) -> None:
    """A close or drain takes its timeout, also under a clock that stands still, and no more."""
    began = 0.0
    async with running(EventBus([Hanging()]), host) as bus:
        publish(bus, 1, 2)
        began = elapsed_seconds()
        report = await ENDS[end](bus, 0.1)
        assert 0.1 <= elapsed_seconds() - began < 2
        assert not report.complete
        began = elapsed_seconds()
        await bus.aclose(0)
    assert elapsed_seconds() - began < 2


@in_both_hosts
@pytest.mark.parametrize("end", ENDS)
async def test_a_slow_subscriber(end: str, host: str) -> None:
    """A close or drain does not end before its timeout, also under a clock that jumps."""
    async with running(EventBus([Slow()]), host) as bus:
        publish(bus, 1, 2, 3)
        report = await ENDS[end](bus, PATIENCE_SECONDS)
        assert report.complete
        assert report.delivered == 3


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_events_of_another_thread() -> None:
    """Events are handled as they come: neither the loop nor its publishers wait for a timer."""
    got, went_on = list[int](), threading.Semaphore(0)

    def handle(event: Tick) -> None:
        got.append(event.n)
        went_on.release()

    began = elapsed_seconds()
    with EventBus([handle]) as bus:
        for n in range(300):
            publish(bus, n)
            assert went_on.acquire(timeout=PATIENCE_SECONDS)
    assert got == list(range(300))
    assert elapsed_seconds() - began < 5  # 15 s if each waited for the thread that looks at the loops


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_a_clock_that_is_replaced_while_a_loop_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waited for a timer as the clock was replaced goes on, too."""
    replaced = time.monotonic
    got, went_on = list[int](), threading.Semaphore(0)

    def handle(event: Tick) -> None:
        got.append(event.n)
        went_on.release()

    with EventBus([handle]) as bus:
        for n in range(0, 20, 2):
            monkeypatch.undo()
            publish(bus, n)
            assert went_on.acquire(timeout=PATIENCE_SECONDS)
            time.sleep(0.000_3)  # it has asked for the next look, and not looked
            monkeypatch.setattr(time, "monotonic", replaced)
            publish(bus, n + 1)
            assert went_on.acquire(timeout=PATIENCE_SECONDS)
    assert got == list(range(20))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_the_clock_of_a_trio_test() -> None:
    """A close and a drain take real time where trio's clock jumps ahead as soon as all its tasks wait."""
    testing = pytest.importorskip("trio.testing")

    async def close(bus: EventBus) -> tuple[DrainReport, DrainReport]:
        publish(bus, 1, 2, 3)
        drained = await bus.drain(PATIENCE_SECONDS)
        publish(bus, 4)
        return drained, await bus.aclose(PATIENCE_SECONDS)

    with EventBus([Slow()]) as bus:
        clock = testing.MockClock(autojump_threshold=0)
        drained, closed = anyio.run(close, bus, backend="trio", backend_options={"clock": clock})
    assert (drained.complete, drained.delivered) == (True, 3)
    assert (closed.complete, closed.delivered) == (True, 4)
