"""One subscriber on trial: it is started, handed events and stopped, and everything it does is noted."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio

from eventbus.bus import EventBus
from eventbus.contracts import Subscriber
from eventbus.delivery.handlers import ensure_async
from eventbus.delivery.running_loop import is_cancellation
from eventbus.event_classes import event_classes
from eventbus.events import Event, encode
from eventbus.testing.stepped_call import SteppedCall
from eventbus.testing.surroundings import running_tasks

__all__ = ["Limits", "MakeSubscriber", "Trial"]

MakeSubscriber: TypeAlias = "Callable[[], Subscriber[Any]]"
"""A class of subscribers, or a function that makes one: each trial needs a fresh one."""

_BATCHES = (1, 7)
"""The sizes of the first batches; the next ones hold all that is left."""
_MOST_PUBLISHED = 20
"""How many events a subscriber may publish for each that it is handed, and for starting."""
_TURNS_TO_END = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a subscriber may take.

    Attributes:
        step_seconds: How long it may keep the loop between two suspensions.
        call_seconds: How long `start` and each call of `handle` may take, waiting included.
        stop_seconds: How long `stop` may take.
    """

    step_seconds: float = 0.1
    call_seconds: float = 5.0
    stop_seconds: float = 2.0


class Trial:
    """Runs one fresh subscriber in the running loop, as the host of a bus does.

    Args:
        make: Makes the subscriber.
        limits: What it may take.

    Attributes:
        problems: What was wrong, a line each.
        slow: The steps that kept the loop too long. They are apart, as a busy machine may have caused them.
        published: The events that it published.
    """

    def __init__(self, make: MakeSubscriber, limits: Limits) -> None:
        self.problems: list[str] = []
        self.slow: list[str] = []
        self.published: list[Event] = []
        self._make = make
        self._limits = limits

    async def run(self, events: Sequence[Event], *, cancel_at: int | None = None) -> None:
        """Start the subscriber, hand over the events that it wants, and stop it.

        Args:
            events: The events.
            cancel_at: Cancel the first call that suspends this many times, and hand over no more after it.
        """
        before = running_tasks()
        subscriber = self._make()  # not an attribute: what it has open may close when the trial is over
        bus = EventBus(name="conformance")
        bus.tap(Event).connect(self._note_published, weak=False)
        async with bus:
            if await self._call("start", subscriber.start, bus, within=self._limits.call_seconds):
                await self._deliver(subscriber, events, cancel_at)
            await self._call("stop", subscriber.stop, within=self._limits.stop_seconds)
        await self._find_tasks(before)

    def _note_published(self, event: Event) -> None:
        self.published.append(event)

    async def _find_tasks(self, before: set[int]) -> None:
        for _ in range(_TURNS_TO_END):
            if running_tasks() <= before:
                return
            await anyio.lowlevel.checkpoint()
        self._add("leaves a task running")

    # Handing over.

    async def _deliver(
        self, subscriber: Subscriber[Any], events: Sequence[Event], cancel_at: int | None
    ) -> None:
        wanted = event_classes(subscriber.events)
        queue = deque(event for event in events if isinstance(event, wanted))
        most = _MOST_PUBLISHED * (len(queue) + 1)
        sizes = iter(_BATCHES)
        while queue:
            seen = len(self.published)
            size = min(next(sizes, len(queue)), subscriber.max_batch) if subscriber.handles_batches else 1
            batch = [queue.popleft() for _ in range(min(size, len(queue)))]
            if not await self._hand_over(subscriber, batch, cancel_at):
                return
            queue.extend(event for event in self.published[seen:] if isinstance(event, wanted))
            if len(self.published) > most:
                self._add("publishes without end: each event that it publishes leads to others")
                return

    async def _hand_over(
        self, subscriber: Subscriber[Any], events: list[Event], cancel_at: int | None
    ) -> bool:
        """Hand over a batch; return whether there is to be another."""
        lines = [encode(event) for event in events]
        name = "handle_batch" if subscriber.handles_batches else "handle"
        is_alive = await self._call(
            f"{name} of {self._kinds(events)}",
            getattr(subscriber, name),
            events if subscriber.handles_batches else events[0],
            within=self._limits.call_seconds,
            cancel_at=cancel_at,
        )
        if [encode(event) for event in events] != lines:
            self._add(f"{name} changes the events that it gets, which others get, too")
        return is_alive

    @staticmethod
    def _kinds(events: list[Event]) -> str:
        kinds = {type(event).__name__: None for event in events}
        return f"a {next(iter(kinds))}" if len(kinds) == 1 else f"{len(events)} events"

    # Calling.

    async def _call(
        self,
        what: str,
        function: Callable[..., Awaitable[object]],
        *arguments: object,
        within: float,
        cancel_at: int | None = None,
    ) -> bool:
        """Call a method; return True if it ended by itself, and in time."""
        cancelled = anyio.CancelScope()
        call = SteppedCall(
            ensure_async(function)(*arguments),
            lambda number: cancelled.cancel() if number == cancel_at else None,
        )
        with cancelled, anyio.move_on_after(within) as deadline:
            try:
                await call
            except BaseException as error:
                if is_cancellation(error) and (cancelled.cancel_called or deadline.cancel_called):
                    raise
                self._add(f"{what} raises {_text(error)}")
            if call.swallowed_cancellation and cancelled.cancel_called:
                self._add(f"{what} swallows its cancellation: it must raise it again")
        if deadline.cancelled_caught:
            self._add(f"{what} does not return within {within:g} s")
        if call.longest_step > self._limits.step_seconds:
            self.slow.append(
                f"{what} blocks the loop for {call.longest_step:.2g} s: "
                "await instead, or use a thread (eventbus.OwnThread)"
            )
        return not (cancelled.cancel_called or deadline.cancel_called or self.slow)

    def _add(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _text(error: BaseException) -> str:
    if is_cancellation(error):
        return "a cancellation that nobody asked for"
    ends = isinstance(error, KeyboardInterrupt | SystemExit)
    return f"{type(error).__name__}: {error}" + (", which ends the program" if ends else "")
