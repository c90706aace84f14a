"""Wake a task from any thread, under asyncio or trio.

A `Doorbell` belongs to one running loop and may be rung from anywhere: another thread, another
loop, a signal handler, a finalizer. Many rings make one answer. A `Sleeper` is what one task of
that loop sleeps on; nothing is ever handed over through a wake-up, so a wake-up that comes to
nothing (the task was cancelled meanwhile) loses nothing.

This is the one module that knows asyncio and trio apart: anyio has no way to wake a task of
another thread's loop without waiting for it.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from eventbus.delivery.switch_interval import restore, shorten

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "GATHER_SECONDS",
    "Doorbell",
    "Sleeper",
    "Waiter",
    "current_loop",
    "is_cancellation",
    "new_sleeper",
]


GATHER_SECONDS = 0.001
"""How long a loop that another thread rang looks again by itself before it has to be rung again."""


class Sleeper(Protocol):
    """What one task sleeps on."""

    async def sleep(self) -> None:
        """Suspend the calling task until `wake`; a wake-up that nobody sleeps for is forgotten."""
        ...

    def wake(self) -> None:
        """Resume the sleeping task, if there is one. Only in the loop's own thread."""
        ...


class Doorbell:
    """One loop's bell; make it in that loop.

    Args:
        answer: Called in the loop with the bell itself, once for any number of rings; answers
            whether to be called again on the loop's next turn, without a ring.
        switch_interval: The interpreter's switch interval, in seconds, from a ring by another thread
            until an answer after which the loop has nothing more to do; see `switch_interval`. None
            leaves it alone.
    """

    __slots__ = (
        "_answer",
        "_call_later",
        "_call_soon",
        "_call_soon_here",
        "_has_gathered",
        "_is_answering",
        "_is_gathering",
        "_is_hurrying",
        "_rung",
        "_switch_interval",
        "_thread",
        "_to_wake",
        "_turns_to_serve",
        "_unserved_turns",
    )

    def __init__(self, answer: Callable[[Doorbell], bool], switch_interval: float | None = None) -> None:
        self._answer = answer
        self._switch_interval = switch_interval
        self._rung = False
        self._is_answering = False
        self._is_hurrying = False
        self._is_gathering = False
        self._has_gathered = False
        self._thread = threading.get_ident()
        self._to_wake: deque[Sleeper] = deque()
        self._call_soon, self._call_soon_here, self._call_later = _schedulers()
        # trio runs what is due in one turn in random order: woken tasks have run after the second.
        self._turns_to_serve = 1 if self._call_later is not None else 2
        self._unserved_turns = 0

    def is_here(self) -> bool:
        """Whether the calling thread is the one the loop runs in."""
        return threading.get_ident() == self._thread

    def ring(self) -> None:
        """Have the loop answer soon, unless it is going to already. From anywhere; never waits."""
        if not self._rung:
            self._rung = True
            if not self.is_here():
                self._hurry()
            try:
                self._call_soon(self._on_ring)
            except RuntimeError:
                self.retire()  # the loop has closed: there is nobody left to wake

    def ring_for(self, sleeper: Sleeper) -> None:
        """Wake a sleeper of this loop, from anywhere."""
        self._to_wake.append(sleeper)
        if not (self._is_answering and self.is_here()):  # else it is about to look there
            self.ring()

    def gather(self) -> bool:
        """Look again in a millisecond by itself, if another thread rang; answer whether it will.

        Waking a loop costs that thread ten times what a publish does, and the interpreter two
        switches. Only amid an answer. Once in a row: when nothing has come meanwhile, it answers no.
        """
        if self._is_gathering:
            return True
        if self._has_gathered or not self._is_hurrying or self._call_later is None:
            return False
        self._is_gathering = True
        self._call_later(GATHER_SECONDS, self._look_again)
        return True

    def _look_again(self) -> None:
        self._is_gathering, self._has_gathered = False, True
        self._on_ring()

    def retire(self) -> None:
        """Hurry for nobody any more: the loop has no use for this bell, and may end unanswered."""
        self._switch_interval = None
        restore(self)

    def _hurry(self) -> None:
        self._is_hurrying = True
        interval = self._switch_interval
        if interval is not None:
            shorten(self, interval)
            if self._switch_interval is None:  # retired just now
                restore(self)

    def _on_ring(self) -> None:
        # Cleared before answering: a ring from here on may be about something the answer misses.
        self._rung = False
        self._is_answering = True
        try:
            expects_more = self._answer(self)
        finally:
            self._is_answering = False
        self._unserved_turns = self._turns_to_serve if self._to_wake else max(0, self._unserved_turns - 1)
        while self._to_wake:
            self._to_wake.popleft().wake()
        # Between two turns the loop lets go of the interpreter: what has been woken is not yet served.
        if expects_more:
            self._has_gathered = False
        if self._rung:
            return
        if expects_more or (self._unserved_turns and self._is_hurrying):
            self._rung = True
            self._call_soon_here(self._on_ring)  # after what was woken, and without a system call
        elif self._is_hurrying and not self._is_gathering:
            self._rest()

    def _rest(self) -> None:
        self._is_hurrying = self._has_gathered = False
        restore(self)
        if self._rung:  # by another thread, just now: that was undone, too
            self._hurry()


