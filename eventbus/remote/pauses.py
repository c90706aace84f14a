"""How long to wait before the next connection is tried."""

from __future__ import annotations

import random

import anyio

__all__ = ["Pauses"]

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0


class Pauses:
    """Pauses between attempts, each twice as long as the one before, up to five seconds.

    Each is shortened at random: thousands of hosts that lost one server do not come back at once.
    """

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS

    async def wait(self, *, has_progressed: bool) -> None:
        """Wait until the next attempt.

        Args:
            has_progressed: The attempt before did something; so the pauses begin again with the shortest.
        """
        if has_progressed:
            self._seconds = _FIRST_SECONDS
        await anyio.sleep(random.uniform(self._seconds / 2, self._seconds))  # noqa: S311
        self._seconds = min(2 * self._seconds, _LONGEST_SECONDS)
