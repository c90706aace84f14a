"""Tell of failures once per cause and 20 seconds, however often they happen."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

__all__ = ["SECONDS_BETWEEN_WARNINGS", "RateLimitedLog"]

SECONDS_BETWEEN_WARNINGS = 20.0
"""The same cause is logged at most this often."""

_MAX_CAUSES = 256


class RateLimitedLog:
    """A logger's conscience: counts what it does not say, and says it the next time.

    Args:
        logger: Where warnings go.
        who: What failed, as it should read in the log.
    """

    __slots__ = ("_logger", "_next", "_unsaid", "_who")

    def __init__(self, logger: logging.Logger, who: str) -> None:
        self._logger = logger
        self._who = who
        self._next: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def warn(self, cause: str, what: str, error: BaseException | None = None) -> None:
        """Log `what` with the error's traceback, unless `cause` was logged within 20 seconds.

        Never raises: a logging handler that does is the application's to mend, not the bus's.
        """
        now = time.monotonic()
        if now < self._next.get(cause, 0.0):
            self._unsaid[cause] = self._unsaid.get(cause, 0) + 1
            return
        if len(self._next) >= _MAX_CAUSES:
            self._next.clear()
            self._unsaid.clear()
        self._next[cause] = now + SECONDS_BETWEEN_WARNINGS
        unsaid = self._unsaid.pop(cause, 0)
        more = f" ({unsaid} more like it went unsaid)" if unsaid else ""
        with suppress(Exception):
            self._logger.warning("%s %s%s", self._who, what, more, exc_info=error)
