"""Check that enough files may be opened before event loops are made."""

from __future__ import annotations

import os

__all__ = ["check_free_descriptors"]

_ENOUGH = 16
"""More than three event loops, a log and what reads it have open at once: 13."""


def check_free_descriptors() -> None:
    """Check that event loops, a log and what reads it can be opened.

    An event loop that is made halfway prints a traceback when it is deleted, and it cannot be kept from
    that.

    Raises:
        OSError: Too few descriptors are left.
    """
    opened: list[int] = []
    try:
        for _ in range(_ENOUGH):
            opened.append(os.dup(2))  # noqa: PERF401 - those before the error are closed, too
    finally:
        for each in opened:
            os.close(each)
