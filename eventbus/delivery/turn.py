"""How long a task that takes events keeps the loop to itself while it never waits."""

from __future__ import annotations

import anyio.lowlevel

from eventbus.delivery.clock import elapsed_seconds

__all__ = ["EVENTS_PER_LOOK", "TURN_SECONDS", "Turn"]

EVENTS_PER_LOOK = 256
"""After this many events a task looks at the clock: a look costs as much as delivering one event."""

TURN_SECONDS = 0.001
"""After this time a task yields to the loop's other tasks.

Rejected: turns by the number of events. 256 calls that do nothing take 15 us, and a publisher that
yields after a burst came back before the burst was handled: most of it was lost.
"""


class Turn:
    """The time since a task last waited, or yielded to the others."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a turn: the task has just waited."""
        self._end = elapsed_seconds() + TURN_SECONDS

    def is_over(self) -> bool:
        """Whether the others are due."""
        return elapsed_seconds() >= self._end

    async def give_way(self) -> None:
        """Yield to the loop's other tasks, and begin the next turn."""
        await anyio.lowlevel.checkpoint()
        self.begin()