class Waiter:
    """What one task waits on for something to happen once, in any thread; make it in that task."""

    __slots__ = ("_doorbell", "_happened", "_sleeper")

    def __init__(self) -> None:
        self._sleeper = new_sleeper()
        self._doorbell = Doorbell(self._wake)
        self._happened = False

    def _wake(self, _: Doorbell) -> bool:
        self._sleeper.wake()
        return False

    def notify(self) -> None:
        """It happened. From anywhere; never waits."""
        self._happened = True
        self._doorbell.ring()

    async def wait(self) -> None:
        """Suspend the calling task until it has happened."""
        while not self._happened:
            await self._sleeper.sleep()


def current_loop() -> object:
    """Return what identifies the loop the calling task runs in."""
    trio = _running_trio()
    if trio is not None:
        return trio.lowlevel.current_trio_token()
    import asyncio  # noqa: PLC0415 - see _AsyncioSleeper

    return asyncio.get_running_loop()


def new_sleeper() -> Sleeper:
    """Return a sleeper for a task of the running loop."""
    trio = _running_trio()
    return _AsyncioSleeper() if trio is None else _TrioSleeper(trio)


def is_cancellation(error: BaseException) -> bool:
    """Whether this is how asyncio or trio cancels a task, whichever of them is running."""
    known = (("asyncio", "CancelledError"), ("trio", "Cancelled"))
    loaded = [getattr(sys.modules[module], name) for module, name in known if module in sys.modules]
    return isinstance(error, tuple(loaded))


class _AsyncioSleeper:
    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        # Imported where a loop runs, and so is loaded already: it is a third of `import eventbus`.
        import asyncio  # noqa: PLC0415

        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None

    async def sleep(self) -> None:
        self._future = future = self._loop.create_future()
        try:
            await future
        finally:
            self._future = None

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class _TrioSleeper:
    __slots__ = ("_task", "_trio")

    def __init__(self, trio: Any) -> None:
        self._trio = trio.lowlevel
        self._task: Any = None

    async def sleep(self) -> None:
        self._task = self._trio.current_task()
        await self._trio.wait_task_rescheduled(self._abort)

    def wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._trio.reschedule(task)

    def _abort(self, _raise_cancel: object) -> Any:
        self._task = None
        return self._trio.Abort.SUCCEEDED


_Scheduler: TypeAlias = Callable[[Callable[[], None]], object]
_LaterScheduler: TypeAlias = Callable[[float, Callable[[], None]], object]


def _schedulers() -> tuple[_Scheduler, _Scheduler, _LaterScheduler | None]:
    """Return how to call a function in the running loop: from anywhere, from the loop itself, and later."""
    trio = _running_trio()
    if trio is not None:
        run_sync_soon = trio.lowlevel.current_trio_token().run_sync_soon
        return run_sync_soon, run_sync_soon, None  # it has no timers but in tasks
    import asyncio  # noqa: PLC0415 - see _AsyncioSleeper

    loop = asyncio.get_running_loop()
    thread = threading.get_ident()
    # An empty context: what is woken must not run in the context of whoever happened to publish.
    context = Context()

    def from_anywhere(callback: Callable[[], None]) -> None:
        # In a task of this very loop, which therefore does not sleep. Being in its thread is not
        # enough: a signal handler runs there while the loop sleeps in select(), and only the
        # thread-safe form, which costs a system call, wakes it.
        if threading.get_ident() == thread and asyncio.current_task(loop) is not None:
            loop.call_soon(callback, context=context)
        else:
            loop.call_soon_threadsafe(callback, context=context)

    return from_anywhere, partial(loop.call_soon, context=context), partial(loop.call_later, context=context)


def _running_trio() -> Any:
    """Return the trio module if the calling task runs under trio, without importing it."""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_task() else None
