"""Wake a task from any thread, under asyncio or trio.

A `Doorbell` belongs to one running loop and may be rung from anywhere: another thread, another
loop, a signal handler, a finalizer. It calls one function in the loop, once for any number of rings. A
`Sleeper` is what one task of that loop sleeps on. No event is ever handed over through a wake-up, so
waking a task that has just been cancelled loses nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from eventbus.delivery.clock import is_replaced
from eventbus.delivery.running_loop import Sleeper, new_sleeper, schedulers
from eventbus.delivery.switch_interval import restore, shorten

__all__ = ["LINGER_SECONDS", "Doorbell", "Waiter"]


LINGER_SECONDS = 0.001
"""How soon a lingering doorbell calls its function again without a ring."""


class Doorbell:
    """One loop's bell; make it in that loop.

    Args:
        on_ring: Called in the loop with the bell itself, once for any number of rings. When it returns
            True it is called again on the loop's next turn, without a ring.
        switch_interval: The interpreter's switch interval, in seconds, from a ring by another thread
            until the loop has nothing more to do; see `switch_interval`. None leaves it alone.
    """

    __slots__ = (
        "_call_later",
        "_call_soon",
        "_call_soon_here",
        "_has_lingered",
        "_is_interval_short",
        "_is_lingering",
        "_is_loop_running",
        "_is_running",
        "_on_ring",
        "_rung",
        "_switch_interval",
        "_thread",
        "_to_wake",
        "_turns_to_serve",
        "_unserved_turns",
    )

    def __init__(self, on_ring: Callable[[Doorbell], bool], switch_interval: float | None = None) -> None:
        self._on_ring = on_ring
        self._switch_interval = switch_interval
        self._rung = False
        self._is_running = False
        self._is_interval_short = False  # since a ring by another thread
        self._is_lingering = False
        self._has_lingered = False
        self._thread = threading.get_ident()
        self._to_wake: deque[Sleeper] = deque()
        self._call_soon, self._call_soon_here, self._call_later, self._is_loop_running = schedulers()
        # trio runs what is due in one turn in random order: woken tasks have run after the second.
        self._turns_to_serve = 1 if self._call_later is not None else 2
        self._unserved_turns = 0

    def is_here(self) -> bool:
        """Whether the calling thread is the one the loop runs in."""
        return threading.get_ident() == self._thread

    def ring(self) -> None:
        """Have the loop call the function soon, unless it is about to. From anywhere; never waits."""
        if self._rung:
            return
        try:
            self._rung = True
            if not self.is_here():
                self._shorten_interval()
            self._call_soon(self._run)
        except RuntimeError:
            self.close()  # the loop has closed
        except BaseException:
            self.ring_again()
            raise

    def ring_again(self) -> None:
        """Have the loop call the function, even if it seems about to.

        The call of `ring` that was to bring that about may have been interrupted: for good by an
        exception, or by the signal handler that runs now.
        """
        try:
            self._call_soon(self._run)
        except RuntimeError:
            self.close()

    def wake(self, sleeper: Sleeper) -> None:
        """Wake a sleeper of this loop, from anywhere."""
        self._to_wake.append(sleeper)
        # Otherwise `_run` is about to look there. Not by `is_here`: this is called at each wake-up.
        if not (self._is_running and threading.get_ident() == self._thread):
            self.ring()

    def linger(self, *, has_found: bool) -> bool:
        """Call the function again in a millisecond, if another thread rang; return whether it will be.

        A ring costs the ringing thread ten times what a publish does, and the interpreter two
        switches; so does a look on the loop's next turn, which is for what this thread publishes. Only
        inside the function.

        Args:
            has_found: Whether the function has found anything to do. After a ring it lingers if it has
                not; after a linger, if it has.
        """
        if has_found is not self._has_lingered:
            return self._is_lingering and not has_found
        if self._is_lingering:
            return True
        if not self._is_interval_short or self._call_later is None or is_replaced():
            return False
        self._has_lingered = False
        self._is_lingering = True
        self._call_later(LINGER_SECONDS, self._run_again)
        return True

    def close(self) -> None:
        """Stop shortening the switch interval: the loop may end without a further call."""
        self._switch_interval = None
        restore(self)

    def _run_again(self) -> None:
        self._is_lingering, self._has_lingered = False, True
        self._run()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:
            self._is_running = False
            self.ring_again()
            raise

    def _serve(self) -> None:
        # Cleared first: a ring from here on may be about something that the function misses.
        self._rung = False
        self._is_running = True
        expects_more = self._on_ring(self)
        self._is_running = False
        self._unserved_turns = self._turns_to_serve if self._to_wake else max(0, self._unserved_turns - 1)
        while self._to_wake:
            self._to_wake.popleft().wake()
        if expects_more:
            self._has_lingered = False
        if self._rung:
            return
        # Between two turns the loop releases the interpreter: the woken tasks have not run yet.
        if expects_more or (self._unserved_turns and self._is_interval_short and not self._is_lingering):
            self._rung = True
            self._call_soon_here(self._run)  # after the woken tasks, and without a system call
        elif self._is_interval_short and not self._is_lingering:
            self._restore_interval()

    def _shorten_interval(self) -> None:
        self._is_interval_short = True
        interval = self._switch_interval
        if interval is not None:
            shorten(self, interval, self._look)
            if self._switch_interval is None:  # closed just now
                restore(self)

    def _look(self) -> bool:
        """Return whether the loop runs; end a linger whose time never comes. In another thread."""
        if self._is_lingering and is_replaced():
            self._is_lingering = False
            self.ring_again()
        return self._is_loop_running()

    def _restore_interval(self) -> None:
        self._is_interval_short = self._has_lingered = False
        restore(self)
        if self._rung:  # by another thread just now, whose shortening was undone
            self._shorten_interval()


class Waiter:
    """Lets one task at a time wait for something that happens in any thread; make it in its loop."""

    __slots__ = ("_doorbell", "_happened", "_sleeper")

    def __init__(self) -> None:
        self._sleeper = new_sleeper()
        self._doorbell = Doorbell(self._wake)
        self._happened = False

    def _wake(self, _: Doorbell) -> bool:
        self._sleeper.wake()
        return False

    def notify(self) -> None:
        """End the wait. From anywhere; never waits."""
        self._happened = True
        self._doorbell.ring()

    def reset(self) -> None:
        """Make it ready for another wait; only after `wait` has returned."""
        self._happened = False

    async def wait(self) -> None:
        """Suspend the calling task until `notify`."""
        while not self._happened:
            await self._sleeper.sleep()
