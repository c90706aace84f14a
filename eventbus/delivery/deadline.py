"""When the close of a bus has to end."""

from __future__ import annotations

from eventbus.delivery.clock import elapsed_seconds

__all__ = ["CLOSE_TIMEOUT_SECONDS", "Deadline"]

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long a close lets subscribers drain by default."""

_NEVER = float("inf")


class Deadline:
    """The end of a bus's close, on the clock of `elapsed_seconds`; infinitely far until the close begins.

    Attributes:
        began: When the close began; 0.0 before.
    """

    __slots__ = ("_at", "began")

    def __init__(self) -> None:
        self._at = _NEVER
        self.began: float = 0.0

    def begin(self, timeout: float | None) -> None:
        """Begin the close, which may last this many seconds, None for no limit, unless it has begun."""
        if not self.began:
            now = elapsed_seconds()
            self._at = _NEVER if timeout is None else now + max(0.0, timeout)
            self.began = now

    def seconds_left(self) -> float:
        """Return the seconds until the deadline, 0.0 after it."""
        return max(0.0, self._at - elapsed_seconds())

    def has_passed(self) -> bool:
        """Whether the deadline has passed."""
        return self._at != _NEVER and elapsed_seconds() >= self._at
