"""Wait, in any number of threads, for something that happens once."""

from __future__ import annotations

import threading

__all__ = ["Latch"]


class Latch:
    """Is opened once, and stays open.

    `threading.Event` was rejected: a signal handler that waits for it, or sets it, while it has
    interrupted another wait in the same thread, waits for a lock of that thread's own.
    """

    __slots__ = ("_is_open", "_lock")

    def __init__(self) -> None:
        self._is_open = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def is_open(self) -> bool:
        """Whether it has been opened."""
        return self._is_open

    def open(self) -> None:
        """End all waits."""
        self._is_open = True
        self._pass_on()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is opened; return False if that takes longer than `timeout` seconds."""
        if self._is_open or self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self._pass_on()
        return self._is_open

    def _pass_on(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # nobody holds it: it has been passed on
            return
