"""What a subscriber may leave behind: tasks, threads, descriptors, and changes of the whole process."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio

__all__ = ["Surroundings", "running_tasks"]

_THREADS_GRACE_SECONDS = 3.0
_FILES_GRACE_SECONDS = 0.2
_POLL_SECONDS = 0.005
_POOLS = ("AnyIO worker thread", "Trio thread", "asyncio_")
"""The threads of `to_thread`, which belong to the backend and end when they have been idle."""


class Surroundings:
    """The threads, the descriptors and the state of this process, at the moment when it is made."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()
        self._state = _process_state()

    def left_behind(self) -> list[str]:
        """Return what has been left behind since, a line each; threads may need a moment to end."""
        _wait_until(lambda: not self._new_threads(), _THREADS_GRACE_SECONDS)
        threads = [f"leaves the thread {name!r} behind" for name in self._new_threads()]
        now = _process_state()
        changes = [f"changes {name} of the process" for name, was in self._state.items() if now[name] != was]
        return threads + changes

    def left_open(self) -> list[str]:
        """Return a line if more is open than before; once that may have been opened by something else."""
        _wait_until(lambda: _descriptors() <= self._descriptors, _FILES_GRACE_SECONDS)
        more = _descriptors() - self._descriptors
        return [f"leaves {more} files or sockets open"] if more > 0 else []

    def _new_threads(self) -> list[str]:
        new = [thread for thread in threading.enumerate() if thread not in self._threads]
        return [each.name for each in new if each.is_alive() and not each.name.startswith(_POOLS)]


def running_tasks() -> set[int]:
    """Return the ids of the tasks of this loop."""
    return {task.id for task in anyio.get_running_tasks()}


def _wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        gc.collect()  # a file that is in a cycle is closed by it
        time.sleep(_POLL_SECONDS)


def _descriptors() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(directory))  # noqa: PTH208 - one call
        except OSError:
            continue
    return 0


def _process_state() -> dict[str, object]:
    return {
        "the working directory": Path.cwd(),
        "the environment": dict(os.environ),
        "sys.path": list(sys.path),
        "sys.stdout": sys.stdout,
        "sys.stderr": sys.stderr,
        "sys.excepthook": sys.excepthook,
        "threading.excepthook": threading.excepthook,
        "the root logger": (logging.root.level, list(logging.root.handlers)),
    }
