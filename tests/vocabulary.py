"""What many tests share: events with a number, streams read at once, hosts, sinks and hostile objects."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import anyio
import pytest

from eventbus import Event, EventBus, EventsLost, EventStream

PATIENCE_SECONDS = 10
"""How long a test waits for what must happen; only a failing test waits that long."""

Word: TypeAlias = "int | tuple[int, int, int]"
"""An event as its number, or a loss as its count, first and last number."""

# Events.


class Tick(Event, frozen=True, kw_only=True):
    """Event number n of a source."""

    n: int = 0
    source: int = 0
    key: str = ""


class Tock(Event, frozen=True, kw_only=True):
    """An event of another class, with a number."""

    n: int = 0


def number(event: Any) -> int:
    """Return an event's number, 0 without one."""
    return getattr(event, "n", 0)


async def ignore(event: Event) -> None:
    """Take an event and ignore it."""


# Publishing and reading.


def publish(bus: EventBus, *numbers: int) -> None:
    """Publish ticks with these numbers."""
    for n in numbers:
        assert bus.publish(Tick(n=n))


def opened(bus: EventBus, events: Any = Event, **options: Any) -> EventStream[Any]:
    stream = bus.stream(events, **options)
    stream.open()
    return stream


def read(stream: EventStream[Any]) -> list[Any]:
    """Read all that is queued."""
    events: list[Any] = []
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while True:
            events.append(stream.receive_nowait())
    return events


def numbers(stream: EventStream[Any]) -> list[int]:
    """Read all that is queued, as the events' numbers."""
    return [event.n for event in read(stream)]


def words(events: Iterable[object]) -> list[Word]:
    return [word(event) for event in events]


def word(event: object) -> Word:
    if isinstance(event, EventsLost):
        return (event.count, event.first_seq, event.last_seq)
    assert isinstance(event, Tick)
    return event.n


class ListSink:
    """A sink that keeps the published events."""

    def __init__(self, events: list[Event] | None = None) -> None:
        self.events: list[Event] = [] if events is None else events

    def publish(self, event: Event) -> bool:
        """Keep it."""
        self.events.append(event)
        return True


# Running.

in_every_host = pytest.mark.parametrize(
    ("anyio_backend", "host"),
    # The bus's own thread runs asyncio, whatever the caller's backend is.
    [("asyncio", "own thread"), ("asyncio", "caller's loop"), ("trio", "caller's loop")],
)


@asynccontextmanager
async def running(bus: EventBus, host: str) -> AsyncGenerator[EventBus]:
    """Enter a bus in its own thread or in this loop."""
    if host == "own thread":
        with bus:
            yield bus
    else:
        async with bus:
            yield bus


async def until(is_so: Callable[[], object]) -> None:
    """Wait until a condition holds that no event reports; it is checked after every turn of the loop."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - no event reports it
            await anyio.sleep(0.000_1)


def run_in_threads(*jobs: Callable[[], object]) -> None:
    """Run functions at the same time, each in a thread of its own."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Measuring time, on a machine that may be busy.

slow_attempts: list[str] = []
"""The attempts of the running test that were repeated; `tests/conftest.py` counts, prints and limits them."""


class TooSlowError(AssertionError):
    """An attempt was slower than promised, which the machine may have caused."""


def attempts(at_most: int = 3) -> Iterator[AbstractContextManager[None]]:
    """Yield contexts to do the same thing in, until it is not too slow; the last attempt must not be.

    Use it as ``for attempt in attempts(): with attempt: ...``.
    """
    is_done = False

    @contextmanager
    def attempt(*, is_last: bool) -> Generator[None]:
        nonlocal is_done
        try:
            yield
            is_done = True
        except TooSlowError as error:
            if is_last:
                raise
            slow_attempts.append(str(error))

    for number in range(1, at_most + 1):
        if not is_done:
            yield attempt(is_last=number == at_most)


# Hostile objects.


def _refuse(self: object, *_: object) -> Any:
    raise RuntimeError("hands off")


class Hostile:
    """Raises in every method that a stranger might call."""

    __class__ = property(_refuse)  # pyright: ignore[reportIncompatibleMethodOverride]
    __getattr__: Any = _refuse
    __str__: Any = _refuse
    __repr__: Any = _refuse
    __bool__: Any = _refuse
    __iter__: Any = _refuse
    __len__: Any = _refuse
    __eq__: Any = _refuse
    __hash__ = None  # type: ignore[assignment]


class HostileError(Exception):
    """An exception that cannot be printed."""

    __str__: Any = _refuse
    __repr__: Any = _refuse


def in_a_child(work: Callable[[], object]) -> bool:
    """Call a function in a forked child; return True if it returned something true there.

    The child ends with the function, also if that raises: otherwise it would run the rest of the tests.
    """
    child = os.fork()
    if not child:
        try:
            os._exit(not work())
        finally:
            traceback.print_exc()
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0
