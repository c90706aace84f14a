"""Log a warning about something that stays as it is, such as a wrong setting, once."""

from __future__ import annotations

import logging
from functools import lru_cache

__all__ = ["warn_once"]


@lru_cache(maxsize=256)
def warn_once(logger: str, problem: str) -> None:
    """Log a warning, unless the same one was logged before.

    Args:
        logger: The name of the logger.
        problem: The warning, as one line.
    """
    logging.getLogger(logger).warning("%s", problem)
