"""Log each cause of failure at most every 20 seconds."""

from __future__ import annotations

import logging
import time

from eventbus.delivery.isolation import exit_in

__all__ = ["SECONDS_BETWEEN_WARNINGS", "RateLimitedLog"]

SECONDS_BETWEEN_WARNINGS = 20.0
"""The same cause is logged at most this often."""

_MAX_CAUSES = 256


class RateLimitedLog:
    """Rate-limits warnings, and counts those it suppressed.

    Args:
        logger: Where warnings go.
        prefix: The beginning of each warning, which says what failed.
    """

    __slots__ = ("_logger", "_next", "_prefix", "_suppressed")

    def __init__(self, logger: logging.Logger, prefix: str) -> None:
        self._logger = logger
        self._prefix = prefix
        self._next: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def warn(self, cause: str, what: str, error: BaseException | None = None) -> None:
        """Log `what` with the error's traceback, unless `cause` was logged within 20 seconds.

        Never raises: the application has to mend a logging handler that does, not the bus.
        """
        now = time.monotonic()
        if now < self._next.get(cause, 0.0):
            self._suppressed[cause] = self._suppressed.get(cause, 0) + 1
            return
        if len(self._next) >= _MAX_CAUSES:
            self._next.clear()
            self._suppressed.clear()
        self._next[cause] = now + SECONDS_BETWEEN_WARNINGS
        suppressed = self._suppressed.pop(cause, 0)
        more = f" ({suppressed} more like it suppressed)" if suppressed else ""
        try:
            self._logger.warning("%s %s%s", self._prefix, what, more, exc_info=error)
        except BaseException as raised:
            if exit_in(raised) is not None:
                raise
