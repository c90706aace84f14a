"""Wait, in any number of threads, for something that happens once."""

from __future__ import annotations

import threading
from itertools import count

from eventbus.delivery.clock import elapsed_seconds

__all__ = ["Latch"]

_LOOK_SECONDS = 0.5


class Latch:
    """Is opened once, and stays open.

    `threading.Event` was rejected: a signal handler that waits for it, or sets it, while it has
    interrupted another wait in the same thread, waits for a lock of that thread's own.
    """

    __slots__ = ("_is_open", "_lock", "_openings")

    def __init__(self) -> None:
        self._is_open = False
        self._openings = count()
        self._lock = threading.Lock()
        self._lock.acquire()  # until it is opened; each waiter then passes the lock on

    def is_open(self) -> bool:
        """Whether it has been opened."""
        return self._is_open

    def open(self) -> None:
        """End all waits."""
        self._is_open = True
        if next(self._openings) == 0:
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is opened; return False if that takes longer than `timeout` seconds."""
        end = float("inf") if timeout is None else elapsed_seconds() + timeout
        while not self._is_open and (left := end - elapsed_seconds()) > 0:
            # Looked at again now and then: an exception may keep a waiter from passing the lock on.
            if self._lock.acquire(timeout=min(left, _LOOK_SECONDS)):
                self._lock.release()
        return self._is_open
